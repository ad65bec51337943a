"""Where the `tunewright` command begins: what must be set before any import, so that `validate` is quick.

Importing makes many objects and frees none, so the collector only costs; the command line turns it on again for every
command that works. Pydantic would look through all installed distributions for plugins of its own, which nothing here
uses: it is told so, and spared the import of what would look.
"""

from __future__ import annotations

import gc
import os
import sys
from types import ModuleType
from typing import Any

LOADER = "pydantic.plugin._loader"


class _NoPlugins(ModuleType):
    """Stands for pydantic's finder of plugins, whose import costs a tenth of `validate`; all else is the real one's."""

    @staticmethod
    def get_plugins() -> tuple[()]:
        """None are installed as far as we are concerned."""
        return ()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        from importlib import import_module

        sys.modules.pop(LOADER, None)
        return getattr(import_module(LOADER), name)


def main() -> None:
    """Entry of the `tunewright` command."""
    gc.disable()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    sys.modules.setdefault(LOADER, _NoPlugins(LOADER))
    from tunewright.cli.main import main as command_line

    command_line()
