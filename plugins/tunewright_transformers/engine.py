"""The embedded engine: asks a model in this process, in static batches. Small, and the reference for exactness."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar

from pydantic import Field, PositiveInt

from tunewright.errors import BadInput
from tunewright.parts import Engine, Options
from tunewright.parts.engine import Completion, Served
from tunewright.parts.loader import Message, Tokenizer
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

    @contextmanager
    def open(self, served: Served) -> Iterator[TransformersSubject]:
        tokenizer = served.loader.tokenizer(served.base)
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
    """Answers greedily: each token is the likeliest one, after the repetition penalty that the model asks for."""

    def __init__(self, model: Any, tokenizer: Tokenizer, identity: str, batch_tokens: int) -> None:
        # an adapter is injected into the base's modules, so the base's own methods answer with it
        self.model = getattr(model, "get_base_model", lambda: model)()
        self.tokenizer, self.identity, self.batch_tokens = tokenizer, identity, batch_tokens

    def complete(
        self,
        prompts: Sequence[Sequence[Message]],
        limit: int,
        progress: Callable[[int], None] | None = None,
        *,
        together: bool = True,
    ) -> list[Completion]:
        """One answer a prompt, in order, of at most `limit` tokens.

        `together` computes what all prompts begin with once, and answers in batches; without it each prompt goes
        through the library's own `generate` alone. In fp32 both give the same tokens; in bf16 a batch may round
        otherwise. Raises `BadInput` where prompt and answer do not fit into the model's context.
        """
        from tunewright_transformers import greedy

        questions = [self._question(prompt, place, limit) for place, prompt in enumerate(prompts)]
        report = progress or (lambda done: None)
        if together and greedy.batchable(self.model):
            answers = greedy.in_batches(self.model, questions, limit, self.tokenizer.stops, self.batch_tokens, report)
        else:
            answers = greedy.one_by_one(self.model, questions, limit, self.tokenizer.stops, report)
        return [self._completion(question, answer) for question, answer in zip(questions, answers, strict=True)]

    def _question(self, prompt: Sequence[Message], place: int, limit: int) -> list[int]:
        ids = self.tokenizer.encode(self.tokenizer.render(prompt, generation_prompt=True))
        longest = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
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
