"""A model in `llama-server`, asked as every other model is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from tunewright.engines import Answered, Server
from tunewright.errors import BadInput, Refused, WorkFailed
from tunewright.parts.engine import Completion, Continuation, Limit, limits
from tunewright.parts.loader import Tokenizer
from tunewright.parts.prompt_format import Text
from tunewright.parts.several import Asked, refuse_unknown

GREEDY: dict[str, Any] = {
    "samplers": ["penalties", "top_k"], "top_k": 1, "cache_prompt": True, "return_tokens": True, "stream": False,
}  # fmt: skip
"""The likeliest token, after the repetition penalty that the file asks for. What a prompt begins with as the one before
is not computed again."""
FORCE = 1e6  # added to a logit, it makes its token the next one
ALL = 1 << 30  # tokens whose probabilities are listed: of a whole vocabulary, megabytes
LOWEST = -1e30  # llama.cpp says the lowest float where a probability is 0 in fp32, below e^-103

FULL = "Context size has been exceeded."  # llama.cpp's own words, of a batch none of which it then answers
ROUNDS = 4  # prompts of a batch for each that is answered at once: progress is heard after every batch

T = TypeVar("T")


class _Prompt(NamedTuple):
    ids: list[int]
    limit: int

    @property
    def most(self) -> int:
        """Tokens of the context that it and its answer may take."""
        return len(self.ids) + self.limit


class LlamaSubject:
    """Asks for answers in batches, which the server fills anew as answers end; for scores, for one after the other.

    A batch is one request, so that what is computed beside what, and with it every rounding, is the same each time.
    """

    def __init__(
        self,
        server: Server,
        tokenizer: Tokenizer,
        identity: str,
        context: int,
        lora: Sequence[Any] | None = None,
        parallel: int = 1,
    ) -> None:
        """`lora` says with each request which of the server's adapters answer; None for all that it started with.

        `parallel`: how many prompts the server answers at once, which share its context.
        """
        self.server, self.tokenizer, self.identity, self.context = server, tokenizer, identity, context
        self._asked = GREEDY if lora is None else {**GREEDY, "lora": list(lora)}
        self._parallel = parallel

    def complete(
        self,
        prompts: Sequence[Text],
        limit: Limit,
        progress: Callable[[int], None] | None = None,
        *,
        together: bool = True,
    ) -> list[Completion]:
        """One answer a prompt, in order, of at most `limit` tokens, as `Subject.complete`.

        The prompt's ids are those that llama.cpp makes of it by the file's own template and tokenizer. Prompts that do
        not fit into the context beside each other are asked one by one, as all are without `together`. Raises
        `BadInput` where a prompt is empty, or prompt and answer do not fit into the context.
        """
        each = limits(limit, len(prompts))
        asked = [self._prompt(place, *one) for place, one in enumerate(zip(prompts, each, strict=True))]
        found: list[Completion] = []
        for batch in self._batches(asked) if together else ([one] for one in asked):
            found += self._answers(batch)
            if progress is not None:
                progress(len(found))
        return found

    def score(
        self,
        rows: Sequence[Continuation],
        progress: Callable[[int], None] | None = None,
        *,
        together: bool = True,
    ) -> list[list[float]]:
        """For each row the log-probability in nats of each token of its answer, of llama.cpp's logits in fp32.

        Each token is a question of its own: what comes after all before it. Raises `BadInput` where a prompt is empty
        or a row does not fit into the context, `WorkFailed` where a token is less likely than fp32 can say.
        """
        return _each(enumerate(rows), lambda asked: self._score(*asked), progress)

    def answer(self, place: int, prompt: Text, limit: int) -> Completion:
        """The answer to one prompt; `place` is for messages."""
        return self._answers([self._prompt(place, prompt, limit)])[0]

    def _prompt(self, place: int, prompt: Text, limit: int) -> _Prompt:
        """As the server takes it. Raises `BadInput` where it is empty, or does not fit."""
        ids = self._ids(prompt)
        if not ids:
            raise BadInput(f"prompt {place + 1} is empty: the model has nothing to go on from", fix="leave it out")
        self._refuse_long(f"prompt {place + 1}", len(ids), limit)
        return _Prompt(ids, limit)

    def _batches(self, asked: Iterable[_Prompt]) -> Iterator[list[_Prompt]]:
        """Prompts of one limit, as they come: any of them that are answered at once fit into the context together."""
        batch: list[_Prompt] = []
        for one in asked:
            longest = sorted((prompt.most for prompt in [*batch, one]), reverse=True)[: self._parallel]
            full = len(batch) == ROUNDS * self._parallel or sum(longest) > self.context
            if batch and (full or one.limit != batch[0].limit):
                yield batch
                batch = []
            batch.append(one)
        if batch:
            yield batch

    def _answers(self, batch: Sequence[_Prompt]) -> list[Completion]:
        """In one request; one by one where llama.cpp finds no room for them beside what it holds of earlier ones."""
        try:
            return self._at_once(batch)
        except Answered as error:
            if error.words != FULL or len(batch) == 1:
                raise
        return [answer for one in batch for answer in self._at_once([one])]

    def _at_once(self, batch: Sequence[_Prompt]) -> list[Completion]:
        """In one request: the server begins the next prompt as an answer ends."""
        ids, limit = [one.ids for one in batch], batch[0].limit
        said = self.server.ask("/completion", {**self._asked, "prompt": ids, "n_predict": limit}, answers=len(batch))
        answers = sorted(said, key=itemgetter("index")) if isinstance(said, list) else [said]  # one is no list
        if [one["index"] for one in answers] != list(range(len(batch))):
            raise WorkFailed(f"{self.server.name} gives {len(answers)} answers to {len(batch)} prompts, or not theirs")
        return [self._completion(*one) for one in zip(batch, answers, strict=True)]

    def _completion(self, prompt: _Prompt, said: Mapping[str, Any]) -> Completion:
        answer = list(map(int, said["tokens"]))
        ended = said["stop_type"] == "eos"
        if said.get("truncated") or (not ended and len(answer) != prompt.limit):
            raise WorkFailed(f"{self.server.name} ended an answer by `{said['stop_type']}` after {len(answer)} tokens")
        text = self.tokenizer.decode(answer, special=False)
        return Completion(answer, text, "terminator" if ended else "limit", prompt.ids)

    def _ids(self, prompt: Text) -> list[int]:
        """As a client's request is tokenized: BOS where the file asks for it, special tokens recognized."""
        text = prompt if isinstance(prompt, str) else self._rendered(list(prompt))
        found = self.server.ask("/tokenize", {"content": text, "add_special": True, "parse_special": True})
        return list(map(int, found["tokens"]))

    def _rendered(self, messages: list[Any]) -> str:
        try:
            return str(self.server.ask("/apply-template", {"messages": messages})["prompt"])
        except Answered as error:
            raise BadInput(f"the chat template, as llama.cpp reads it, refuses this: {error.words}") from error

    def likeliest(self, rows: Sequence[Continuation], top: int) -> list[list[dict[int, float]]]:
        """For each row and each token of its answer, the `top` likeliest tokens there with log-probabilities in nats.

        Raises as `score` does.
        """
        found = []
        for place, row in enumerate(rows):
            ids = self._scorable(place, row)
            told = (self._told(ids[:end], self._letter, top)[0] for end in range(len(row.prompt), len(ids)))
            found.append(list(told))
        return found

    def _score(self, place: int, row: Continuation) -> list[float]:
        ids = self._scorable(place, row)
        name = row.origin or f"row {place + 1}"
        return [self._chance(name, ids[:end], ids[end]) for end in range(len(row.prompt), len(ids))]

    def _scorable(self, place: int, row: Continuation) -> list[int]:
        """All of a row. Raises `BadInput` where it has no prompt, or does not fit."""
        name = row.origin or f"row {place + 1}"
        if not row.prompt:
            raise BadInput(f"{name}: nothing stands before its first token, which so has no probability",
                           fix="give the first token as the prompt")  # fmt: skip
        self._refuse_long(name, len(row.prompt) + len(row.answer), 0)
        return [*row.prompt, *row.answer]

    def _chance(self, name: str, before: list[int], token: int) -> float:
        """llama.cpp tells nothing of a token that ends within a character: for one, it lists the whole vocabulary."""
        for forced, most in ((token, 1), (self._letter, ALL)):
            listed, itself = self._told(before, forced, most)
            found = {**listed, **itself}.get(token, LOWEST)
            if found > LOWEST:
                return found
        raise Refused(f"{name}: token {token} is less likely than {self.server.name} can say in fp32",
                      fix="score the row by the engine `transformers`")  # fmt: skip

    def _told(self, before: list[int], forced: int, most: int) -> tuple[dict[int, float], dict[int, float]]:
        """Log-probabilities of the `most` likeliest next tokens, and that of the one that is forced to be the next.

        They are the model's own, before any forcing. Both are empty for a token that ends within a character.
        """
        asked = {**self._asked, "prompt": before, "n_predict": 1, "n_probs": most, "logit_bias": [[forced, FORCE]]}
        for said in self.server.ask("/completion", asked).get("completion_probabilities", []):
            listed = {int(one["id"]): float(one["logprob"]) for one in said["top_logprobs"]}
            return listed, {int(said["id"]): float(said["logprob"])}
        return {}, {}

    @cached_property
    def _letter(self) -> int:
        """A token that is a whole character."""
        return int(self.server.ask("/tokenize", {"content": "a", "add_special": False})["tokens"][0])

    def _refuse_long(self, name: str, length: int, limit: int) -> None:
        if length + limit > self.context:
            answer = f" with an answer of {limit:,}" if limit else ""
            raise BadInput(
                f"{name}: {length:,} tokens{answer} are longer than the context of {self.context:,}",
                fix="shorten it, or set the engine's `context`, up to what the model was made for",
            )


class LlamaSeveral:
    """A base and adapters that one server holds: each request says which one answers; the base is the name None."""

    def __init__(self, subjects: Mapping[str | None, LlamaSubject]) -> None:
        self.subjects = subjects

    def complete(
        self,
        asked: Sequence[Asked],
        limit: int,
        progress: Callable[[int], None] | None = None,
        *,
        together: bool = True,
    ) -> list[Completion]:
        """As `Several.complete`, one after the other: llama.cpp batches no requests of different adapters."""
        refuse_unknown(asked, [name for name in self.subjects if name is not None])
        return _each(
            enumerate(asked), lambda one: self.subjects[one[1].adapter].answer(one[0], one[1].prompt, limit), progress
        )


def _each(asked: Iterable[Any], ask: Callable[[Any], T], progress: Callable[[int], None] | None) -> list[T]:
    found: list[T] = []
    for one in asked:
        found.append(ask(one))
        if progress is not None:
            progress(len(found))
    return found
