"""What a report tells: plain data, checked when it is handed in, so that a misspelt field is an error and no gap."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from tunewright.data.statistics import ClassCount, Lengths
from tunewright.parts.base import Argument
from tunewright.parts.gate import Score, Verdict

Json = Any
LossCurve = tuple[tuple[int, float], ...]
"""(optimizer step, its loss)."""
MemoryCurve = tuple[tuple[int, int, int], ...]
"""(optimizer step, bytes that the process held after it, bytes taken of its GPU), 0 where it used none."""


class Fact(BaseModel):
    """Base of all facts: frozen, and no other fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Base(Fact):
    """The base model; `identity` is the digest of its weights, tokenizer and template."""

    name: str
    identity: str
    license: str | None = None


class Part(Fact):
    """A choice of the spec with its effective arguments, and who set each."""

    kind: str
    arguments: Mapping[str, Argument] = {}


class Adapter(Part):
    """The adapter: parameters that were trained, of how many in all, and the bytes of what was saved."""

    trainable: int
    total: int
    bytes: int


class Source(Fact):
    """A source of training rows; `set_aside` were read and not used."""

    name: str
    rows: int
    set_aside: int = 0


class Data(Fact):
    """Training rows, their tokens, those among them that were learnt, and the items that base and tuned were asked.

    Of several trainings the counts are sums, and each stage has its own `sources`, `lengths` and `classes`. The last
    two are what `data show` prints; no classes where the answers are texts.
    """

    rows: int
    tokens: int
    supervised: int
    test_rows: int
    sources: tuple[Source, ...] = ()
    lengths: Lengths | None = None
    classes: tuple[ClassCount, ...] | None = None
    repeats: tuple[str, ...] = ()
    """Which rows that judge the model were shown to it, a sentence each."""


class Validation(Fact):
    """(optimizer step, loss on the validation rows), how many rows these are, and the step whose weights were kept."""

    rows: int = 0
    loss: tuple[tuple[int, float], ...] = ()
    best_step: int | None = None


class Stage(Fact):
    """One of several trainings in a row: by what, on which rows and tokens, and its loss by optimizer step."""

    name: str
    trainer: Part
    rows: int
    tokens: int
    supervised: int
    sources: tuple[Source, ...] = ()
    lengths: Lengths | None = None
    classes: tuple[ClassCount, ...] | None = None
    steps: int
    loss: LossCurve = ()
    memory: MemoryCurve = ()
    validation: Validation = Validation()


class Parent(Fact):
    """What the training went on from."""

    digest: str
    name: str = ""
    version: str = ""


class Step(Fact):
    """A step of the run: wall-clock seconds and the process's peak resident memory; None where it was not measured.

    `forecast_bytes` is what the plan said that it would hold, with the tokens as they were prepared; on a GPU
    `peak_device_bytes` is what it is to be compared with.
    """

    name: str
    seconds: float | None = None
    peak_rss_bytes: int | None = None
    peak_device_bytes: int | None = None
    forecast_bytes: int | None = None


class Substituted(Fact):
    """What a library did otherwise than it was asked; `stage` is empty where there is one training."""

    what: str
    asked: Json
    got: Json
    why: str
    stage: str = ""


class Parity(Fact):
    """An exported form, reopened: share of golden answer tokens that it repeats, on how many prompts, and its size.

    `engine` is the kind of the one that it was asked with: the figures hold for that one. `diverged` prompts get
    another answer, the earliest at token `first_divergence`, counted from 0; `retokenized` prompts become other token
    ids, and `unended` answers run on to the limit where the trained form's end. `identity` is the digest of the trained
    tensors that it carries, or of the whole model where its weights were computed anew. `kl` is in nats. Of each of its
    `scores`, `base` is the trained form's and `tuned` its own. `refused` says why it is not handed over.
    """

    engine: str
    agreement: float
    prompts: int
    bytes: int
    diverged: int = 0
    first_divergence: int | None = None
    retokenized: int = 0
    unended: int = 0
    identity: str | None = None
    kl: float | None = None
    scores: Mapping[str, Score] = {}
    refused: tuple[str, ...] = ()
    tokens_per_second: float | None = None
    peak_rss_bytes: int | None = None


class Tried(Fact):
    """A variant of an export: the line of a spec that makes it, what its certificate says, why it is refused.

    What could not be made or asked has no figures.
    """

    written: str
    agreement: float | None
    bytes: int | None
    kl: float | None = None
    scores: Mapping[str, Score] = {}
    refused: tuple[str, ...] = ()


class Search(Fact):
    """What was tried of an export that was refused: first as the spec writes it; `found` is the line that passes."""

    tried: tuple[Tried, ...]
    found: str | None = None


class Example(Fact):
    """A test row that base and tuned answered differently: alike in the first `alike` characters, and apart from the
    token `token` on, counted from 0; None where one answer's tokens are the beginning of the other's."""

    origin: str
    prompt: str
    reference: str
    base: str
    tuned: str
    alike: int = 0
    token: int | None = None


class Examples(Fact):
    """Rows of an evaluation that tuning won and lost by `metric`: some to look at, and how many there are."""

    metric: str = ""
    won: tuple[Example, ...] = ()
    lost: tuple[Example, ...] = ()
    won_count: int = 0
    lost_count: int = 0


