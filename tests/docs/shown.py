"""What a page shows of a terminal, compared with what is said there."""

from __future__ import annotations

import re
from collections.abc import Iterator


def commands(text: str) -> Iterator[tuple[str, str]]:
    """(command, what the page shows of its output) of a console block."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        yield command, shown


def agrees(shown: str, said: str) -> bool:
    """Whether an output is what the page shows: `…` is anything, alone on a line any lines; spaces do not count."""
    lines = [
        r"(?:.*\n)*" if line == "…" else ".*".join(map(re.escape, line.split("…"))) + r"\n" for line in plain(shown)
    ]
    return re.fullmatch("".join(lines), "".join(f"{line}\n" for line in plain(said))) is not None


def plain(text: str) -> list[str]:
    return [re.sub(r"\s*…\s*", "…", " ".join(line.split())) for line in text.strip().splitlines()]
