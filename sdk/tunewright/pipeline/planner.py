"""What each step of a plan will hold, for whom the backends tell it: the batch that is the heaviest, and its forecast.

How many tokens rows have is known exactly once they are prepared. Before that it is guessed from their texts, by bytes:
a tokenizer makes about four bytes of English a token, and three are reckoned with, so that the guess is rather high.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from tunewright.data.mask import sequences
from tunewright.errors import BadInput
from tunewright.parts import AdapterMethod, Quantizer
from tunewright.parts.base import Cap
from tunewright.parts.memory import BYTES, Batch, Regime, Shape, Trainable
from tunewright.parts.prompt_format import AnyExample, Feedback, Preference, Text, texts
from tunewright.parts.trainer import AnyRow
from tunewright.pipeline.forecast import Base, Peak, asking, loading, merging, referring, training
from tunewright.pipeline.measured import Bar, bar, bars, kind_of
from tunewright.pipeline.rows import Learnt, example_of, rows_of
from tunewright.pipeline.step import Step
from tunewright.pipeline.tasks.evaluate import Evaluate
from tunewright.pipeline.tasks.fetch import Fetch, base_config
from tunewright.pipeline.tasks.merge import Merge
from tunewright.pipeline.tasks.prepare import FACTS, HELD, ROWS, read_rows
from tunewright.pipeline.tasks.reference import Refer
from tunewright.pipeline.tasks.train import Train
from tunewright.resolve.resolved import Resolved, Training
from tunewright.store.publish import Artifact, Store

if TYPE_CHECKING:
    from tunewright.pipeline.plan import Plan

A_TOKEN = 3
"""Bytes of text that at least make a token."""
A_MESSAGE = 8
"""Tokens that a template puts around a message."""
TYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}
"""A config.json's names of types, and the spec's."""
READABLE = 50_000_000
"""Bytes of prepared rows that are read for a plan; of more, their totals are taken."""
TRAIN = "train"
COUNTED, GUESSED, BOUND = "tokens as prepared", "tokens guessed from the texts", "rows of max_length"


class Lengths(NamedTuple):
    """Tokens of the rows that are trained on, a sequence each: how many the longest has, how many of one bear a loss
    at most, how many rows there are, and where that is known from."""

    longest: int
    supervised: int
    rows: int
    basis: str
    even: bool = False
    """Whether all are of one length, as packed rows are."""
    shared: tuple[tuple[int, int], ...] = ()
    """Where shared beginnings are computed once: of so many rows, the most tokens that are left; sizes ascend."""

    def batch(self, regime: Regime, computed: int | None = None) -> Batch:
        """The heaviest batch. `computed` where fewer tokens go through the model than rows × longest."""
        rows = min(regime.rows, self.rows) * regime.sequences
        if regime.shares:  # there is no mask
            fewer = self._most(min(regime.rows, self.rows), rows * self.longest)
            return Batch(rows, self.longest, rows * self.supervised, computed or fewer, padded=False)
        padded = rows > 1 and not self.even
        return Batch(rows, self.longest, rows * self.supervised, computed or rows * self.longest, padded)

    def asked(self, regime: Regime, tokens: int) -> Batch:
        """What a reference is asked about at once, in so many `tokens`: nothing is taken off for what they share."""
        rows = max(1, tokens // self.longest)
        scored = min(tokens, rows * self.supervised)
        return Batch(rows, self.longest, scored, tokens, padded=rows > 1 and not regime.shares)

    def _most(self, rows: int, otherwise: int) -> int:
        """The most tokens that so many rows leave once shared beginnings are computed once; `otherwise` where less is
        not known.

        More rows have more tokens, and fewer each: a row adds to the heaviest ones no more than any of them did. So
        between two sizes that were measured the larger one's tokens are a bound, and the smaller one's by rows as well.
        """
        bounds = (tokens if size >= rows else -(-tokens * rows // size) for size, tokens in self.shared)
        return min([otherwise, *bounds])


@dataclass(frozen=True)
class Foreseen:
    """One step: its phases, or why nothing is foretold of it."""

    step: str
    device: str
    peaks: tuple[Peak, ...] = ()
    basis: str = ""
    unknown: str = ""

    @property
    def peak(self) -> Peak | None:
        """Its heaviest phase."""
        return max(self.peaks, key=lambda peak: peak.bytes, default=None)

    @property
    def resident(self) -> int:
        """The most that its process is seen to hold."""
        return max((peak.resident for peak in self.peaks), default=0)


def foresee(
    resolved: Resolved,
    steps: Sequence[Step],
    device: str,
    guessed: Mapping[str, Lengths],
    done: Mapping[str, Artifact],
    only: str = "",
) -> list[Foreseen]:
    """Of every step that loads a model, in their order, or of the step `only`.

    `done` are the outputs that are there: prepared rows are counted, and a fetched base tells its config.json.
    """
    fetched = next((done[step.name] for step in steps if isinstance(step.task, Fetch) and step.name in done), None)
    config = resolved.facts.model_config or (base_config(fetched) if fetched is not None else None)
    base = base_of(config, resolved.quantizer, resolved.spec.model.dtype)
    asked = [step for step in steps if not only or step.name == only]
    found = (_of_step(resolved, step, base, device, guessed, done) for step in asked)
    return [one for one in found if one is not None]


def base_of(config: Mapping[str, Any] | None, quantizer: Quantizer, dtype: str) -> Base | str:
    """The base as it will be loaded, or why that is not known."""
    shape = Shape.of(config)
    if shape is None:
        family = (config or {}).get("model_type")
        return f"the layers of a `{family}` are not known here" if family else "the base's config.json is not known yet"
    weights = quantizer.weight_bytes(shape, dtype)
    if weights is None:
        return f"quantizer `{quantizer.kind}` does not tell"
    unpacked, kept = quantizer.unpacked_bytes(shape, dtype), quantizer.kept_bytes(shape, dtype)
    if Cap.MAKES in quantizer.offers():
        return Base(shape, dtype, weights, weights, unpacked, kept=kept)
    named = str((config or {}).get("dtype") or (config or {}).get("torch_dtype") or "bfloat16")
    of_files = TYPES.get(named, "bf16")
    stored = shape.parameters * BYTES[of_files]
    packed, heads = weights < shape.parameters * BYTES[dtype], 1 if shape.tied else 2
    mapped = stored - heads * shape.embedding * BYTES[dtype] if packed and of_files == dtype else 0
    return Base(shape, dtype, weights, stored, unpacked, mapped, kept)


def trainable_on(base: Base, quantizer: Quantizer, adapter: AdapterMethod) -> Trainable | None:
    """What is trained on a base as it is loaded."""
    packed = Cap.FULLY_TRAINABLE not in quantizer.offers()
    return adapter.trainable(base.shape, base.dtype, packed)


def _of_step(
    resolved: Resolved,
    step: Step,
    base: Base | str,
    device: str,
    guessed: Mapping[str, Lengths],
    done: Mapping[str, Artifact],
) -> Foreseen | None:
    task = step.task
    if not isinstance(task, (Train, Refer, Evaluate, Merge)):
        return None
    if isinstance(base, str):
        return Foreseen(step.name, device, unknown=base)
    if isinstance(task, Merge):
        return Foreseen(step.name, "cpu", (merging(base),))
    trained = trainable_on(base, resolved.quantizer, resolved.adapter)
    if isinstance(task, Evaluate):
        tokens = [engine.tokens_at_once() for engine in task.asked_by.values()]
        own = [most for most in tokens if most is not None]
        if not own:
            return Foreseen(step.name, device, unknown="its engine asks in another process, or does not tell")
        return Foreseen(step.name, device, (loading(base, device), asking(base, trained, max(own), device)))
    if trained is None:
        return Foreseen(
            step.name, device, unknown=f"adapter `{resolved.adapter.kind}` does not tell with these options"
        )
    return _of_training(resolved, step, base, trained, device, guessed, done)


def _of_training(
    resolved: Resolved,
    step: Step,
    base: Base,
    trained: Trainable,
    device: str,
    guessed: Mapping[str, Lengths],
    done: Mapping[str, Artifact],
) -> Foreseen:
    one = next(one for one in resolved.trainings if step.name in (one.suffix("train"), one.suffix("reference")))
    regime = one.trainer.regime(base.shape, trained, device, resolved.facts_for(one.trainer))
    if regime is None:
        return Foreseen(step.name, device, unknown=f"trainer `{one.trainer.kind}` does not tell")
    prepared = done.get(one.suffix("prepare"))
    lengths = counted(prepared) if prepared is not None else guessed.get(one.name) or bound(one)
    if not isinstance(step.task, Refer):
        peaks = (loading(base, device), training(base, trained, regime, lengths.batch(regime), device))
        return Foreseen(step.name, device, peaks, lengths.basis)
    tokens = one.trainer.asks_at_once(lengths.longest)
    if tokens is None:
        why = f"trainer `{one.trainer.kind}` does not tell how many tokens its reference is asked about at once"
        return Foreseen(step.name, device, unknown=why)
    put_on = None if step.task.adapter is None else trained
    asked = referring(base, put_on, regime, lengths.asked(regime, tokens), device)
    return Foreseen(step.name, device, (loading(base, device), asked), lengths.basis)


def counted(prepared: Artifact) -> Lengths:
    """Of rows that are prepared: their own tokens."""
    if (prepared.path / ROWS).stat().st_size > READABLE:
        found = _of_totals(prepared)
    else:
        found = lengths_of([*read_rows(prepared), *read_rows(prepared, HELD)])
    most = prepared.json(FACTS)["prefixes"]["most"]
    return found._replace(shared=tuple((int(size), tokens) for size, tokens in most.items()))


def lengths_of(rows: Sequence[AnyRow]) -> Lengths:
    """Of rows as they are read."""
    read = [one for row in rows for one in sequences(row).values()]
    longest = max((one.tokens for one in read), default=1)
    return Lengths(
        longest,
        max((one.supervised for one in read), default=1),
        len(rows),
        COUNTED,
        all(one.tokens == longest for one in read),
    )


def _of_totals(prepared: Artifact) -> Lengths:
    totals = prepared.json(FACTS)
    mean = -(-totals["supervised"] // max(1, totals["rows"]))
    return Lengths(totals["longest"], min(2 * mean, totals["longest"]), totals["rows"], COUNTED)


def guess(one: Training, learnt: Learnt) -> Lengths:
    """Of rows that are not prepared: from the bytes of their texts, at most `max_length`."""
    most = one.trainer.options.max_length
    rows = rows_of([*learnt.train, *learnt.validation])
    if one.trainer.packs:
        return bound(one)._replace(rows=len(rows))
    sizes = [_size(example_of(one.format, row)) for row in rows]
    longest = max((asked + answered for asked, answered in sizes), default=most)
    return Lengths(min(most, longest), min(most, max((size for _, size in sizes), default=most)), len(rows), GUESSED)


def bound(one: Training) -> Lengths:
    """Of rows of which nothing is known: all are as long as they may be, and every token bears a loss."""
    most = one.trainer.options.max_length
    return Lengths(most, most, 1 << 30, BOUND, one.trainer.packs)


def _size(example: AnyExample) -> tuple[int, int]:
    """Tokens of what is given and of what is learnt, guessed."""
    answers = [example.chosen, example.rejected] if isinstance(example, Preference) else [example.completion]
    extra = A_MESSAGE if isinstance(example, (Preference, Feedback)) else 0
    return _tokens(example.prompt) + extra, max(map(_tokens, answers))


def _tokens(text: Text) -> int:
    said = texts(text)
    return sum(-(-len(one.encode()) // A_TOKEN) for one in said) + A_MESSAGE * len(said)


class Fit(NamedTuple):
    """What the heaviest step that is foretold takes, and at most with its error bar, in bytes."""

    step: str
    bytes: int
    most: int


def heaviest(foreseen: Sequence[Foreseen], known: Mapping[str, Bar]) -> Fit | None:
    """None where nothing is foretold."""
    found = [
        Fit(one.step, peak.bytes, known.get(kind_of(one.step), bar(())).around(peak.bytes)[1])
        for one in foreseen
        if (peak := one.peak) is not None
    ]
    return max(found, key=lambda fit: fit.most, default=None)


def to_json(foreseen: Sequence[Foreseen], known: Mapping[str, Bar], free: int) -> dict[str, Any]:
    """The forecast as `plan --json` prints it; `free` are this machine's bytes that nobody holds, 0 if not known."""
    fit = heaviest(foreseen, known)
    return {
        "bytes": fit and fit.bytes,
        "most_bytes": fit and fit.most,
        "free_bytes": free,
        "steps": [_told(one, known.get(kind_of(one.step), bar(()))) for one in foreseen],
    }


