"""What every backend has in common: options, the way of an option into a library, capabilities, its signature.

A *part* is a place in the spec (`trainer`), a *kind* one choice for it (`sft`), a *backend* the class behind
`trainer/sft`. One option makes three hops and no more: the spec's line, the field of `Options`, the library's
argument that its `To` names. The plan, the docs, the unused-key test and the cache key all read that same `To`.

A complete backend, a format whose option `longest` becomes the argument `width` of a library's function:

    import textwrap
    from typing import Annotated

    from pydantic import Field, PositiveInt
    from tunewright import BadInput
    from tunewright.parts import Finding, Options, PromptFormat, To
    from tunewright.parts.prompt_format import Example
    from tunewright.testing import check_prompt_format

    class BriefOptions(Options):
        kind: str = "brief"
        longest: Annotated[
            PositiveInt, To("width"), Field(description="Characters of a prompt that are kept.")
        ] = 200
        before: Annotated[str, Field(description="Words before each text.")] = "Route this:"

    class Brief(PromptFormat[BriefOptions]):
        kind, Options, makes = "brief", BriefOptions, "messages"
        fixed = {"placeholder": ""}     # arguments that we set ourselves
        reads = frozenset({"before"})   # what our own code reads: any other field needs a `To`
        vary = {"before": ("Route:", "Sort:")}  # for the kit: values that make a difference

        def check(self, facts):  # before anything is fetched; a finding stands at its field's line
            if self.options.longest <= len(self.options.before):
                yield Finding("bad-value", "no text would be left of any row", "longest")

        def columns(self):  # column → the field that names it
            return {"text": "kind", "label": "kind"}

        def prompt_columns(self):
            return frozenset({"text"})

        def prompt(self, fields):
            passed = {name: argument.value for name, argument in self.arguments().items()}
            text = f"{self.options.before} {text_of(fields, 'text')}"
            return [{"role": "user", "content": textwrap.shorten(text, **passed)}]

        def example(self, fields):
            answer = {"role": "assistant", "content": text_of(fields, "label")}
            return Example(self.prompt(fields), [answer])

    def text_of(fields, column):
        if fields.get(column) in (None, ""):
            raise BadInput(f"the row has no value in column `{column}`")
        return str(fields[column])

    def test_it_keeps_its_contract(tmp_path):
        check_prompt_format(Brief, folder=tmp_path)
"""

from __future__ import annotations

import sys
from abc import ABC
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Literal, NamedTuple, TypeVar, final

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError, core_schema

from tunewright.digest import digest_json, digest_tree
from tunewright.errors import BadInput
from tunewright.secrets import REFERENCE, reveal

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler


Json = Any  # a value that JSON can hold; pydantic's own JsonValue costs 10 ms of import for nothing that we use
SetBy = Literal["spec", "tunewright", "library"]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
"""What scores, artifacts and files are called by: it becomes part of a path."""


class Options(BaseModel):
    """Base of every backend's options: unknown keys are errors, values are frozen once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True, strict=True, allow_inf_nan=False)

    kind: Annotated[str, Field(description="Which backend fills the part.")]


class LibraryOptions(Options):
    """Options of a backend that `accepts` a library's arguments: `args:` passes any further one by its own name."""

    args: Annotated[dict[str, Json], Field(description="Further arguments of the library, by its own names.")] = {}


class To(NamedTuple):
    """Marks a field that becomes a library's argument: `epochs: Annotated[float, To("num_train_epochs")] = 1`."""

    argument: str


class Unkeyed(NamedTuple):
    """Marks a field that changes how a run goes and never what comes of it, as how often a checkpoint is kept: a step
    is not done anew because of it."""


@dataclass(frozen=True)
class Argument:
    """One effective argument of a library call, and who set it. `field` is the option it came from, if any."""

    value: Json
    set_by: SetBy
    field: str | None = None
    why: str = ""
    """Where a value that was chosen comes from: a rule, a paper."""


LONGEST_PATH, LONGEST_NAME = 4096, 255  # bytes, by POSIX


