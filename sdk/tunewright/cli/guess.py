"""`data guess`: from a file's columns to the line that a spec needs."""

from __future__ import annotations

from pathlib import Path

from tunewright.errors import BadInput
from tunewright.host import Host
from tunewright.pipeline.predict import source_of
from tunewright.resolve.guessed import guesses


def guess_format(file: Path, host: Host) -> None:
    """Print a line for each format that the file's first rows look like.

    Raises `BadInput` where no installed source reads such a file, or its columns look like nothing that is known.
    """
    head = source_of(file, host).head()
    lines = guesses(host, head)
    if not lines:
        columns = ", ".join(head.columns)
        raise BadInput(
            f"`{file.name}` looks like no known format (columns: {columns})",
            fix='of columns that hold texts, write `format: {kind: chat, prompt: "{COLUMN}", completion: "{COLUMN}"}`',
        )
    for line in lines:
        print(line)
