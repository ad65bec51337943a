"""`python -m tunewright.reference [FOLDER]`: write the pages and the published schema of a checkout.

Ends with exit code 1 where a first-party backend cannot be described: its page would be silently short.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tunewright.reference import pages
from tunewright.schema import published_schema, to_text
from tunewright.store import disk


def write(root: Path) -> None:
    """Write docs/reference/*.md and specs/tunewright.schema.json under `root`."""
    described = published_schema()
    if described.left_out:
        sys.exit("\n".join(f"{key} cannot be described: {why}" for key, why in described.left_out.items()))
    found = {f"docs/reference/{name}": text for name, text in pages().items()}
    found["specs/tunewright.schema.json"] = to_text(described.schema)
    for name, text in found.items():
        disk.make_folder((root / name).parent)
        disk.replace(root / name, text.encode())
        print(name)


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