class Span(Fact):
    """A stretch of a training row's text, and whether it is learnt."""

    text: str
    supervised: bool


class MaskedRow(Fact):
    """A training row as the model sees it; `stage` is empty where there is one training."""

    origin: str
    spans: tuple[Span, ...]
    stage: str = ""


class Machine(Fact):
    """Where the run's figures come from."""

    cores: int
    cpu: str
    threads: int
    device: str


class Rows(Fact):
    """The rows of a training among themselves: `equal` to an earlier one, of these with another answer (`otherwise`),
    and only `near` to one. `name` is empty for the only training."""

    name: str
    rows: int
    equal: int
    otherwise: int
    near: int
    groups: int


class Contaminated(Fact):
    """An item that stands in a row that is learnt: `kind` is `exact`, `near`, `contained` or `partial`."""

    origin: str
    kind: Literal["exact", "near", "contained", "partial"]
    similarity: float
    row: str
    rows: int
    answer: bool


class Looked(Fact):
    """The items of an evaluation that were looked up, those found, and how many test rows were removed before.

    `unlooked` counts the items of which it is not known whether a parent learnt them.
    """

    items: int
    removed: int = 0
    unlooked: int = 0
    found: tuple[Contaminated, ...] = ()


class Contamination(Fact):
    """What was compared with the rows that are learnt, and what was found. `clean` are scores without what was found,
    by `clean.<evaluation>.<metric>`."""

    threshold: float
    trainings: tuple[Rows, ...]
    evaluations: Mapping[str, Looked]
    clean: Mapping[str, Score] = {}


class Measured(Fact):
    """Of one label: its rows, the share of its answers that are right, the share of its rows that are found, and F1.

    `precision` is None where the label was never answered, `recall` where no row has it.
    """

    count: int
    precision: float | None
    recall: float | None
    f1: float


class Label(Fact):
    """A label's measures for both sides."""

    label: str
    base: Measured
    tuned: Measured


class Classes(Fact):
    """What the tuned model took for what. `matrix` has a row for each of `labels`, of answers by label, with those that
    are none at the end; where it is empty, `confused` has the commonest mistakes: reference, answer, count."""

    labels: tuple[Label, ...]
    matrix: tuple[tuple[int, ...], ...] = ()
    confused: tuple[tuple[str, str | None, int], ...] = ()


class Sure(Fact):
    """Answers of about one confidence: how many, how sure in the mean, the share that is right."""

    count: int
    confidence: float
    accuracy: float


class Calibration(Fact):
    """Both sides' answers by how sure they are, from unsure to sure."""

    base: tuple[Sure, ...]
    tuned: tuple[Sure, ...]


class Habits(Fact):
    """How one side answers: items, those of them that were answered in the model's own words, of these the mean tokens,
    those cut by the limit and those that decline; and items whose choices were tied."""

    items: int
    said: int
    tokens: float | None
    cut: int
    refusals: int
    ties: int


class Answers(Fact):
    """How both sides answer."""

    base: Habits
    tuned: Habits


class ReportFacts(Fact):
    """Everything that `render` shows. Scores by `<evaluation>.<metric>`, parity by form, loss by optimizer step.

    `ReportFacts.model_validate` takes nested facts as mappings. Empty sections are left out, but for gates and
    substitutions, where nothing is an answer.
    """

    name: str
    verdict: Literal["passed", "failed"]
    why: str = ""
    base: Base
    quantization: Part
    adapter: Adapter
    trainer: Part | None = None
    """Of the only training, as `validation` and `loss`; several are told in `stages`."""
    validation: Validation = Validation()
    stages: tuple[Stage, ...] = ()
    parent: Parent | None = None
    data: Data
    readings: tuple[str, ...] = ()
    """What the scores mean, a sentence each."""
    scores: Mapping[str, Score] = {}
    baselines: Mapping[str, Mapping[str, Score]] = {}
    """Scores against each baseline, which is `base` in them, by its name."""
    unanswered: Mapping[str, Mapping[str, str]] = {}
    """By baseline, the evaluations that it does not answer, and why."""
    classes: Mapping[str, Classes] = {}
    """By task, `<evaluation>.<task>`; by evaluation where it has no several, as `calibration` and `answers`."""
    calibration: Mapping[str, Calibration] = {}
    answers: Mapping[str, Answers] = {}
    proofs: tuple[str, ...] = ()
    """Of which weights each evaluation was asked, and that they are not the base's, a sentence each."""
    unproven: tuple[str, ...] = ()
    """Which scores come from weights that nothing here has seen, a sentence each."""
    contamination: Contamination | None = None
    gates: tuple[Verdict, ...] = ()
    loss: LossCurve = ()
    memory: MemoryCurve = ()
    examples: Mapping[str, Examples] = {}
    """By evaluation."""
    mask: tuple[MaskedRow, ...] = ()
    parity: Mapping[str, Parity] = {}
    search: Mapping[str, Search] = {}
    """By the export's name."""
    steps: tuple[Step, ...] = ()
    machine: Machine | None = None
    substituted: tuple[Substituted, ...] = ()
    libraries: Mapping[str, str] = {}
    spec_text: str = ""
