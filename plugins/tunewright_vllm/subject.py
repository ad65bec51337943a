"""A model in vLLM's server as a subject: asked over OpenAI's protocol, and by what vLLM adds to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tunewright.errors import BadInput, Refused, WorkFailed
from tunewright.parts.engine import Continuation
from tunewright.parts.loader import Tokenizer
from tunewright.parts.prompt_format import Text
from tunewright_endpoint.client import Client
from tunewright_endpoint.subject import EndpointSubject, Progress, refuse_unprompted

MOST_TOP = 64
"""Likeliest tokens of a place that the server is told to tell at the most."""


class Context(NamedTuple):
    """The most tokens that a server reads and writes at once, and what to do where that is too few."""

    tokens: int
    fix: str


class VllmSubject(EndpointSubject):
    """One model of a vLLM server, by its name there.

    Prompts are rendered and cut by vLLM itself, by the template and the tokenizer that it loaded: what a client of the
    server would see is what is measured.
    """

    def __init__(self, api: Client, root: Client, name: str, tokenizer: Tokenizer, concurrency: int) -> None:
        super().__init__(api, name, tokenizer, "ids", concurrency)
        self.root = root  # where vLLM's own paths begin, beside OpenAI's
        self.identity = f"vllm:{name}"
        self.unscored = ""
        """Why it cannot be scored; empty where it can."""
        self.context: Context | None = None
        """None where the server does not tell it: then it is the one to refuse."""

    def question(self, place: int, prompt: Text, limit: int) -> list[int]:
        """The ids that vLLM makes of a prompt.

        Raises `BadInput` where it is empty, the template refuses it, or it and its answer are longer than the context.
        """
        if isinstance(prompt, str):
            asked: dict[str, Any] = {"prompt": prompt, "add_special_tokens": True}
        else:
            asked = {"messages": prompt, "add_generation_prompt": True}
        found = self.root.post("/tokenize", {"model": self.name, **asked}).get("tokens")
        if not isinstance(found, list) or not all(isinstance(token, int) for token in found):
            raise WorkFailed(f"`{self.name}` tells no tokens of a prompt", fix="serve it by vLLM 0.32 or a later one")
        if not found:
            raise BadInput(f"prompt {place} is empty: the model has nothing to go on from", fix="leave it out")
        self._refuse_long(f"prompt {place}", len(found), limit)
        return found

    def score(
        self, rows: Sequence[Continuation], progress: Progress | None = None, *, together: bool = True
    ) -> list[list[float]]:
        """As `Subject.score`. Raises `Refused` where vLLM would tell wrong numbers."""
        self._refuse_unscored()
        self._refuse_long_rows(rows)
        return super().score(rows, progress, together=together)

    def likeliest(self, rows: Sequence[Continuation], top: int) -> list[list[dict[int, float]]]:
        """For each row and each token of its answer, the `top` likeliest tokens there with log-probabilities in nats.

        Raises as `score` does.
        """
        self._refuse_unscored()
        refuse_unprompted(rows)
        self._refuse_long_rows(rows)
        return [self._likeliest(row, min(top, MOST_TOP)) for row in rows]

    def _refuse_long_rows(self, rows: Sequence[Continuation]) -> None:
        for place, row in enumerate(rows, 1):  # vLLM scores what it is given while it answers one token
            self._refuse_long(row.origin or f"row {place}", len(row.prompt) + len(row.answer), 1)

    def _refuse_long(self, name: str, length: int, limit: int) -> None:
        if self.context is not None and length + limit > self.context.tokens:
            raise BadInput(
                f"{name}: {length:,} tokens with an answer of {limit:,} are longer than the context of "
                f"{self.context.tokens:,}",
                fix=f"shorten it; {self.context.fix}",
            )

    def _refuse_unscored(self) -> None:
        if self.unscored:
            raise Refused(
                self.unscored, fix="score it by the engine `transformers`, or leave `lm_head` out of `targets`"
            )

    def _likeliest(self, row: Continuation, top: int) -> list[dict[int, float]]:
        # a token that was given is listed as well, whatever its rank
        return [
            {int(token): float(told["logprob"]) for token, told in place.items() if told["rank"] <= top}
            for place in self.places(row, top)
        ]
