"""`engines list` and `engines install`: what asks models here, and the environments that some of it needs."""

from __future__ import annotations

import json
import sys
from typing import Any, cast

from rich.table import Table

from tunewright.cli.tables import console
from tunewright.engines import environment_of
from tunewright.errors import BadInput
from tunewright.host import Host
from tunewright.parts import Engine
from tunewright.spec.suggest import did_you_mean


def list_engines(host: Host, as_json: bool) -> None:
    """Print every engine: whether it can be used, and where its environment lies."""
    found = {kind: _state(_engine(kind, host)) for kind in sorted(host.kinds("engine"))}
    if as_json:
        print(json.dumps({"engines": found}))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("engine", "state", "requirements", "where"):
        table.add_column(name, overflow="fold")
    for kind, state in found.items():
        size = f", {state['bytes'] / 1e6:,.0f} MB" if state["bytes"] else ""
        table.add_row(kind, state["state"] + size, ", ".join(state["requirements"]), state["folder"])
    console().print(table)


def install_engine(kind: str, host: Host) -> None:
    """Make an engine's environment. Raises `BadInput` for an unknown one, `EnvironmentFault` where it fails."""
    from tunewright.engines.install import install

    if kind not in host.kinds("engine"):
        raise BadInput(f"no installed plugin brings an engine `{kind}`", fix=did_you_mean(kind, host.kinds("engine")))
    environment = install(_engine(kind, host), lambda what: print(what, file=sys.stderr, flush=True))
    size = (environment.record() or {}).get("bytes", 0)
    print(f"{kind} is ready: {size / 1e6:,.0f} MB in {environment.folder}")


def _engine(kind: str, host: Host) -> type[Engine]:
    return cast("type[Engine]", host.backend("engine", kind))


def _state(engine: type[Engine]) -> dict[str, Any]:
    """`embedded` runs in this process, `installed` and `not installed` say of its environment what they say."""
    if not engine.environment:
        return {"state": "embedded", "requirements": [], "folder": "", "bytes": 0}
    environment = environment_of(engine)
    return {
        "state": "installed" if environment.installed else "not installed",
        "requirements": list(environment.requirements),
        "folder": str(environment.folder),
        "bytes": (environment.record() or {}).get("bytes", 0),
    }
