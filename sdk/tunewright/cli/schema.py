"""`schema`: what an editor or any other checker needs to know of the installed plugins."""

from __future__ import annotations

import sys
from pathlib import Path

from tunewright.errors import BadInput
from tunewright.host import Host
from tunewright.schema import installed_schema, to_text


def print_schema(out: Path | None, host: Host) -> None:
    """Print the schema, or write it to `out`; what is broken or left out is said on stderr.

    Raises `BadInput` where there is no folder to write in.
    """
    from tunewright.store import disk

    if out is not None and not out.absolute().parent.is_dir():
        raise BadInput(f"there is no folder {out.parent} to write in", fix="make it, or name another")
    described = installed_schema(host)
    for fault in host.faults:
        print(f"broken: {fault.plugin} ({fault.distribution}): {fault.why}", file=sys.stderr)
    for key, why in described.left_out.items():
        print(f"without the options of `{key}` ({host.table[key].distribution}): {why}", file=sys.stderr)
    if out is None:
        sys.stdout.write(to_text(described.schema))
    else:
        disk.replace(out.absolute(), to_text(described.schema).encode())
        print(out, file=sys.stderr)
