"""Markdown that reads well as it stands: prose of at most 96 columns, code in fences."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable

WIDTH = 96
NOTE = "<!-- Written by `make reference` from the code: change the code, not this page. -->"


def page(title: str, about: str, sections: Iterable[str]) -> str:
    """A whole page: title, note, what it is about, sections."""
    return "\n\n".join([f"# {title}", NOTE, prose(about), *sections]) + "\n"


def prose(doc: str) -> str:
    """A docstring as Markdown: paragraphs wrapped, what is indented as Python."""
    return "\n\n".join(_block(block) for block in _blocks(inspect.cleandoc(doc)))


def item(text: str) -> str:
    """One item of a list."""
    return "\n".join(wrap(f"- {' '.join(text.split())}", "  "))


def wrap(text: str, indent: str = "") -> list[str]:
    """Lines of at most 96 columns; a longer word stands alone. What Markdown would take for a tag is not one."""
    text = re.sub(r"(`[^`]*`)|<", lambda found: found[1] or r"\<", text)
    return textwrap.wrap(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def code(text: str) -> str:
    """A fence of Python."""
    return f"```python\n{text}\n```"


def _blocks(text: str) -> list[str]:
    """Paragraphs, and each indented example in one piece with the empty lines that it holds."""
    found: list[str] = []
    for block in text.split("\n\n"):
        if found and block.startswith("    ") and found[-1].startswith("    "):
            found[-1] += f"\n\n{block}"
        else:
            found.append(block)
    return found


def _block(block: str) -> str:
    return (
        code(textwrap.dedent(block).strip()) if block.startswith("    ") else "\n".join(wrap(" ".join(block.split())))
    )
