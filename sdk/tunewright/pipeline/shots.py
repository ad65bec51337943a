"""Questions that come with examples: training rows stand before each, with their answers.

What a base does with a few examples tells whether it cannot do the task, or merely does not know which answers are
meant: Brown et al., Language models are few-shot learners, 2020.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from tunewright.data.near import look_up
from tunewright.data.own import Common, words, words_of
from tunewright.errors import BadInput, MissingExtra
from tunewright.parts import Backend
from tunewright.parts.base import library_version
from tunewright.parts.evaluator import TestRow
from tunewright.parts.loader import Message
from tunewright.parts.prompt_format import Example, Text
from tunewright.pipeline.rows import ClaimRows, TrainingRows, once_each, test_rows
from tunewright.pipeline.seen import METHOD
from tunewright.resolve.resolved import Claims, Shots

SYSTEM = "system"
BETWEEN = "\n\n"  # what parts an example of plain text from what comes next


class ShownRows(ClaimRows):
    """Rows that claims are made on, each after the same examples. They are drawn by the seed from the training rows,
    of every answer one before any answer a second, and none of them holds a question, in any way that the ledger knows.
    """

    def __init__(self, claims: Claims, shots: Shots, count: int, seed: int) -> None:
        super().__init__(claims, seed)
        self.shown, self.shown_by, self.count = TrainingRows(shots.training, seed), shots.format, count

    def parts(self) -> tuple[Backend, ...]:
        return (*super().parts(), *self.shown.parts())

    def settings(self) -> dict[str, Any]:
        told_apart = {**METHOD, "datasketch": library_version("datasketch")}
        shown = {"examples": self.count, "seed": self.seed, "shown": self.shown.settings(), "told_apart": told_apart}
        return {**super().settings(), **shown}

    def digests(self) -> dict[str, str]:
        return {**super().digests(), **self.shown.digests()}

    def examples(self) -> list[TestRow]:
        """The rows as examples. Raises `BadInput` where fewer examples are there than are asked for."""
        asked = super().examples()
        rows = test_rows(self.shown_by, once_each(self.shown.realise().train))
        shots = self._drawn(_no_questions(rows, asked))
        if len(shots) < self.count:
            message = f"{too_few(self.count, len(shots))} that are no question"
            raise BadInput(message, fix=fewer(len(shots)))
        return [row._replace(example=preceded(shots, _plain(row.example, row.origin))) for row in asked]

    def _drawn(self, rows: Sequence[TestRow]) -> list[Example]:
        drawn = list(rows)
        random.Random(f"few-shot-{self.seed}").shuffle(drawn)
        by_answer: dict[str, list[Example]] = {}
        for row in drawn:
            example = _plain(row.example, row.origin)
            by_answer.setdefault(example.answer, []).append(example)
        rounds = max((len(same) for same in by_answer.values()), default=0)
        turns = [same[turn] for turn in range(rounds) for same in by_answer.values() if turn < len(same)]
        return turns[: self.count]


def _no_questions(rows: Sequence[TestRow], asked: Sequence[TestRow]) -> list[TestRow]:
    """The rows that hold none of what is asked, by what a prompt says of its own: as the ledger compares them, and not
    by columns, of which an evaluation may read others."""
    shown, questions = ([words_of(row.example.asked) for row in some] for some in (rows, asked))
    common = Common([shown, questions])
    whole = ([*prompt, *words(row.example.answer)] for prompt, row in zip(shown, rows, strict=True))
    try:
        _, hits = look_up([common.own(prompt) for prompt in shown], whole, [common.own(one) for one in questions])
    except ModuleNotFoundError as error:
        raise MissingExtra("the search for near duplicates", "train", error) from error
    found = {hit.row for hit in hits}
    return [row for place, row in enumerate(rows) if place not in found]


def too_few(wanted: int, found: int) -> str:
    """That there are fewer rows than examples."""
    return f"{wanted:,} examples are asked for, and there are {found:,} training rows"


def fewer(found: int) -> str:
    """What can be done then."""
    return f"set `few_shot: {found}` or less" if found else "leave the baseline out"


def preceded(shots: Sequence[Example], example: Example) -> Example:
    """An example whose prompt begins with others: in a conversation as turns after the system message, which is said
    once; in plain text one after the other."""
    if isinstance(example.prompt, str):
        before = "".join(f"{shot.prompt}{shot.completion}{BETWEEN}" for shot in shots)
        return Example(before + example.prompt, example.completion)
    leading = [message for message in example.prompt if message["role"] == SYSTEM]
    turns = [message for shot in shots for message in (*_turns(shot.prompt), *_turns(shot.completion))]
    return Example([*leading, *turns, *_turns(example.prompt)], example.completion)


def _turns(text: Text) -> list[Message]:
    assert not isinstance(text, str)  # one format makes all of them
    return [message for message in text if message["role"] != SYSTEM]


def _plain(example: object, origin: str) -> Example:
    if isinstance(example, Example):
        return example
    raise BadInput(f"{origin}: it has no one answer, so that it cannot be an example", fix="leave the baseline out")
