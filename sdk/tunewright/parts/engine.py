"""How a model is asked. Evaluators, parity, golden prompts and `predict` all go through one `Subject`.

A complete engine, which asks one prompt after the other by the likeliest token:

    from contextlib import contextmanager
    from typing import Annotated

    from pydantic import Field, PositiveInt
    from tunewright import BadInput
    from tunewright.data.mask import prompt_ids
    from tunewright.parts import Cap, Engine, Options
    from tunewright.parts.engine import Completion, limits
    from tunewright.testing import check_engine

    class PlainOptions(Options):
        kind: str = "plain"
        longest: Annotated[PositiveInt, Field(description="Most tokens of a prompt.")] = 2048

    class Plain(Engine[PlainOptions]):
        kind, Options, libraries = "plain", PlainOptions, ("torch",)
        reads, vary = frozenset({"longest"}), {"longest": (1, 2048)}  # `vary`: two that differ

        def offers(self):
            return frozenset({Cap.SCORES})  # it has a `score`; without, leave this out

        @contextmanager
        def open(self, served):
            model = served.loader.model(served.base, served.quantizer, served.dtype, "infer")
            identity = "base"
            if served.method is not None:
                model = served.method.attach(model, served.trained).eval()
                identity = served.method.digest(model)  # of what is in memory: parity compares it
            yield Asked(model, served.tokenizer, identity, self.options.longest)

    class Asked:
        def __init__(self, model, tokenizer, identity, most):
            self.model, self.tokenizer, self.identity, self.most = model, tokenizer, identity, most

        def complete(self, prompts, limit, progress=None, *, together=True):
            return self._each(zip(prompts, limits(limit, len(prompts))), self._answer, progress)

        def score(self, rows, progress=None, *, together=True):
            return self._each(rows, self._score, progress)

        def _each(self, asked, ask, progress):
            found, hear = [], progress or (lambda done: None)
            for one in asked:  # an engine that can batch does so where `together` allows it
                found.append(ask(one))
                hear(len(found))
            return found

        def _answer(self, asked):  # a prompt, and the limit of its answer
            prompt, stops, ids = prompt_ids(asked[0], self.tokenizer), self.tokenizer.stops, []
            while len(ids) < asked[1] and not stops.intersection(ids[-1:]):
                ids.append(self._logits(prompt, ids)[-1].argmax().item())
            why = "terminator" if stops.intersection(ids[-1:]) else "limit"
            return Completion(ids, self.tokenizer.decode(ids, special=False), why, prompt)

        def _score(self, row):  # the logits at a place are of the token after it
            chances = self._logits(row.prompt, row.answer).log_softmax(-1)[len(row.prompt) - 1 :]
            return [chances[place, token].item() for place, token in enumerate(row.answer)]

        def _logits(self, prompt, answer):
            import torch  # late: `validate` waits for no library
            if not 0 < len(prompt) <= self.most:
                raise BadInput(f"a prompt has {len(prompt)} tokens, not 1 to {self.most}")
            with torch.no_grad():
                ids = torch.tensor([[*prompt, *answer]], device=self.model.device)
                return self.model(input_ids=ids).logits[0].float()

    def test_it_keeps_its_contract(tmp_path):
        check_engine(Plain, folder=tmp_path)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple, Protocol, runtime_checkable

from tunewright.parts.adapter import AdapterMethod
from tunewright.parts.base import Backend, Finding, Json, Need, O
from tunewright.parts.loader import Loader, Tokenizer
from tunewright.parts.prompt_format import Text
from tunewright.parts.quantizer import Quantizer
from tunewright.parts.several import InTurn, Several


class Served(NamedTuple):
    """A form of a model, as an engine opens it: the base, how it is loaded, and what is put on it.

    `base` is the folder of the weights: of a whole model that was exported, its own. `speaks` is the folder that the
    loader's tokenizer is read from where that is another one. `foreign` where a baseline asks whatever model the engine
    has: its tokenizer and its template may be others.
    """

    base: Path
    loader: Loader
    quantizer: Quantizer
    dtype: str
    method: AdapterMethod | None = None
    trained: Path | None = None
    speaks: Path | None = None
    foreign: bool = False

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the base that was trained on."""
        return self.loader.tokenizer(self.speaks or self.base)


