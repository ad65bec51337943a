"""Where the `tunewright` command begins: what must be set before any import, so that `validate` is quick.

Importing makes many objects and frees none, so the collector only costs; the command line turns it on again for every
command that works. Pydantic would look through all installed distributions for plugins of its own, which nothing here
uses.
"""

from __future__ import annotations

import gc
import os


def main() -> None:
    """Entry of the `tunewright` command."""
    gc.disable()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    from tunewright.cli.main import main as command_line

    command_line()