class PathText(str):
    """A path's text with the folder that it starts from: that of the file that wrote it."""

    folder: Path

    def __new__(cls, text: str, folder: Path) -> PathText:
        made = super().__new__(cls, text)
        made.folder = folder
        return made


class SpecPath:
    """A path in a spec, relative to the file that wrote it. Serializes as written, so locks and packages can move."""

    def __init__(self, written: str, folder: Path) -> None:
        self.written = written
        try:
            self.path = (folder / Path(written).expanduser()).absolute()
        except RuntimeError as error:  # `~nobody/…`
            raise ValueError(f"`{written}` names a home folder that is not there") from error

    def __repr__(self) -> str:
        return f"SpecPath({self.written!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SpecPath) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def read(value: object) -> SpecPath:
            if isinstance(value, cls):
                return value
            if not isinstance(value, str) or not value:
                raise PydanticCustomError("path_type", "A path is text")
            if len(value.encode()) > LONGEST_PATH or any(len(p.encode()) > LONGEST_NAME for p in Path(value).parts):
                raise ValueError("the path is longer than a file system takes")
            return cls(str(value), value.folder if isinstance(value, PathText) else Path.cwd())

        return core_schema.json_or_python_schema(
            json_schema=core_schema.str_schema(min_length=1),
            python_schema=core_schema.no_info_plain_validator_function(read),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.written),
        )


class Secret:
    """Text with `${env:NAME}` in it, read from the environment when `reveal` is called; a literal value is refused.

    Serializes as written: locks, keys, reports and packages hold the variable's name, never its value.
    """

    def __init__(self, written: str) -> None:
        self.written = written

    def __repr__(self) -> str:
        return f"Secret({self.written!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.written == other.written

    def __hash__(self) -> int:
        return hash(self.written)

    def reveal(self) -> str:
        """The value, now. Raises `EnvironmentFault` where the variable is not set."""
        return reveal(self.written)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        def read(value: object) -> Secret:
            if isinstance(value, cls):
                return value
            if not isinstance(value, str) or not REFERENCE.search(value):
                # the value itself is not shown: it may be the secret
                raise PydanticCustomError("secret_in_spec", "A secret never stands in a spec")
            return cls(value)

        return core_schema.json_or_python_schema(
            json_schema=core_schema.str_schema(pattern=REFERENCE.pattern),
            python_schema=core_schema.no_info_plain_validator_function(read),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value.written),
        )


class Cap(StrEnum):
    """What a backend can do. Rules between parts are written with these, never with kinds."""

    TRAINABLE = "trainable"  # a quantizer whose base can carry gradients to an adapter
    FULLY_TRAINABLE = "fully-trainable"  # a quantizer whose base weights themselves can be trained
    FOUR_BIT = "packed in 4 bits"  # a quantizer whose layers hold 4-bit weights, and can be unpacked to compare
    TAKES_MERGES = "able to take merges"  # a quantizer over a base that an adapter can be merged into
    UNPACKS = "able to give back the weights that it packed"  # a quantizer that tells what its base held in training
    MAKES = "made of the training rows"  # a quantizer that packs a base in a step of its own, before any training
    ADAPTS = "saved apart from its base"  # an adapter method that leaves the base frozen and saves a part apart
    MERGES = "able to merge"  # an adapter method that can be merged into the base's weights
    BESIDE = "able to learn beside weights that it cannot read"  # an adapter method that needs a layer's output alone
    NEUTRAL = "without effect on its base until it is trained"  # an adapter method whose fresh weights change no answer
    BY_TOKEN = "computed for each token by itself, and alike each time"  # an adapter method, in training too
    LORA = "made of LoRA's matrices A and B"  # an adapter method whose two factors can learn at rates of their own
    VLLM = "loadable by vLLM"  # an adapter that vLLM loads
    SCORES = "able to score given texts"  # an engine that tells of each token of a given text how likely it was
    LIKELIEST = "able to tell the likeliest tokens"  # an engine whose subjects have `likeliest`, which `kl` is made of
    LLAMACPP = "loadable by llama.cpp"  # an adapter that can be said as a GGUF, and that llama.cpp loads


