"""A served model as a subject: greedy answers, log-probabilities, and every sign that it answers something else."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, Literal, TypeVar

from tunewright.data.mask import prompt_ids
from tunewright.errors import BadInput, Refused, WorkFailed
from tunewright.parts.engine import Completion, Continuation, Limit, limits
from tunewright.parts.loader import Tokenizer
from tunewright.parts.prompt_format import Text
from tunewright.parts.several import Asked, refuse_unknown
from tunewright_endpoint.client import Client, line_of

A = TypeVar("A")
B = TypeVar("B")
Progress = Callable[[int], None]
Prompts = Literal["ids", "text", "messages"]
GREEDY: dict[str, Any] = {"temperature": 0, "n": 1, "stream": False}
MOST_IDS = 1 << 31  # no vocabulary has more
HALVES = re.compile("[\ud800-\udfff]")
"""Halves of a character that an answer's limit cut in two: no file can hold one. Tokenizers decode them to U+FFFD."""
COMPLETIONS, CHAT = "/completions", "/chat/completions"


class EndpointSubject:
    """One model of a server, under its name there. Its identity is that name, and proves nothing."""

    def __init__(self, client: Client, name: str, tokenizer: Tokenizer, prompts: Prompts, concurrency: int) -> None:
        self.client, self.name, self.tokenizer = client, name, tokenizer
        self.prompts, self.concurrency = prompts, concurrency
        self.identity = f"endpoint:{name}"
        self.counts_alike = True
        """Whether the model has our tokenizer, so that it must count the tokens of a prompt as we do."""

    def complete(
        self, prompts: Sequence[Text], limit: Limit, progress: Progress | None = None, *, together: bool = True
    ) -> list[Completion]:
        """As `Subject.complete`. Raises `WorkFailed` where the server counts other tokens in a prompt than we do."""
        asked = [
            (prompt, self.question(place, prompt, most), most)
            for place, (prompt, most) in enumerate(zip(prompts, limits(limit, len(prompts)), strict=True), 1)
        ]
        return self._each(asked, lambda one: self.answer(*one), progress, together)

    def score(
        self, rows: Sequence[Continuation], progress: Progress | None = None, *, together: bool = True
    ) -> list[list[float]]:
        """As `Subject.score`, by vLLM's `prompt_logprobs`. Raises `Refused` where token ids are not what is sent."""
        if self.prompts != "ids":
            raise Refused("a served model scores token ids alone", fix="set `prompts: ids` in the engine")
        refuse_unprompted(rows)
        return self._each(rows, self._score, progress, together)

    def question(self, place: int, prompt: Text, limit: int) -> list[int]:
        """The prompt's token ids; `place` is for messages. Raises `BadInput` for what cannot be asked.

        How long a prompt with an answer of `limit` tokens may be, the server alone knows here.
        """
        ids = prompt_ids(prompt, self.tokenizer)
        if not ids:
            raise BadInput(f"prompt {place} is empty: the model has nothing to go on from", fix="leave it out")
        if self.prompts == "messages" and isinstance(prompt, str):
            fix = "set `prompts: ids` or `prompts: text` in the engine"
            raise BadInput(f"prompt {place} is plain text, and `prompts: messages` sends conversations", fix=fix)
        return ids

    def _each(self, asked: Sequence[A], ask: Callable[[A], B], progress: Progress | None, together: bool) -> list[B]:
        return in_threads(asked, ask, progress, self.concurrency if together else 1)

    def answer(self, prompt: Text, ids: list[int], limit: int) -> Completion:
        """The answer to one prompt, whose `question` is `ids`."""
        body, stops = {"model": self.name, **GREEDY, "max_tokens": limit}, sorted(self.tokenizer.stops)
        if self.prompts == "ids":
            body |= {"prompt": ids, "stop_token_ids": stops, "return_token_ids": True}
        elif self.prompts == "text":
            # the text holds its special tokens: a server that adds its own begins twice
            text = self.tokenizer.decode(ids, special=True)
            body |= {"prompt": text, "stop_token_ids": stops, "add_special_tokens": False}
        else:  # nothing but what OpenAI's own protocol has
            body |= {"messages": prompt}
        path = CHAT if self.prompts == "messages" else COMPLETIONS
        said = self._asked(path, body, ids)
        answer = self._ids(said) if self.prompts == "ids" else self.tokenizer.encode(_text(said))[:limit]
        return self._completion(said, ids, answer, limit)

    def _completion(self, said: dict[str, Any], prompt: list[int], answer: list[int], limit: int) -> Completion:
        """Servers differ in whether the terminator is part of an answer: here it always is."""
        reason = said.get("finish_reason")
        if reason not in ("stop", "length"):
            says = f"`{self.name}` ended an answer with `{line_of(reason)}`"
            raise WorkFailed(f"{says}: that is neither its end nor the limit", fix="its own log says why")
        if len(answer) > limit:
            raise WorkFailed(f"`{self.name}` gave {len(answer)} tokens where at most {limit} were asked for")
        stops = self.tokenizer.stops
        if reason == "stop" and not stops.intersection(answer[-1:]) and len(answer) < limit:
            told = said.get("stop_reason")
            answer = [*answer, told if told in stops else self.tokenizer.end]
        text = self.tokenizer.decode(answer, special=False) if self.prompts == "ids" else _text(said)
        return Completion(answer, text, "terminator" if stops.intersection(answer[-1:]) else "limit", prompt)

    def _ids(self, said: dict[str, Any]) -> list[int]:
        ids = said.get("token_ids")
        if not isinstance(ids, list) or not all(isinstance(token, int) and 0 <= token < MOST_IDS for token in ids):
            raise WorkFailed(f"`{self.name}` was sent token ids and gave none back", fix=self.client.remedies.no_ids)
        return ids

    def _score(self, row: Continuation) -> list[float]:
        if not row.answer:
            return []
        places = self.places(row, 1)
        return [self._logprob(place, token, row) for place, token in zip(places, row.answer, strict=True)]

    def places(self, row: Continuation, top: int) -> list[Any]:
        """What the server tells of each token of the answer: itself and the `top` likeliest, as vLLM lists them."""
        ids = [*row.prompt, *row.answer]
        body = {"model": self.name, **GREEDY, "prompt": ids, "max_tokens": 1, "prompt_logprobs": top}
        places = self._asked(COMPLETIONS, body, ids).get("prompt_logprobs")
        if not isinstance(places, list) or len(places) != len(ids):
            fix = "serve it by an engine that gives `prompt_logprobs`, as vLLM does, or evaluate without `engine`"
            raise WorkFailed(f"`{self.name}` tells no log-probability of each token of a prompt", fix=fix)
        return places[len(row.prompt) :]

    def _logprob(self, place: Any, token: int, row: Continuation) -> float:
        told = place.get(str(token)) if isinstance(place, dict) else None
        value = told.get("logprob") if isinstance(told, dict) else told
        if not isinstance(value, (int, float)) or not math.isfinite(value):
            says = (
                f"`{self.name}` gives token {token} the log-probability `{line_of(value)}`, which is no finite number"
            )
            raise WorkFailed(f"{row.origin or 'a row'}: {says}", fix="its weights are damaged, or its type overflows")
        return float(value)

    def _asked(self, path: str, body: dict[str, Any], ids: list[int]) -> dict[str, Any]:
        """The one choice of an answer that is of the model, and of the prompt, that were asked."""
        found = self.client.post(path, body)
        answered, choices, usage = found.get("model"), found.get("choices"), found.get("usage")
        if answered not in (None, self.name):
            fix = "name the model as the server does: an alias may lead to the base"
            raise WorkFailed(f"`{self.name}` was asked, and `{line_of(answered)}` answers", fix=fix)
        if not isinstance(choices, list) or len(choices) != 1 or not isinstance(choices[0], dict):
            raise WorkFailed(
                f"{self.client.url}{path} gives no answer in `choices`", fix=self.client.remedies.misplaced
            )
        said: dict[str, Any] = choices[0]
        counted = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        told = said.get("prompt_token_ids") or found.get("prompt_token_ids")
        others_read = (told is not None and told != ids) or (isinstance(counted, int) and counted != len(ids))
        if self.counts_alike and others_read:
            fix = self.client.remedies.retokenized
            others = f"as {counted}" if counted not in (None, len(ids)) else "as others"
            raise WorkFailed(f"`{self.name}` reads a prompt of {len(ids)} tokens {others}: other questions", fix=fix)
        return said


