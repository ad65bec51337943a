"""TRL's trainers."""

from __future__ import annotations

from tunewright.host import hookimpl


@hookimpl
def tunewright_backends() -> dict[str, str]:
    """The trainers of this plugin."""
    return {
        "trainer/sft": "tunewright_trl.sft:Sft",
        "trainer/cpt": "tunewright_trl.cpt:Cpt",
        "trainer/dpo": "tunewright_trl.dpo:Dpo",
        "trainer/kto": "tunewright_trl.kto:Kto",
    }
