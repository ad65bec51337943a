"""TRL's trainers: `trainer/sft`."""

from __future__ import annotations

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    """The trainers of this plugin."""
    return {"trainer/sft": "tunewright_trl.sft:Sft"}
