"""The spec as a model. Parts are held raw (`kind` and its options): the installed plugins know them, not the core."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    NonNegativeInt,
    PositiveInt,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from tunewright.spec.document import Document, Key

API_VERSION = "tunewright/v1"
PROJECT = r"^[a-z0-9][a-z0-9._-]{0,63}$"  # what a project may be called: its runs' folder is called by it
SPLIT = "split"  # the one kind that the core fills itself: it needs the training rows, not a source


Dtype = Annotated[Literal["bf16", "fp16", "fp32"], Field(description="Type of the weights that stay unquantized.")]
Version = Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+([-+.][0-9A-Za-z.-]+)?$", description="Semantic version.")]


class Part:
    """One place of the spec that a plugin fills: the kind, and its options as written."""

    def __init__(self, kind: str, raw: Mapping[str, Any]) -> None:
        self.kind = kind
        self.raw = raw

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.read, serialization=core_schema.plain_serializer_function_ser_schema(lambda part: dict(part.raw))
        )

    @classmethod
    def read(cls, value: Any) -> Part:
        """`{kind: NAME, …}`, or just the kind; a part that was read stays as it is."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value, {"kind": value})
        if isinstance(value, dict) and isinstance(value.get("kind"), str):
            return cls(value["kind"], value)
        raise PydanticCustomError("part", "a part is `{kind: NAME, …}` or just its kind")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class Model(_Section):
    """The base model."""

    source: Annotated[Part, Field(description="Where the base model comes from.")]
    dtype: Dtype = "bf16"
    loader: Annotated[Part | None, Field(description="How its folder becomes a model; by default `transformers`.")] = (
        None
    )


class Split(_Section):
    """Rows taken out of the training rows. Equal rows never stand on both sides."""

    kind: Annotated[Literal["split"], Field(description="Rows are taken out of `train`.")]
    fraction: Annotated[float, Field(gt=0, lt=1, description="Share of the training rows that is taken out.")]
    group: Annotated[str | None, Field(description="Column whose equal values stay on one side, as a customer's.")] = (
        None
    )
    time: Annotated[
        str | None, Field(description="Column of a date, a time or a number: the latest rows are taken out.")
    ] = None

    @model_validator(mode="after")
    def _one_of_group_and_time(self) -> Split:
        if self.group is not None and self.time is not None:
            raise ValueError("`group` keeps rows together and `time` parts them by order: choose one")
        return self


def _split_or_sources(value: Any) -> str:
    return "split" if isinstance(value, (dict, Split)) else "sources"


Held = Annotated[
    Annotated[Split, Tag("split")] | Annotated[list[Part], Tag("sources")], Discriminator(_split_or_sources)
]
"""Rows that are not learnt: sources of their own, or a split of the training rows."""


class StageData(_Section):
    """What one stage learns, and what it is judged on while it does."""

    format: Annotated[Part | None, Field(description="How a row becomes what is learnt; by default `data.format`.")] = (
        None
    )
    train: Annotated[
        list[Part], Field(description="Sources of the rows that are learnt; by default those of `data`, split alike.")
    ] = []
    validation: Annotated[
        Held, Field(description="Rows for early stopping and for choosing among checkpoints, never for claims.")
    ] = []


class Data(_Section):
    """What is learnt, and what claims are made on."""

    format: Annotated[Part, Field(description="How a row becomes prompt and answer.")]
    train: Annotated[list[Part], Field(description="Sources of the rows that are learnt.")] = []
    validation: Annotated[
        Held, Field(description="Rows for early stopping and for choosing among checkpoints, never for claims.")
    ] = []
    test: Annotated[Held, Field(description="Rows that claims are made on; nothing is trained or chosen on them.")] = []


