"""What is trained on top of a base: an adapter, or the base itself (`none`).

A complete method, which adds one trained vector to the output of each target layer:

    from typing import Annotated

    from pydantic import Field
    from tunewright import Refused
    from tunewright.digest import digest_tensors
    from tunewright.parts.adapter import AdapterMethod, AdapterOptions
    from tunewright.parts.base import BadOption, Cap, Need
    from tunewright.testing import check_adapter

    class ShiftOptions(AdapterOptions):
        kind: str = "shift"
        target: Annotated[str, Field(description="Last name of the layers.")] = "o_proj"

    class Shift(AdapterMethod[ShiftOptions]):
        kind, Options, libraries = "shift", ShiftOptions, ("torch", "safetensors")
        reads = frozenset({"target"})
        vary = {"target": ("o_proj", "down_proj")}  # two values that must make a difference

        def offers(self):
            return frozenset({Cap.ADAPTS})  # the base's own weights stay as they are

        def needs(self):
            yield Need("quantizer", Cap.TRAINABLE, "base-not-trainable")

        def wrap(self, model, parent):
            import torch  # late: `validate` waits for no library
            model.requires_grad_(False)
            for name, layer in model.named_modules():
                if name.rpartition(".")[2] == self.options.target:
                    zeros = torch.zeros(layer.out_features, device=layer.weight.device)
                    layer.shift = torch.nn.Parameter(zeros)
                    layer.register_forward_hook(lambda layer, _, out: out + layer.shift.to(out))
            if not shifts(model):
                raise BadOption("unknown-target", "the model has no such layer", "target")
            return model if parent is None else self._load(model, parent)

        def save(self, model, out):
            from safetensors.torch import save_file
            tensors = {name: p.detach().cpu() for name, p in shifts(model).items()}
            save_file(tensors, out / "shift.safetensors")

        def attach(self, model, saved):
            return self.wrap(model, saved).requires_grad_(False)

        def count(self, model):
            groups = shifts(model).values(), model.parameters()  # what is trained, and all
            return tuple(sum(p.numel() for p in group) for group in groups)

        def digest(self, model):
            return digest_tensors(shifts(model).items())

        def _load(self, model, saved):
            from safetensors import SafetensorError
            from safetensors.torch import load_file
            try:
                found = load_file(saved / "shift.safetensors")
                if set(found) != set(shifts(model)):
                    raise Refused(f"{saved.name} is of another base")
                model.load_state_dict(found, strict=False)  # the base's weights are not in it
            except (OSError, RuntimeError, SafetensorError) as error:
                raise Refused(f"{saved.name} cannot be put on this base: {error}") from error
            return model

    def shifts(model):
        return {name: p for name, p in sorted(model.named_parameters()) if name.endswith(".shift")}

    def test_it_keeps_its_contract(tmp_path):
        check_adapter(Shift, folder=tmp_path)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

from pydantic import Field

from tunewright.errors import Refused
from tunewright.parts.base import Backend, Facts, Json, O, Options, SpecPath
from tunewright.parts.memory import Shape, Trainable


class AdapterOptions(Options):
    """The fields of every adapter method that the core itself reads."""

    parent: Annotated[
        SpecPath | None,
        Field(description="A package, or a folder that this method saved, whose weights the training goes on from."),
    ] = None
    other_quantization: Annotated[
        bool,
        Field(description="Go on from `parent` also where its package was trained over another quantization."),
    ] = False


class ModelDir(NamedTuple):
    """A base that lies in a folder and is not loaded: what a merge reads, tensor by tensor."""

    path: Path
    outline: Any
    """The model without its numbers, as `Loader.outline` makes it, or None; the merge may change it."""
    dtype: str
    """`bf16`, `fp16` or `fp32`: the type that the base was loaded in when it was trained on."""
    held: Callable[[str, Any], Any] | None = None
    """What the base held in training in place of a tensor of the folder, by the tensor's name in the model
    (`Quantizer.held`); None for the folder's own."""

    @property
    def modules(self) -> Any:
        """The outline, for who cannot do without. Raises `Refused` where the loader could not tell it."""
        if self.outline is None:
            raise Refused("the base's modules cannot be told from its config.json",
                          fix="keep what was trained as it is")  # fmt: skip
        return self.outline


class AdapterMethod(Backend[O]):
    """Wraps a base for training, saves what was trained apart from it, and attaches it again."""

    part: ClassVar[str] = "adapter"

    def takes_up(self) -> Mapping[str, SpecPath]:
        """Its parent."""
        parent = getattr(self.options, "parent", None)
        return {} if parent is None else {"parent": parent}

    def takes_other_quantization(self) -> Container[str]:
        """Its parent, where `other_quantization` says so."""
        return ("parent",) if getattr(self.options, "other_quantization", False) else ()

    def saves(self, facts: Facts) -> Mapping[str, Json]:
        """What the config beside the saved weights will say, by the library's own names, as far as the options tell
        and the family of `facts.model_config`; {} where nothing is known. Others are compared with it at `validate`."""
        return {}

    @abstractmethod
    def wrap(self, model: Any, parent: Path | None) -> Any:
        """The model with trainable parameters in place: fresh ones, or `parent`'s.

        Raises `BadOption` on `parent` where it is of another method, or of other sizes, than the options say.
        """

    def fit(self, model: Any) -> None:
        """Try the options on a model without numbers, as `Loader.outline` makes it: `plan` does, before any download.

        Raises `BadOption` where `wrap` would refuse the base by its modules and their sizes alone.
        """

    def trainable(self, shape: Shape, dtype: str, packed: bool) -> Trainable | None:
        """What `wrap` will train on a base of this shape, whose unquantized numbers are of `dtype`; `packed` where its
        layers are packed. None where it cannot tell without the model: the forecast of memory then does without."""
        return None

    @abstractmethod
    def save(self, model: Any, out: Path) -> None:
        """Write what was trained into the empty folder `out`; equal weights give equal bytes."""

    @abstractmethod
    def attach(self, model: Any, saved: Path) -> Any:
        """A freshly loaded base with what `save` wrote put on it, for inference."""

    def merge(self, base: ModelDir, saved: Path, out: Path, dtype: str) -> None:
        """Fold what `save` wrote into the weights of `base`, and write config.json and the weights as safetensors into
        the empty folder `out`, every float in `dtype` (`bf16`, `fp16`, `fp32`): mode 0644, no path of this machine,
        equal inputs give equal bytes. `base` is read tensor by tensor, never loaded whole, and never changed.

        Sums are made in fp32 and rounded once. `Cap.MERGES` offers it. Raises `Refused` where that cannot be, or by
        the tensor's name where a number would not be finite; nothing is then left in `out`.
        """
        raise Refused(f"what `{self.kind}` trains cannot be merged into its base", fix="keep it apart from its base")

    @abstractmethod
    def count(self, model: Any) -> tuple[int, int]:
        """(trainable parameters, all parameters) of a wrapped model; a packed 4-bit weight counts as its parameters."""

    @abstractmethod
    def digest(self, model: Any) -> str:
        """Digest of the trained tensors as they are in memory: proves which weights a model carries."""
