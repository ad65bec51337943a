"""docs/reference/hooks.md, from `tunewright.host.Hooks`."""

from __future__ import annotations

from tunewright.host import Hooks
from tunewright.reference.source import methods
from tunewright.reference.text import code, page, prose

ABOUT = """
A plugin implements a hook as a function of that name, marked with `tunewright.hookimpl`. It may leave out arguments
that it does not need; a name that is no hook, or an argument that is not there, is a fault of the plugin, which
`tunewright plugins list` names. [How to write a plugin](../how-to/write-a-plugin.md) shows one whole.
"""


def hooks_page() -> str:
    """Each hook with its signature as a plugin writes it."""
    sections = []
    for hook in methods(Hooks):
        signature = hook.signature.replace("(self, ", "(").replace("(self)", "()")
        sections += [f"## `{hook.name}`", code(signature), prose(hook.doc)]
    return page("Hooks", f"{Hooks.__doc__} {ABOUT.strip()}", sections)