@dataclass(frozen=True)
class Completion:
    """An answer: token ids with the terminator if there was one, its text without, why it stopped.

    `stopped` is `given` where the model did not say it: it was given to be scored.
    """

    ids: list[int]
    text: str
    stopped: Literal["terminator", "limit", "given"]
    prompt_ids: list[int]


class Continuation(NamedTuple):
    """Token ids to score: `answer` as what comes after `prompt`, terminator included. `prompt` is not empty.

    Of a plain text the first token is the prompt: it is BOS where the model has one, and is never scored.
    """

    prompt: list[int]
    answer: list[int]
    origin: str = ""
    """Where it stands in the client's data, for messages."""


Limit = int | Sequence[int]
"""Most tokens of an answer: of each, or one number a prompt."""


def limits(limit: Limit, prompts: int) -> list[int]:
    """The limit of each of so many prompts. Raises `ValueError` where there are more or fewer, or one is below 1."""
    each = list(limit) if isinstance(limit, Sequence) else [limit] * prompts
    if len(each) != prompts:
        raise ValueError(f"{len(each)} limits for {prompts} prompts: give one a prompt, or one for all")
    if min(each, default=1) < 1:
        raise ValueError(f"an answer of at most {min(each)} tokens: ask for at least one")
    return each


class Subject(Protocol):
    """The one way to ask a model. Greedy decoding: the same question gives the same answer."""

    @property
    def identity(self) -> str:
        """Digest of the trained tensors that the model carries in memory; `base` for a bare base.

        Of an engine that never sees them, whatever names the model where it is served: no digest, and not `base`.
        """
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's own: `tunewright.data.mask` makes of a row the tokens that are trained on, and scored."""
        ...

    def complete(
        self,
        prompts: Sequence[Text],
        limit: Limit,
        progress: Callable[[int], None] | None = None,
        *,
        together: bool = True,
    ) -> list[Completion]:
        """One greedy answer a prompt, in order, of at most `limit` tokens: of each prompt, or of each its own.

        A conversation is rendered by the model's template, plain text stands as it is after the tokenizer's `begin`:
        `tunewright.data.mask.prompt_ids` does both. `progress` hears how many are done; `together=False` asks one by
        one, so that no batch changes a rounding. Raises `BadInput` where a prompt is empty, or where prompt and answer
        do not fit into the model's context.
        """
        ...

    def score(
        self,
        rows: Sequence[Continuation],
        progress: Callable[[int], None] | None = None,
        *,
        together: bool = True,
    ) -> list[list[float]]:
        """For each row, in order, the log-probability in nats of each token of its answer, given all before it.

        Of the model as it is: no temperature, no penalty. Logits of any type are made fp32 first. `progress` and
        `together` are those of `complete`. Raises `BadInput` where a prompt is empty or a row does not fit into the
        model's context, `WorkFailed` where what the model says is no finite number.
        """
        ...


@runtime_checkable
class Likeliest(Protocol):
    """What a subject may offer besides, where its engine tells more than the chosen token: certificates measure by it
    how far the distributions of two forms are apart. Such an engine offers `Cap.LIKELIEST`: a gate on `kl` is refused
    where one of both does not."""

    def likeliest(self, rows: Sequence[Continuation], top: int) -> list[list[dict[int, float]]]:
        """For each row, in order, and each token of its answer: the `top` likeliest tokens in that place, by their ids,
        with their log-probabilities in nats, given all before it. Raises as `Subject.score`."""
        ...


