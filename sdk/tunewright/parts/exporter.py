"""How what was trained leaves the run, in a form that a client serves.

A complete exporter, which puts a note beside the trained files:

    import shutil
    from typing import Annotated

    from pydantic import Field
    from tunewright.parts import Exporter
    from tunewright.parts.exporter import ExporterOptions, Form
    from tunewright.testing import check_exporter

    class NotedOptions(ExporterOptions):
        kind: str = "noted"
        note: Annotated[str, Field(description="What NOTE.txt says.")] = "Not for medical use."

    class Noted(Exporter[NotedOptions]):
        kind, Options = "noted", NotedOptions
        reads = frozenset({"note"})

        def export(self, trained, out):
            if not trained.adapts:  # a model by itself also needs the base's tokenizer and template
                for file in trained.base.iterdir():
                    if file.is_file() and ".safetensors" not in file.name:
                        shutil.copyfile(file, out / file.name)
            for file in trained.saved.iterdir():
                shutil.copyfile(file, out / file.name)
            (out / "NOTE.txt").write_text(f"{trained.base_name}: {self.options.note}")
            # parity reopens it so
            return Form(engine=trained.engine, attach=trained.adapts, speaks=not trained.adapts)

    def test_it_keeps_its_contract(tmp_path):
        check_exporter(Noted, folder=tmp_path)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from tunewright.errors import Refused
from tunewright.parts.base import Backend, Cap, Facts, Json, Name, O, Options, Unkeyed
from tunewright.parts.evaluator import PartOf
from tunewright.parts.model_source import Published
from tunewright.parts.quantizer import Calibration
from tunewright.parts.whole import Into, Whole


class ExporterOptions(Options):
    """The fields of every exporter that the core itself reads."""

    name: Annotated[Name | None, Field(description="Key of the artifact; by default the kind.")] = None
    # `Unkeyed`: the backend that it becomes is keyed by what it is
    engine: Annotated[
        PartOf | None,
        Unkeyed(),
        Field(description="Who opens it for the certificate; by default what opens such files, or `model.loader`'s."),
    ] = None


class Trained(NamedTuple):
    """What was trained, and on which base; `merge` gives the whole model that both are together."""

    saved: Path
    base: Path
    identity: str
    base_name: str
    engine: str
    tokenizer: Any
    adapts: bool
    whole: Whole | None = None
    calibration: Calibration | None = None
    """Rows that were trained on, for an exporter that `calibrates`; None for the others."""
    seed: int = 0
    """The spec's, for an exporter that `draws`."""
    published: Published | None = None
    """Where anyone loads the base from; None for one that lies in a folder alone, as one that the run itself made."""

    @property
    def dtype(self) -> str:
        """`bf16`, `fp16` or `fp32`: the type that the base was loaded in when it was trained on."""
        return self._merging.dtype

    @property
    def trained_on(self) -> Into:
        """Which of the base's weights were trained on: its own, or what a quantization left of them."""
        return self._merging.trained_on

    def merge(self, out: Path, dtype: str, into: Into) -> None:
        """Write the merged model with its tokenizer, template and licence into the empty folder `out`.

        `dtype` is `bf16`, `fp16` or `fp32`. Raises `Refused`, as where `base` has another identity than `identity`.
        """
        self._merging.write(self.base, self.identity, self.saved, out, dtype, into)

    def outline(self) -> Any:
        """The base's modules without their numbers, made anew. Raises `Refused` where they cannot be told."""
        return self._merging.model(self.base).modules

    @property
    def _merging(self) -> Whole:
        if self.whole is None:
            raise Refused("what was trained cannot be merged here", fix="export it as it is")
        return self.whole


@dataclass(frozen=True)
class Form:
    """How anyone reopens an exported form: the engine, and whether it is attached to the base or a model by itself."""

    engine: str
    attach: bool
    dtype: str | None = None
    """`bf16`, `fp16` or `fp32`: the type of a whole model that was computed anew, as a merged one is, and is opened as
    it is. None where it is opened as the spec says: the trained tensors themselves, or others of their kind."""
    speaks: bool = False
    """Whether its folder holds a tokenizer with its chat template: then prompts are made by that one, as its client
    will; else by the base's."""
    options: Mapping[str, Json] = field(default_factory=dict)
    """Options of the engine, beside its kind: plain JSON."""
    quantizer: Mapping[str, Json] | None = None
    """The quantizer, as a spec would write it, by which weights that were computed anew are opened; None for none."""
    digest: str | None = None
    """Of tensors that take the trained ones' place on the base, as the method's own `digest` gives it: what is reopened
    must carry exactly those. None for the trained ones, and for a whole model that was computed anew."""


class Exporter(Backend[O]):
    """Writes one form of what was trained."""

    part: ClassVar[str] = "exporter"
    engine: ClassVar[str] = ""
    """Kind of the engine that opens what it writes; empty for the one that the spec's loader names."""
    attaches: ClassVar[bool] = False
    """Whether what it writes of an adapter is put on the base to be opened (`Form.attach`), and is no whole model."""
    on_stored: ClassVar[bool] = False
    """Whether its client puts what it writes of an adapter on the base as it lies in its files, and packs it by no
    quantization that was trained over. It is then asked so for its certificate: its scores are not the trained form's
    where the training's base was packed while it was loaded (`Quantizer.as_stored`)."""
    calibrates: ClassVar[bool] = False
    """Whether it reads rows that were trained on (`Trained.calibration`): another row then makes another export."""

    @property
    def name(self) -> str:
        """Key of the artifact, of its step and of its parity."""
        return getattr(self.options, "name", None) or self.kind

    def variants(self, facts: Facts) -> Iterable[Mapping[str, Json]]:
        """Other options to try where its form is refused, one after the other: for `run --search-export`.

        Each names the options that differ from the defaults, with their values. They stand in the order of what a
        client pays for them, so the smallest form comes first: the first that passes is taken. What the spec writes
        stays as it is written: such an option is taken out of every variant, and a variant that then is like another
        is left out, as is one that `check` refuses. A pure function of options and facts; none where there is nothing
        to search.
        """
        return ()

    def packed(self, facts: Facts) -> Mapping[str, Json]:
        """How the weights of the model that it writes are packed, as far as options and facts tell: keys that its
        config.json will have in `quantization_config`, and `dtype`, the type of what is not packed. By these an engine
        says at `validate` what it does not open. Empty where nothing is packed."""
        return {}

    def draws(self) -> bool:
        """Whether it draws at random, by `Trained.seed`: another seed then makes another export."""
        return False

    def leaves(self, offers: frozenset[Cap], facts: Facts) -> frozenset[Cap]:
        """Of what the adapter's method `offers`, what the adapter that is written still can: it may be another one."""
        return offers

    def fit(self, outline: Callable[[], Any]) -> None:
        """Try what it takes up on the base's modules without their numbers, which `outline` makes anew: `plan` does,
        before any download. Raises `BadOption` where `export` would refuse it by names and shapes alone."""

    @abstractmethod
    def export(self, trained: Trained, out: Path) -> Form:
        """Fill the empty folder `out` and say how it is reopened."""
