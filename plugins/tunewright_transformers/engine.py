"""The embedded engine: asks a model in this process, in batches that rows leave and join; small, and exact."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

from pydantic import Field, PositiveInt

from tunewright.data.mask import prompt_ids
from tunewright.errors import BadInput
from tunewright.parts import Cap, Engine, Options
from tunewright.parts.engine import Completion, Continuation, Limit, Served, limits
from tunewright.parts.loader import Tokenizer
from tunewright.parts.prompt_format import Text
from tunewright_transformers.library import library


class TransformersEngineOptions(Options):
    """Options of the embedded engine."""

    kind: str = "transformers"
    batch_tokens: Annotated[
        PositiveInt, Field(description="Most tokens of a batch, padding and answers counted: bounds the memory.")
    ] = 8192


class TransformersEngine(Engine[TransformersEngineOptions]):
    """Loads the base, puts on it what was trained, and frees both on leaving."""

    kind = "transformers"
    Options: ClassVar = TransformersEngineOptions
    extra = "train"
    libraries = ("torch", "transformers")
    reads = frozenset({"batch_tokens"})
    vary: ClassVar = {"batch_tokens": (64, 8192)}  # seen in how often progress is told, never in an answer

    def offers(self) -> frozenset[Cap]:
        return frozenset({Cap.SCORES, Cap.LIKELIEST})

    def tokens_at_once(self) -> int:
        """What bounds its batches."""
        return self.options.batch_tokens

    def lighter(self) -> str:
        return f"lower `batch_tokens` of the engine, which is {self.options.batch_tokens:,}"

    @contextmanager
    def open(self, served: Served) -> Iterator[TransformersSubject]:
        tokenizer = served.tokenizer
        model = served.loader.model(served.base, served.quantizer, served.dtype, "infer")
        identity = "base"
        if served.method is not None and served.trained is not None:
            model = served.method.attach(model, served.trained).eval()
            identity = served.method.digest(model)
        subject = TransformersSubject(model, tokenizer, identity, self.options.batch_tokens)
        try:
            yield subject
        finally:
            del model, subject.model  # whoever keeps the subject keeps no weights
            _free()


class TransformersSubject:
    """Answers greedily: each token is the likeliest one, after the repetition penalty that the model asks for.

    Scores are of the model's own distribution, without any penalty.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, identity: str, batch_tokens: int) -> None:
        # an adapter is injected into the base's modules, so the base's own methods answer with it
        self.model = getattr(model, "get_base_model", lambda: model)()
        self.tokenizer, self.identity, self.batch_tokens = tokenizer, identity, batch_tokens

    def complete(
        self,
        prompts: Sequence[Text],
        limit: Limit,
        progress: Callable[[int], None] | None = None,
        *,
        together: bool = True,
    ) -> list[Completion]:
        """One answer a prompt, in order, of at most `limit` tokens: of each prompt, or of each its own.

        `together` computes what prompts begin with once, and answers in batches; without it each prompt goes
        through the library's own `generate` alone. In fp32 both give the same tokens; in bf16 a batch may round
        otherwise. Raises `BadInput` where a prompt is empty, or prompt and answer do not fit into the model's context.
        """
        from tunewright_transformers import greedy

        most = limits(limit, len(prompts))
        questions = [self._question(prompt, place, most[place]) for place, prompt in enumerate(prompts)]
        report = progress or (lambda done: None)
        if together and greedy.batchable(self.model):
            answers = greedy.in_batches(self.model, questions, most, self.tokenizer.stops, self.batch_tokens, report)
        else:
            answers = greedy.one_by_one(self.model, questions, most, self.tokenizer.stops, report)
        return [self._completion(question, answer) for question, answer in zip(questions, answers, strict=True)]

    def score(
        self,
        rows: Sequence[Continuation],
        progress: Callable[[int], None] | None = None,
        *,
        together: bool = True,
    ) -> list[list[float]]:
        """For each row the log-probability in nats of each token of its answer, from fp32 logits.

        `together` reads what rows begin with once and runs the LM head where an answer is predicted alone; without it
        each row goes through the model's own forward alone. In fp32 both are equal to 1e-5; in bf16 a batch may round
        otherwise. Raises `BadInput` where a prompt is empty or a row is longer than the model's context,
        `WorkFailed` where the model gives what is no finite number.
        """
        from tunewright_transformers import score

        for place, row in enumerate(rows):
            self._refuse_unscorable(row, place)
        report = progress or (lambda done: None)
        return score.scores(self.model, rows, self.batch_tokens if together else None, report)

    def likeliest(self, rows: Sequence[Continuation], top: int) -> list[list[dict[int, float]]]:
        """For each row and each token of its answer, the `top` likeliest tokens there with log-probabilities in nats,
        from fp32 logits; each row alone. Raises as `score` does."""
        from tunewright_transformers import score

        for place, row in enumerate(rows):
            self._refuse_unscorable(row, place)
        return score.likeliest(self.model, rows, top)

    def _refuse_unscorable(self, row: Continuation, place: int) -> None:
        name, length = row.origin or f"row {place + 1}", len(row.prompt) + len(row.answer)
        if not row.prompt:
            raise BadInput(
                f"{name}: nothing stands before its first token, which so has no probability",
                fix="give the first token as the prompt",
            )
        if self._context is not None and length > self._context:
            raise BadInput(
                f"{name}: {length:,} tokens are longer than the model's context of {self._context:,}",
                fix="shorten the row, or cut it into several",
            )

    @property
    def _context(self) -> int | None:
        """Most tokens that the model was made for; None where its config does not say."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def _question(self, prompt: Text, place: int, limit: int) -> list[int]:
        ids, longest = prompt_ids(prompt, self.tokenizer), self._context
        if not ids:
            raise BadInput(f"prompt {place + 1} is empty: the model has nothing to go on from", fix="leave it out")
        if longest is not None and len(ids) + limit > longest:
            raise BadInput(
                f"prompt {place + 1} has {len(ids):,} tokens: with an answer of {limit:,} it is longer than the "
                f"model's context of {longest:,}",
                fix="shorten the prompt, or ask for shorter answers",
            )
        return ids

    def _completion(self, question: list[int], answer: list[int]) -> Completion:
        ended = bool(answer) and answer[-1] in self.tokenizer.stops
        text = self.tokenizer.decode(answer, special=False)
        return Completion(answer, text, "terminator" if ended else "limit", question)


def _free() -> None:
    """Give the memory back now: the next form may need it before the collector would run."""
    gc.collect()
    library()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()
