"""`plugins list` and `plugins show`: what is installed, read from the plugins themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from tunewright.cli.tables import console
from tunewright.errors import BadInput, TunewrightError
from tunewright.host import Host
from tunewright.parts import Backend
from tunewright.parts.base import To, library_version
from tunewright.spec.suggest import did_you_mean


def list_plugins(host: Host, as_json: bool) -> None:
    """Print every backend with what it can do, and everything that cannot be used, with the reason."""
    entries = {key: {**entry._asdict(), **_state(key, host)} for key, entry in sorted(host.table.items())}
    faults = [fault._asdict() for fault in host.faults]
    if as_json:
        print(json.dumps({"backends": entries, "faults": faults, "left_out": list(host.blocked)}))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("backend", "plugin", "distribution"):
        table.add_column(name, no_wrap=True)
    table.add_column("capabilities", overflow="fold", min_width=12)
    for key, entry in entries.items():
        distribution = f"{entry['distribution']} {entry['version']}".strip()
        table.add_row(key, entry["plugin"], distribution, ", ".join(entry["offers"]))
    out = console()
    out.print(table)
    for key, entry in entries.items():
        if entry["broken"]:
            out.print(Text(f"broken: {key} ({entry['distribution']}): {entry['broken']}"))
    for fault in host.faults:
        out.print(Text(f"broken: {fault.plugin} ({fault.distribution}): {fault.why}"))
    if host.blocked:
        out.print(Text(f"left out: {', '.join(host.blocked)}"))


def _state(key: str, host: Host) -> dict[str, Any]:
    """What a backend offers with every option at its default, or why it cannot be used."""
    part, _, kind = key.partition("/")
    try:
        return {"offers": _offers(host.backend(part, kind)), "broken": ""}
    except TunewrightError as error:
        return {"offers": [], "broken": " ".join(str(error).split())}


def _offers(backend: type[Backend]) -> list[str]:
    """Capabilities may depend on options: these are the defaults'. An option without one is left out."""
    return sorted(str(cap) for cap in backend(backend.Options.model_construct()).offers())


def show_backend(key: str, host: Host, as_json: bool) -> None:
    """Print one backend: its options and where each goes, what it offers and needs. Raises `BadInput` for none."""
    if key not in host.table:
        raise BadInput(f"no installed plugin brings `{key}`", fix=did_you_mean(key, host.table))
    part, _, kind = key.partition("/")
    backend = host.backend(part, kind)
    needs = backend(backend.Options.model_construct()).needs()
    found = {
        "backend": key,
        **host.table[key]._asdict(),
        "about": (backend.__doc__ or "").strip(),
        "offers": _offers(backend),
        "needs": [str(need) for need in needs],
        "libraries": {name: library_version(name) for name in backend.libraries},
        "accepts": backend.accepts,
        "fixed": dict(backend.fixed),
        "options": [
            _option(name, info, backend) for name, info in backend.Options.model_fields.items() if name != "kind"
        ],
    }
    print(json.dumps(found, default=str)) if as_json else _print_backend(found)


def _option(name: str, info: Any, backend: type[Backend]) -> dict[str, Any]:
    default = "required" if info.is_required() else info.get_default(call_default_factory=True)
    return {"name": name, "default": default, "goes_to": _goes(name, info, backend), "about": info.description or ""}


def _goes(name: str, info: Any, backend: type[Backend]) -> str:
    argument = next((mark.argument for mark in info.metadata if isinstance(mark, To)), "")
    if argument:
        return argument
    return backend.accepts if name == "args" else "own code" if name in backend.reads else "the core"


def _print_backend(found: Mapping[str, Any]) -> None:
    out = console()
    out.print(Text(f"{found['backend']} of {found['distribution']} {found['version']}"))
    out.print(Text(found["about"].splitlines()[0] if found["about"] else ""))
    facts = {
        "capabilities": ", ".join(found["offers"]),
        "needs": ", ".join(found["needs"]),
        "libraries": ", ".join(f"{name} {version}" for name, version in found["libraries"].items()),
        "calls": found["accepts"],
        "always sets": ", ".join(f"{name}={value}" for name, value in found["fixed"].items()),
    }
    for name, text in facts.items():
        if text:
            out.print(Text(f"{name}: {text}"))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("option", "default", "goes to", "about"):
        table.add_column(name, overflow="fold")
    for option in found["options"]:
        table.add_row(option["name"], str(option["default"]), option["goes_to"], option["about"])
    out.print()
    out.print(table)