class EndpointSeveral:
    """Models of one server, each under its own name, asked beside each other; the base is that of the name None."""

    def __init__(self, subjects: Mapping[str | None, EndpointSubject]) -> None:
        self.subjects = subjects

    def complete(
        self, asked: Sequence[Asked], limit: int, progress: Progress | None = None, *, together: bool = True
    ) -> list[Completion]:
        """As `Several.complete`: what is asked of different models is under way at once."""
        refuse_unknown(asked, [name for name in self.subjects if name is not None])

        def ask(one: tuple[EndpointSubject, Text, list[int]]) -> Completion:
            subject, prompt, ids = one
            return subject.answer(prompt, ids, limit)

        whom = [self.subjects[one.adapter] for one in asked]
        questions = [
            (subject, one.prompt, subject.question(place, one.prompt, limit))
            for place, (subject, one) in enumerate(zip(whom, asked, strict=True), 1)
        ]
        return in_threads(questions, ask, progress, self.subjects[None].concurrency if together else 1)


def refuse_unprompted(rows: Sequence[Continuation]) -> None:
    """Raise `BadInput` where a row is scored from its very first token on."""
    for place, row in enumerate(rows, 1):
        if not row.prompt:
            name = row.origin or f"row {place}"
            fix = "give the first token as the prompt"
            raise BadInput(f"{name}: nothing stands before its first token, which so has no probability", fix=fix)


def in_threads(asked: Sequence[A], ask: Callable[[A], B], progress: Progress | None, threads: int) -> list[B]:
    """In the order of what is asked, so many at once; after the first error no further request is made."""
    found: dict[int, B] = {}
    with ThreadPoolExecutor(threads, "endpoint") as pool:
        waiting = {pool.submit(ask, one): place for place, one in enumerate(asked)}
        try:
            for done in as_completed(waiting):
                found[waiting[done]] = done.result()
                if progress is not None:
                    progress(len(found))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    return [found[place] for place in range(len(asked))]


def _text(said: dict[str, Any]) -> str:
    """Of a completion its text, of a chat its message."""
    message = said.get("message")
    text = message.get("content") if isinstance(message, dict) else said.get("text")
    if not isinstance(text, str):
        raise WorkFailed("the server's answer holds no text", fix="its own log says why")
    return HALVES.sub("\ufffd", text)