def _told(one: Foreseen, bounds: Bar) -> dict[str, Any]:
    phases = [
        {
            "phase": peak.phase,
            "bytes": peak.bytes,
            "low": bounds.around(peak.bytes)[0],
            "high": bounds.around(peak.bytes)[1],
            "terms": {term.name: term.bytes for term in peak.terms},
        }
        for peak in one.peaks
    ]
    told = {"step": one.step, "device": one.device, "basis": one.basis, "unknown": one.unknown}
    return {**told, "measured": bounds.seen, "phases": phases}


def foretold(made: Plan, changed: Resolved, store: Store) -> Fit:
    """The heaviest step of a plan's spec with some options changed: its rows and its base are the plan's.

    Raises `BadInput` where nothing is foretold.
    """
    done = made.hits(store)
    changed = changed._replace(facts=replace(changed.facts, model_config=made.resolved.facts.model_config))
    foreseen = foresee(changed, made.steps, made.device, made.guessed, done)
    fit, untold = (
        heaviest(foreseen, bars(store)),
        [one for one in foreseen if one.unknown and kind_of(one.step) == TRAIN],
    )
    if fit is None or untold:  # what the heaviest step takes is not known: the others' fit would say nothing
        whys = {f"{one.step}: {one.unknown}" for one in untold or foreseen}
        raise BadInput(f"no memory is foretold of {'; '.join(sorted(whys)) or 'this spec'}",
                       fix="run it once: `tunewright show` tells what each step held")  # fmt: skip
    return fit
