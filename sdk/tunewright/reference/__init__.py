"""docs/reference, written from the code itself: hooks, contracts, every field of a spec, every command.

`make reference` writes the pages and the published schema; a test compares them with what the code says now.
"""

from __future__ import annotations

from tunewright.reference.commands import cli_page
from tunewright.reference.contracts import parts_page
from tunewright.reference.fields import spec_page
from tunewright.reference.hooks import hooks_page


def pages() -> dict[str, str]:
    """Every page, by the name of its file."""
    return {"cli.md": cli_page(), "hooks.md": hooks_page(), "parts.md": parts_page(), "spec.md": spec_page()}
