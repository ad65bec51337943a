"""How a model is asked. Evaluators, parity, golden prompts and `predict` all go through one `Subject`.

A complete engine, which asks one prompt after the other by the likeliest token:

    from contextlib import contextmanager
    from typing import Annotated

    from pydantic import Field, PositiveInt
    from tunewright import BadInput
    from tunewright.parts import Engine, Options
    from tunewright.parts.engine import Completion
    from tunewright.testing import check_engine

    class PlainOptions(Options):
        kind: str = "plain"
        longest: Annotated[PositiveInt, Field(description="Most tokens of a prompt.")] = 2048

    class Plain(Engine[PlainOptions]):
        kind, Options, libraries = "plain", PlainOptions, ("torch",)
        reads = frozenset({"longest"})
        vary = {"longest": (1, 2048)}  # for the kit: two values that must make a difference

        @contextmanager
        def open(self, served):
            tokenizer = served.loader.tokenizer(served.base)
            model = served.loader.model(served.base, served.quantizer, served.dtype, "infer")
            identity = "base"
            if served.method is not None:
                model = served.method.attach(model, served.trained).eval()
                identity = served.method.digest(model)  # of what is in memory: parity compares it
            yield Asked(model, tokenizer, identity, self.options.longest)

    class Asked:
        def __init__(self, model, tokenizer, identity, longest):
            self.model, self.tokenizer = model, tokenizer
            self.identity, self.longest = identity, longest

        def complete(self, prompts, limit, progress=None, *, together=True):
            answers = []
            for prompt in prompts:  # an engine that can batch does so where `together` allows it
                answers.append(self._answer(prompt, limit))
                if progress is not None:
                    progress(len(answers))
            return answers

        def _answer(self, prompt, limit):
            import torch  # late: `validate` waits for no library
            stops, ids = self.tokenizer.stops, []
            asked = self.tokenizer.encode(self.tokenizer.render(prompt, generation_prompt=True))
            if len(asked) > self.longest:
                raise BadInput(f"a prompt has {len(asked)} tokens, {self.longest} are allowed")
            while len(ids) < limit and not stops.intersection(ids[-1:]):
                given = torch.tensor([[*asked, *ids]], device=self.model.device)
                with torch.no_grad():
                    ids.append(self.model(input_ids=given).logits[0, -1].argmax().item())
            why = "terminator" if stops.intersection(ids[-1:]) else "limit"
            return Completion(ids, self.tokenizer.decode(ids, special=False), why, asked)

    def test_it_keeps_its_contract(tmp_path):
        check_engine(Plain, folder=tmp_path)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Protocol

from tunewright.parts.adapter import AdapterMethod
from tunewright.parts.base import Backend, O
from tunewright.parts.loader import Loader, Message
from tunewright.parts.quantizer import Quantizer


class Served(NamedTuple):
    """A form of a model, as an engine opens it: the base, how it is loaded, and what is put on it."""

    base: Path
    loader: Loader
    quantizer: Quantizer
    dtype: str
    method: AdapterMethod | None = None
    trained: Path | None = None


@dataclass(frozen=True)
class Completion:
    """An answer: token ids with the terminator if there was one, its text without, why it stopped."""

    ids: list[int]
    text: str
    stopped: Literal["terminator", "limit"]
    prompt_ids: list[int]


class Subject(Protocol):
    """The one way to ask a model. Greedy decoding: the same question gives the same answer."""

    @property
    def identity(self) -> str:
        """Digest of the trained tensors that the model carries in memory; `base` for a bare base."""
        ...

    def complete(
        self,
        prompts: Sequence[Sequence[Message]],
        limit: int,
        progress: Callable[[int], None] | None = None,
        *,
        together: bool = True,
    ) -> list[Completion]:
        """One greedy answer a prompt, in order, of at most `limit` tokens.

        `progress` hears how many are done; `together=False` asks one by one, so that no batch changes a rounding.
        """
        ...


class Engine(Backend[O]):
    """Opens a form of a model for asking."""

    part: ClassVar[str] = "engine"

    @abstractmethod
    def open(self, served: Served) -> AbstractContextManager[Subject]:
        """Load the form and yield a subject; frees it on leaving."""
