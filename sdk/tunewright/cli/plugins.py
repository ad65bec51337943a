"""`plugins list` and `plugins show`: what is installed, read from the plugins themselves."""

from __future__ import annotations

import json
from typing import Any

from rich.table import Table
from rich.text import Text

from tunewright.cli.tables import console
from tunewright.errors import BadInput
from tunewright.host import Host
from tunewright.parts.base import To, library_version
from tunewright.spec.suggest import did_you_mean


def list_plugins(host: Host, as_json: bool) -> None:
    """Print the table of backends and the faults."""
    entries = {key: entry._asdict() for key, entry in sorted(host.table.items())}
    faults = [fault._asdict() for fault in host.faults]
    if as_json:
        print(json.dumps({"backends": entries, "faults": faults}))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("backend", "plugin", "distribution"):
        table.add_column(name)
    for key, entry in entries.items():
        table.add_row(key, entry["plugin"], f"{entry['distribution']} {entry['version']}".strip())
    out = console()
    out.print(table)
    for fault in host.faults:
        out.print(Text(f"broken: {fault.plugin} ({fault.distribution}): {fault.why}"))


def show_backend(key: str, host: Host, as_json: bool) -> None:
    """Print one backend's options and where each goes. Raises `BadInput` where there is none."""
    if key not in host.table:
        raise BadInput(f"no installed plugin brings `{key}`", fix=did_you_mean(key, host.table))
    part, _, kind = key.partition("/")
    backend = host.backend(part, kind)
    found = {
        "backend": key,
        **host.table[key]._asdict(),
        "about": (backend.__doc__ or "").strip(),
        "libraries": {name: library_version(name) for name in backend.libraries},
        "accepts": backend.accepts,
        "options": [
            _option(name, info, backend) for name, info in backend.Options.model_fields.items() if name != "kind"
        ],
    }
    print(json.dumps(found, default=str)) if as_json else _print_backend(found)


def _option(name: str, info: Any, backend: Any) -> dict[str, Any]:
    goes = next((f"argument {mark.argument}" for mark in info.metadata if isinstance(mark, To)), "own code")
    default = "required" if info.is_required() else info.get_default(call_default_factory=True)
    return {"name": name, "default": default, "goes_to": goes, "about": info.description or ""}


def _print_backend(found: dict[str, Any]) -> None:
    out = console()
    out.print(Text(f"{found['backend']} of {found['distribution']} {found['version']}"))
    out.print(Text(found["about"].splitlines()[0] if found["about"] else ""))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("option", "default", "goes to", "about"):
        table.add_column(name, overflow="fold")
    for option in found["options"]:
        table.add_row(option["name"], str(option["default"]), option["goes_to"], option["about"])
    out.print(table)