class Need(NamedTuple):
    """`Need("quantizer", Cap.TRAINABLE, code="base-not-trainable")`: this backend needs that of another part."""

    part: str
    cap: Cap
    code: str
    why: str = ""

    def __str__(self) -> str:
        """As a sentence says it: `an adapter that is loadable by vLLM`."""
        part = self.part.replace("_", " ")
        return f"{'an' if part[0] in 'aeiou' else 'a'} {part} that is {self.cap}"


class Finding(NamedTuple):
    """What a backend's own check found wrong, on one of its fields; the resolver gives it a position."""

    code: str
    message: str
    field: str = "kind"
    suggestion: str = ""
    at_key: bool = False
    """Points at the key rather than at its value."""


class BadOption(BadInput):
    """Raised by a backend or the core where a value of the spec cannot be used; the resolver gives it a position."""

    def __init__(self, code: str, message: str, field: str = "kind", suggestion: str = "") -> None:
        super().__init__(message, fix=suggestion)
        self.finding = Finding(code, message, field, suggestion)


class Head(NamedTuple):
    """What is known of a source of rows at once: its columns and first rows, from at most 64 KiB."""

    columns: tuple[str, ...]
    rows: tuple[Mapping[str, Json], ...] = ()


@dataclass(frozen=True)
class Facts:
    """What is known before anything is fetched: files' heads and the model's config, both without torch.

    `train` and `test` hold each source's head; `model_config` is None where the source cannot know it yet.
    """

    model_config: Mapping[str, Json] | None = None
    train: tuple[Head, ...] = ()
    test: tuple[Head, ...] = ()
    metrics: frozenset[str] = frozenset()
    """Every `<evaluation>.<metric>` that the spec's evaluations make, also as certificates and baselines have it."""
    biased: Mapping[str, str] = field(default_factory=dict)
    """Those of `metrics` by whose difference nothing is compared (`Evaluator.biased`), and the one to take instead."""
    largest: Mapping[str, float] = field(default_factory=dict)
    """Those of `metrics` that lie between 0 and a known bound (`Evaluator.largest`), and that bound."""
    evaluations: frozenset[str] = frozenset()
    """The names of the spec's evaluations."""
    offers: Mapping[str, frozenset[Cap]] = field(default_factory=dict)
    rows: tuple[tuple[Any, ...], ...] = ()
    """Of each source that is trained on, in the spec's order: the rows (`data_source.Row`) that `where` keeps. At
    `validate` those of the head; from `plan` on every row that is trained on, and `complete` is true."""
    complete: bool = False
    validation: bool = False
    """Whether the training has rows for early stopping and selection."""
    dtype: str = ""
    """`model.dtype`: the type of the weights that stay unquantized."""
    saves: Mapping[str, Json] = field(default_factory=dict)
    """What the adapter's method will save its weights under, as far as it is known (`AdapterMethod.saves`)."""


O = TypeVar("O", bound=Options)