class Stage(_Section):
    """One of several trainings in a row."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_]*$", description="What its steps are called by.")]
    trainer: Annotated[Part, Field(description="How the trainable parameters learn.")]
    data: Annotated[StageData | None, Field(description="What it learns; by default `data`.")] = None
    adapter: Annotated[
        Literal["continue", "merge"],
        Field(
            description="What becomes of the stage before: its adapter is trained on, or it is merged into the base and"
            " a fresh one is trained."
        ),
    ] = "continue"


BASE = "base"  # the baseline that is always there


class Baseline(_Section):
    """What the tuned model is compared with besides the base: the base with examples, or another model.

    `{few_shot: 5}` is the base with five rows of the training in its prompt; `{KIND: {…}}` is what an engine of that
    kind answers with, as a model that is served elsewhere.
    """

    name: Annotated[
        str | None, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", description="What gates and tables call it.")
    ] = None
    few_shot: Annotated[
        PositiveInt | None, Field(description="Training rows that stand before each question, with their answers.")
    ] = None
    engine: Annotated[Part | None, Field(description="Who answers in place of the base.")] = None

    @model_validator(mode="before")
    @classmethod
    def _engine_by_its_kind(cls, value: Any) -> Any:
        """`{KIND: {…}}` is `{engine: {kind: KIND, …}}`."""
        if not isinstance(value, dict):
            return value
        kinds = [key for key in value if _names_engine(key, value[key])]
        if len(kinds) != 1 or "engine" in value:
            return value  # what is too much is an unknown key
        rest = {key: one for key, one in value.items() if key != kinds[0]}
        return {**rest, "engine": Part(kinds[0], {"kind": kinds[0], **value[kinds[0]]})}

    @model_validator(mode="after")
    def _something(self) -> Baseline:
        if self.few_shot is None and self.engine is None:
            raise ValueError(f"a baseline is `{BASE}`, `{{few_shot: 5}}`, or an engine with its options")
        return self

    @property
    def called(self) -> str:
        """Its name, by default of what it is: `few_shot_5`."""
        made = [self.engine.kind] if self.engine is not None else []
        made += [f"few_shot_{self.few_shot}"] if self.few_shot is not None else []
        return self.name or "_".join(made)


def _base_or_baseline(value: Any) -> str:
    return "baseline" if isinstance(value, (dict, Baseline)) else "base"


Compared = Annotated[
    Annotated[Literal["base"], Tag("base")] | Annotated[Baseline, Tag("baseline")], Discriminator(_base_or_baseline)
]
"""What the tuned model is compared with: the base, which always is there, or something else besides."""


def _names_engine(key: Any, value: Any) -> bool:
    return isinstance(key, str) and key not in Baseline.model_fields and isinstance(value, dict)


class Package(_Section):
    """How the hand-off is named."""

    version: Version = "0.1.0"
    license: Annotated[str, Field(description="SPDX id of the adapter's licence; by default the base's.")] = ""
    target: Annotated[
        Part | None, Field(description="The exporter's kind that must be able to serve what is trained, as in `vllm`.")
    ] = None


class Spec(_Section):
    """A whole spec. Every place is checked; every other key is an error."""

    api_version: Annotated[
        Literal["tunewright/v1"], Field(alias="apiVersion", description="The form of the spec that it is written in.")
    ]
    name: Annotated[str, Field(pattern=PROJECT, description="Lower-case name of the project.")]
    requires: Annotated[
        list[str], Field(description='Distributions that must be installed, as pip writes them: "acme-plugin>=1.2".')
    ] = []
    model: Annotated[Model, Field(description="The base model.")]
    quantization: Annotated[Part | None, Field(description="How the base's weights are stored; by default `none`.")] = (
        None
    )
    adapter: Annotated[Part, Field(description="What is trained: an adapter, or with `none` the base itself.")]
    data: Annotated[Data, Field(description="Rows, and how they become examples.")]
    trainer: Annotated[Part | None, Field(description="How the trainable parameters learn; or `stages`.")] = None
    stages: Annotated[list[Stage], Field(description="Several trainings in a row, in place of `trainer`.")] = []
    evals: Annotated[list[Part], Field(description="What base and tuned model are asked on the test rows.")] = []
    baselines: Annotated[
        list[Compared],
        Field(description="What the tuned model is compared with besides the base, which always is there."),
    ] = []
    gates: Annotated[list[Part], Field(description="What must hold; a run whose gate fails makes no package.")] = []
    exports: Annotated[
        list[Part], Field(description="Further forms to write; what was trained is always written.")
    ] = []
    trackers: Annotated[list[Part], Field(description="Where the course of a training is shown besides.")] = []
    package: Annotated[Package, Field(description="How the hand-off is named.")] = Package()
    seed: Annotated[NonNegativeInt, Field(lt=2**32, description="Every random choice follows from it.")] = 0


class Place:
    """Where a part stands in the spec: which contract fills it, and the way to it."""

    def __init__(self, contract: str, key: Key, part: Part) -> None:
        self.contract, self.key, self.part = contract, key, part


# contract → the way to its part, and the kind where none is written; in the order of the pipeline
SINGLE: Mapping[str, tuple[Key, str]] = {
    "model_source": (("model", "source"), ""),
    "loader": (("model", "loader"), "transformers"),
    "quantizer": (("quantization",), "none"),
    "adapter": (("adapter",), ""),
    "prompt_format": (("data", "format"), ""),
    "trainer": (("trainer",), ""),
    "exporter": (("package", "target"), ""),
}
LISTS: tuple[tuple[str, Key], ...] = (
    ("data_source", ("data", "train")),
    ("data_source", ("data", "validation")),
    ("data_source", ("data", "test")),
    ("evaluator", ("evals",)),
    ("gate", ("gates",)),
    ("exporter", ("exports",)),
    ("tracker", ("trackers",)),
)
# the same, within each entry of a list
WITHIN: tuple[tuple[Key, Mapping[str, tuple[Key, ...]]], ...] = (
    (
        ("stages",),
        {
            "trainer": (("trainer",),),
            "prompt_format": (("data", "format"),),
            "data_source": (("data", "train"), ("data", "validation")),
        },
    ),
    (("evals",), {"prompt_format": (("format",),), "data_source": (("test",),), "engine": (("engine",),)}),
    (("exports",), {"engine": (("engine",),)}),
    (("baselines",), {"engine": (("engine",),)}),
)


def places(document: Document) -> Iterator[Place]:
    """Every well-formed part of a document, also of one whose other keys are wrong: all problems come at once."""
    for contract, (key, default) in SINGLE.items():
        part = _part(_value(document.data, key), default)
        if part is not None:
            yield Place(contract, key, part)
    for contract, key in LISTS:
        yield from _list(document, contract, key)
    for outer, inner in WITHIN:
        entries = _value(document.data, outer)
        for index, _ in enumerate(_entries(entries)):
            for contract, ways in inner.items():
                for way in ways:
                    yield from _list(document, contract, (*outer, index, *way))
    for index, entry in enumerate(_entries(_value(document.data, ("baselines",)))):
        for key, value in entry.items() if isinstance(entry, dict) else ():
            if _names_engine(key, value):
                yield Place("engine", ("baselines", index, key), Part(key, {"kind": key, **value}))


def _entries(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _list(document: Document, contract: str, key: Key) -> Iterator[Place]:
    """The parts of a list, or the one part that stands there."""
    found = _value(document.data, key)
    listed = [((*key, index), value) for index, value in enumerate(found)] if isinstance(found, list) else []
    for place, value in listed or [(key, found)]:
        part = _part(value, "")
        if part is not None and part.kind != SPLIT:
            yield Place(contract, place, part)


def _value(data: Any, key: Key) -> Any:
    for step in key:
        if isinstance(step, int):
            data = data[step] if isinstance(data, list) and step < len(data) else None
        else:
            data = data.get(step) if isinstance(data, dict) else None
    return data


def _part(value: Any, default: str) -> Part | None:
    try:
        return Part.read(default if value is None else value) if value is not None or default else None
    except PydanticCustomError:
        return None  # the spec's own check says so, with its place


def part_key(document: Document, key: Key, field: str) -> Key:
    """The way to a field of a part, `adapters.0.path` to one of a list's entries; a part written as a bare kind has
    only itself, and one written under its kind has no `kind`."""
    if (*key, "kind") not in document.values and (*key, field.partition(".")[0]) not in document.values:
        return key
    for step in field.split("."):
        listed = step.isdigit() and (*key, int(step)) in document.values
        key = (*key, int(step) if listed else step)
    return key
