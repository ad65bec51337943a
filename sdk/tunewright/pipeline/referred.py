"""What a reference said of the prepared rows, as it lies in the store: a line a row, beside the row's id."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tunewright.digest import canonical_json
from tunewright.errors import BadInput, Refused, WorkFailed
from tunewright.parts.trainer import AnyRow, Reference
from tunewright.store import disk
from tunewright.store.publish import Artifact

SAID, HELD = "reference.jsonl", "validation.jsonl"


def write(found: Reference, train: Sequence[AnyRow], held: Sequence[AnyRow], out: Path) -> None:
    """Write it for these rows into the folder `out`.

    Raises `WorkFailed` with the row where a number is none, `BadInput` where the trainer gave some for other rows.
    """
    for name, rows, said in ((SAID, train, found.train), (HELD, held, found.validation)):
        if len(rows) != len(said):
            message = f"the trainer's reference has numbers for {len(said)} rows, and was asked about {len(rows)}"
            raise BadInput(message, fix="tell the trainer's maker")
        disk.write(out / name, b"".join(canonical_json(line) + b"\n" for line in _lines(rows, said)))


def _lines(rows: Sequence[AnyRow], said: Sequence[Mapping[str, float]]) -> Iterator[dict[str, object]]:
    for row, numbers in zip(rows, said, strict=True):
        for name, number in numbers.items():
            if not math.isfinite(number):
                raise WorkFailed(
                    f"{row.origin}: the reference's `{name}` is {number}",
                    fix="look at this row, or take `model.dtype: fp32`",
                )
        yield {"row_id": row.row_id, "said": dict(numbers)}


def read(found: Artifact, train: Sequence[AnyRow], held: Sequence[AnyRow]) -> Reference:
    """What `write` wrote for these rows. Raises `Refused` where it is of others."""
    return Reference(_said(found, SAID, train), _said(found, HELD, held))


def _said(found: Artifact, name: str, rows: Sequence[AnyRow]) -> list[Mapping[str, float]]:
    lines = list(found.lines(name))
    if [line["row_id"] for line in lines] != [row.row_id for row in rows]:
        raise Refused(f"{found.path.name}/{name} is of other rows than these", fix="remove that folder, and run again")
    return [line["said"] for line in lines]