class Engine(Backend[O]):
    """Opens a form of a model for asking.

    One whose libraries do not go with ours lives in an environment and a process of its own: see `tunewright.engines`.
    """

    part: ClassVar[str] = "engine"
    sees_weights: ClassVar[bool] = True
    """Whether a subject's identity is worked out from the tensors that answer, in memory. Where they lie in a server's
    it cannot be: then nothing is claimed of them, and a tuned model that answers all as the base does is refused."""
    on_stored: ClassVar[bool] = False
    """Whether it opens the base as it lies in its files, whatever quantization the spec names. Of a base that was
    packed while it was loaded (`Quantizer.as_stored`) it then answers for another model than was trained on: the core
    refuses it there."""
    environment: ClassVar[tuple[str, ...]] = ()
    """Pinned requirements of that environment, `name==version` each, which stand in the key as libraries do. It is made
    by `tunewright engines install KIND`."""
    building: ClassVar[Mapping[str, str]] = {}
    """Variables for its installation where the user sets no others; `{cores}` in one is the count of this machine's."""
    without: ClassVar[tuple[str, ...]] = ()
    """Distributions that its requirements bring along and that do not go with them: they are removed again."""
    proof: ClassVar[str] = ""
    """Python that is run there once all is installed: where it fails, so did the installation."""
    takes: ClassVar[str] = ""
    """What its installation takes, in words: time, space, a compiler."""

    def versions(self) -> dict[str, str]:
        return {**super().versions(), **{name: version for name, _, version in map(_pinned, self.environment)}}

    def tokens_at_once(self) -> int | None:
        """Most tokens that it computes at once in this process, prompts and answers together; None where it cannot
        tell, or asks a model that lies in another process."""
        return None

    def lighter(self) -> str:
        """Which of its options to change where an evaluation runs out of memory, as "lower `option` of the engine";
        nothing where none would help."""
        return ""

    def attaching(self) -> Iterable[Need]:
        """What it needs of the spec's other parts to ask a base with what was trained put on it, beside `needs`."""
        return ()

    def misread(self, quantizer: Quantizer) -> Finding | None:
        """That it would open another model than the one that `quantizer` opens; see `on_stored`."""
        if not self.on_stored or quantizer.as_stored():
            return None
        message = (
            f"engine `{self.kind}` opens the base as it lies in its files, and not in `{quantizer.kind}`: it would "
            "answer for another model"
        )
        fix = "leave `engine` out; or export `merged`, which is measured by itself"
        return Finding("target-cannot-load", message, suggestion=fix)

    def comparing(self) -> Iterable[Finding]:
        """What is wrong with its options where it is asked for the base and for what was trained, as an evaluation
        does; an export and `predict` ask for one form alone."""
        return ()

    def certifying(self, packed: Mapping[str, Json]) -> Iterable[Finding]:
        """What is wrong with its options where it opens an export for the certificate: files that the run has just
        written. A server that runs already never reads them, and what it answers says nothing of them. `packed` is how
        their weights are packed (`Exporter.packed`), which not every engine opens."""
        return ()

    def foreign(self) -> Iterable[Finding]:
        """What is wrong with its options where it is asked for a model of its own, as a baseline does, which may have
        another tokenizer."""
        return ()

    @abstractmethod
    def open(self, served: Served) -> AbstractContextManager[Subject]:
        """Load the form and yield a subject; frees it on leaving."""

    def open_several(self, served: Served, adapters: Mapping[str, Path]) -> AbstractContextManager[Several]:
        """The base of `served` with adapters that lie in folders, by their names; `served.method` puts them on.

        By default one is opened after the other, as each is asked.
        """
        bare = served._replace(method=None, trained=None)

        def open_one(name: str | None) -> AbstractContextManager[Subject]:
            return self.open(bare if name is None else served._replace(trained=adapters[name]))

        return nullcontext(InTurn(open_one, adapters.keys()))


def _pinned(requirement: str) -> tuple[str, str, str]:
    return requirement.partition("==")