class Backend(ABC, Generic[O]):
    """Base of every backend. A plugin subclasses the contract of its part, see the other modules of this package."""

    part: ClassVar[str]
    kind: ClassVar[str]
    Options: ClassVar[type[Options]]
    extra: ClassVar[str] = ""  # the pip extra named when its import fails
    libraries: ClassVar[tuple[str, ...]] = ()  # distributions whose versions enter the key
    accepts: ClassVar[str] = ""  # "trl:SFTConfig": what the arguments are for; `args:` may name further ones
    at_run: ClassVar[Mapping[str, str]] = {}  # arguments that only a run knows, and in words what they will be
    fixed: ClassVar[Mapping[str, Json]] = {}  # library arguments that we set ourselves
    reads: ClassVar[frozenset[str]] = frozenset()  # fields its own code reads; any other field needs a To
    vary: ClassVar[Mapping[str, tuple[Json, Json]]] = {}  # for the kit: two values of a field that must differ

    options: O

    def __init__(self, options: O) -> None:
        self.options = options

    def offers(self) -> frozenset[Cap]:
        """What this backend can do, given its options."""
        return frozenset()

    def needs(self) -> Iterable[Need]:
        """What this backend needs of the spec's other parts."""
        return ()

    def check(self, facts: Facts) -> Iterable[Finding]:
        """Everything wrong that can be seen without fetching or importing anything heavy."""
        return ()

    def lacking(self) -> str | None:
        """What must be installed before it can do its work here, as a sentence with the command; None for nothing.

        Asked at `plan`, before hours of work; it imports nothing heavy and starts nothing.
        """
        return None

    def takes_up(self) -> Mapping[str, SpecPath]:
        """Folders that other runs saved and that it reads, by the option that names each: `{"parent": …}`.

        They must be there, and what they hold is in the key. A package among them is verified, and refused where it is
        of another base than the run's, or of another quantization of it.
        """
        return {}

    def takes_other_quantization(self) -> Container[str]:
        """Those of `takes_up`, by the same options, whose package may be of another quantization: the spec says so."""
        return ()

    @final
    def arguments(self) -> dict[str, Argument]:
        """The library's arguments from options alone, sorted by name: `To` fields, `fixed`, then `args`."""
        found = {name: Argument(value, "tunewright") for name, value in self.fixed.items()}
        for name, info in type(self.options).model_fields.items():
            set_by: SetBy = "spec" if name in self.options.model_fields_set else "tunewright"
            for mark in info.metadata:
                if isinstance(mark, To):
                    found[mark.argument] = Argument(getattr(self.options, name), set_by, name)
        for name, value in getattr(self.options, "args", {}).items():
            found[name] = Argument(value, "spec", "args")
        return dict(sorted(found.items()))

    def derive(self, facts: Facts) -> dict[str, Argument]:
        """Arguments that need the model, another part or the device: a pure function of keyed inputs."""
        return {}

    def decide(self, facts: Facts) -> dict[str, Argument]:
        """What its own code does by what other parts are, and passes to no library: shown by `plan` beside these."""
        return {}

    def versions(self) -> dict[str, str]:
        """What its results depend on beside its own code, by name: distributions and their versions."""
        return {name: library_version(name) for name in self.libraries}

    @final
    def signature(self) -> str:
        """Digest of everything about this backend that can change a result: options, arguments, versions, code."""
        arguments = {name: argument.value for name, argument in self.arguments().items()}
        return digest_json({**self.provenance(), "options": self.settings(), "arguments": arguments})

    @final
    def provenance(self) -> dict[str, Json]:
        """What it is whatever its options: its kind, the versions of its libraries, its code."""
        return {
            "backend": f"{self.part}/{self.kind}",
            "libraries": self.versions(),
            "code": code_digest(type(self).__module__),
        }

    @final
    def settings(self) -> dict[str, Json]:
        """The options that a result depends on, as plain data.

        Paths are left out, in entries of lists too: what a file holds counts, not where it lies. So are the fields
        marked `Unkeyed`.
        """
        return self.options.model_dump(mode="json", exclude=_out_of_key(self.options))


def _out_of_key(options: BaseModel) -> dict[str, Any]:
    """The fields that `settings` leaves out, as pydantic's `exclude` has them."""
    found: dict[str, Any] = {}
    for name, info in type(options).model_fields.items():
        value = getattr(options, name)
        if isinstance(value, SpecPath) or any(isinstance(mark, Unkeyed) for mark in info.metadata):
            found[name] = True
        elif isinstance(value, list):
            inner = {place: _out_of_key(one) for place, one in enumerate(value) if isinstance(one, BaseModel)}
            found |= {name: inner} if any(inner.values()) else {}
    return found


@cache
def library_version(distribution: str) -> str:
    """The installed version, or `absent`: a plan can be made where the library is not installed."""
    import importlib.metadata  # late: it is heavy, and `validate` needs no version

    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


@cache
def code_digest(module: str) -> str:
    """Digest of the Python files of the top-level package that `module` belongs to."""
    top = module.partition(".")[0]
    origin = getattr(sys.modules[top], "__file__", None)
    if origin is None:  # a namespace package, or code typed at a prompt: no file to digest
        return "no-file"
    path = Path(origin)
    if path.name != "__init__.py":
        return digest_tree(path.parent, [path])
    return digest_tree(path.parent, sorted(path.parent.rglob("*.py")))
