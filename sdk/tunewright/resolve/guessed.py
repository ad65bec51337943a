"""What a file looks like: a line to paste of each installed format that knows such columns and rows. Never taken."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from tunewright.errors import EnvironmentFault, TunewrightError
from tunewright.host import Host
from tunewright.parts import Backend, DataSource, SpecPath
from tunewright.parts.base import Head
from tunewright.spec.document import Document, Key
from tunewright.spec.model import Place, places

FORMAT: Key = ("data", "format")


def guesses(host: Host, head: Head, besides: str = "", makes: Collection[str] = ()) -> list[str]:
    """The lines to paste for a file of these columns, of every installed format that knows such a shape; but for the
    kind `besides`, whose columns were said, and of those alone that make rows of the kinds `makes`, if it names any."""
    found = []
    for kind in host.kinds("prompt_format"):
        if kind == besides:
            continue
        try:
            form = host.backend("prompt_format", kind)
        except EnvironmentFault:  # a format that cannot be imported cannot be suggested
            continue
        line = getattr(form, "guess", lambda head: None)(head)
        if line and (not makes or getattr(form, "makes", "") in makes):
            found.append(line)
    return found


def written(lines: Collection[str]) -> str:
    """Such lines as the fix of a problem."""
    return "; or ".join(f"write `{line}`" for line in lines)


def likely_at(key: Key, document: Document, host: Host, made: Callable[[Place], Backend]) -> str:
    """For a spec without `data.format`: what the first file of training rows looks like, by the lines to paste.

    `made` makes a part's backend. Nothing where no file is named, it cannot be read, or it looks like nothing known.
    """
    if key != FORMAT:
        return ""
    for place in _learnt(document):
        try:
            source = made(place)
            if isinstance(source, DataSource) and isinstance(getattr(source.options, "path", None), SpecPath):
                lines = guesses(host, source.head())
                return f"`{source.name}` looks like this: {written(lines)}" if lines else ""
        except TunewrightError:  # said by itself, or to be said once the spec is whole
            continue
    return ""


def _learnt(document: Document) -> Iterator[Place]:
    """The sources that are trained on: those of `data` before those of stages."""
    return (one for one in places(document) if one.contract == DataSource.part and "train" in one.key)
