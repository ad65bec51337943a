"""A model that is none, for what asks one: its words and its likelihoods follow from a seed, and need no library."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

from tunewright.data.mask import prompt_ids
from tunewright.digest import digest_json
from tunewright.parts.engine import Completion, Continuation, Limit
from tunewright.parts.loader import Message
from tunewright.parts.prompt_format import Text

A = TypeVar("A")
B = TypeVar("B")
Heard = Callable[[int], None] | None
ODD = ("", "   ", "delivery\n\nbilling", "ä" * 2000, "\x00", "{label}", "again " * 400)
"""Answers that models do give."""


class Letters:
    """A tokenizer of one token a letter, with a mark before each message and one at its end."""

    template = "a control character a role, \\x03 after each message"
    begin: ClassVar[list[int]] = [2]
    end = 3
    stops = frozenset({3})
    native = None
    roles: Mapping[str, str] = {"system": "\x04", "user": "\x05", "assistant": "\x06"}

    def render(self, messages: Sequence[Message], *, generation_prompt: bool) -> str:
        text = "".join(f"{self.roles[one['role']]}{one['content']}{chr(self.end)}" for one in messages)
        return text + self.roles["assistant"] if generation_prompt else text

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))

    def decode(self, ids: Sequence[int], *, special: bool) -> str:
        return "".join(chr(token) for token in ids if special or token >= ord(" ") or token == ord("\n"))


class Invented:
    """A model that is none: what it says and finds likely follows from its seed and the tokens before."""

    identity = "base"

    def __init__(self, seed: int, answers: Sequence[str] | None) -> None:
        self.seed, self.answers, self.tokenizer = seed, answers or ODD, Letters()

    def complete(
        self, prompts: Sequence[Text], limit: Limit, progress: Heard = None, *, together: bool = True
    ) -> list[Completion]:
        return _each([prompt_ids(prompt, self.tokenizer) for prompt in prompts], self._answer, progress)

    def score(
        self, rows: Sequence[Continuation], progress: Heard = None, *, together: bool = True
    ) -> list[list[float]]:
        return _each(rows, self._score, progress)

    def _answer(self, prompt: list[int]) -> Completion:
        text = self.answers[self._drawn(prompt) % len(self.answers)]
        return Completion([*self.tokenizer.encode(text), self.tokenizer.end], text, "terminator", prompt)

    def _score(self, row: Continuation) -> list[float]:
        ids = [*row.prompt, *row.answer]
        places = range(len(row.prompt), len(ids))
        # of the last tokens alone: what stands far off has little to say in real models too
        return [-0.01 - self._drawn(ids[max(0, place - 3) : place + 1]) % 997 / 200 for place in places]

    def _drawn(self, ids: Sequence[int]) -> int:
        return int(digest_json([self.seed, list(ids)])[:12], 16)


def _each(asked: Sequence[A], ask: Callable[[A], B], progress: Heard) -> list[B]:
    found = []
    for one in asked:
        found.append(ask(one))
        if progress is not None:
            progress(len(found))
    return found
