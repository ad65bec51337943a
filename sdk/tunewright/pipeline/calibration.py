"""The rows by which weights are packed: some of those that are trained on, and no other.

A row that judges the model would, through the weights that are made for it, be one that it was shown.
"""

from __future__ import annotations

import random

from tunewright.errors import TunewrightWarning
from tunewright.parts.quantizer import Calibration
from tunewright.parts.trainer import AnyRow, FeedbackRow, PairRow
from tunewright.pipeline.step import Context
from tunewright.pipeline.tasks.prepare import read_rows
from tunewright.store.publish import Artifact


def calibration(prepared: Artifact, seed: int, context: Context) -> Calibration:
    """Rows of a prepare step's training rows, each text once. Where fewer are there than are asked for, it is said."""
    texts = list(dict.fromkeys(tuple(_ids(row)) for row in read_rows(prepared)))

    def drawn(count: int) -> list[list[int]]:
        if count > len(texts):
            why = f"{count} rows to calibrate by were asked for, {len(texts)} are trained on: these are taken"
            context.warn(TunewrightWarning(why))
        places = random.Random(f"calibration-{seed}").sample(range(len(texts)), min(count, len(texts)))
        return [list(texts[place]) for place in sorted(places)]

    return drawn


def _ids(row: AnyRow) -> list[int]:
    """A row as the model reads it; of a preference, with the answer that it is to give."""
    if isinstance(row, PairRow):
        return [*row.prompt, *row.chosen]
    return [*row.prompt, *row.completion] if isinstance(row, FeedbackRow) else row.ids
