"""`none`: full fine-tuning. The base's own weights are trained, and what is saved is a whole model."""

from __future__ import annotations

import copy
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunewright.digest import digest_tensors
from tunewright.errors import Refused
from tunewright.parts import AdapterMethod, Cap, Need
from tunewright.parts.adapter import AdapterOptions, ModelDir
from tunewright.parts.base import BadOption
from tunewright.parts.memory import BYTES, Shape, Trainable
from tunewright_transformers.layout import PICKLES, WEIGHTS
from tunewright_transformers.loader import DTYPES


class FullTuningOptions(AdapterOptions):
    """`{kind: none}`."""

    kind: str = "none"
    dtype: Annotated[
        Literal["fp32", "bf16"],
        Field(
            description="Type of the weights while they are trained; they are saved in the base's own. In bf16, half "
            "the memory, each step smaller than a 256th of a weight is lost, as most are at full fine-tuning's rates."
        ),
    ] = "fp32"


class FullTuning(AdapterMethod[FullTuningOptions]):
    """Trains every parameter. The comparator of adapters, and far more memory."""

    kind = "none"
    Options: ClassVar = FullTuningOptions
    extra = "train"
    libraries = ("torch", "transformers", "safetensors")
    reads = frozenset({"dtype"})

    def offers(self) -> frozenset[Cap]:
        return frozenset({Cap.VLLM, Cap.LLAMACPP, Cap.MERGES, Cap.BY_TOKEN})  # a whole model, as any other

    def needs(self) -> Iterable[Need]:
        yield Need("quantizer", Cap.FULLY_TRAINABLE, "base-not-trainable", "train an adapter, or drop the quantization")

    def wrap(self, model: Any, parent: Path | None) -> Any:
        """The model itself in the type that `dtype` says, with `parent`'s weights if given, every parameter trainable.

        Raises `BadOption` where the parent is an adapter, or a model of another shape.
        """
        import torch

        if parent is not None:
            self._continue(model, parent)
        for parameter in model.parameters():  # not the buffers: a rotation's frequencies are fp32 in every model
            parameter.data = parameter.data.to(getattr(torch, DTYPES[self.options.dtype]))
        return model.requires_grad_(True)

    def trainable(self, shape: Shape, dtype: str, packed: bool) -> Trainable:
        """Every weight in the type that `dtype` of the options says. The norms' weights need what they multiply."""
        each, hidden = BYTES[self.options.dtype], shape.hidden
        tensors = Counter({(linear.outputs, linear.inputs): 0 for linear in shape.linears})
        for linear in shape.linears:
            tensors[(linear.outputs, linear.inputs)] += shape.layers
        tensors[(shape.vocabulary, hidden)] += 1 if shape.tied else 2
        tensors[(hidden,)] += shape.beside // hidden
        tensors[(1,)] += shape.beside % hidden
        names = frozenset(linear.name for linear in shape.linears)
        return Trainable(tensors, each, names, kept=shape.layers * 2 * hidden * each, whole=True, head=True)

    def save(self, model: Any, out: Path) -> None:
        """config.json, generation_config.json and safetensors in the base's type, without a path of this machine."""
        save_model(model, out)

    def attach(self, model: Any, saved: Path) -> Any:
        """Put the saved weights into a base of the same shape. Raises `Refused` unless they fit exactly."""
        weights = _read(saved)
        expected = model.state_dict()
        tied = {name for name in expected if name not in weights and _shares(expected, name, weights)}
        unlike = (set(expected) - tied) ^ set(weights)
        unlike |= {name for name in set(expected) & set(weights) if expected[name].shape != weights[name].shape}
        if unlike:
            raise Refused(f"{saved.name} is not a training of this base: `{min(unlike)}` does not match")
        model.load_state_dict(weights, strict=False)
        return model

    def merge(self, base: ModelDir, saved: Path, out: Path, dtype: str) -> None:
        """The saved weights themselves in `dtype`: they are a whole model. Raises `Refused` as `attach` does."""
        from tunewright_transformers.tensors import Rewritten, Tensors, placed, rewrite, write_config

        outline, weights = base.modules, Tensors(saved)
        expected, places = outline.state_dict(), placed(outline, weights)
        shapes = {place: tuple(expected[name].shape) for name, place in places.items()}
        unlike = (set(expected) - set(places)) | (set(weights.stored) - set(shapes))
        unlike |= {name for name in set(shapes) & set(weights.stored) if weights.shape(name) != shapes[name]}
        if unlike:
            raise Refused(f"{saved.name} is not a training of this base: `{min(unlike)}` does not match")
        rewrite(weights, out, Rewritten(dtype, lambda name, tensor: tensor))
        write_config(saved / "config.json", out, dtype)
        generation = saved / "generation_config.json"
        if generation.is_file():
            shutil.copyfile(generation, out / generation.name)

    def count(self, model: Any) -> tuple[int, int]:
        """(trainable, all) parameters; a tied weight counts once."""
        parameters = list(model.parameters())
        return sum(p.numel() for p in parameters if p.requires_grad), sum(p.numel() for p in parameters)

    def digest(self, model: Any) -> str:
        """Digest of every parameter's values as they are saved."""
        return digest_tensors((name, p.detach().to(served_dtype(model))) for name, p in model.named_parameters())

    def _continue(self, model: Any, parent: Path) -> None:
        if (parent / "adapter_config.json").is_file():
            message = f"`{parent.name}` is an adapter, and this training changes the base itself"
            raise BadOption("bad-value", message, "parent", "name the adapter's method, or a model that `none` trained")
        self.attach(model, parent)


def served_dtype(model: Any) -> Any:
    """torch's type in which the model was loaded, and is served, whatever it is trained in."""
    return model.config.dtype or model.dtype


def save_model(model: Any, out: Path) -> None:
    """Write a whole model, as it can be served: config, generation config, safetensors; all of mode 0644."""
    trained, model.config = model.config, copy.deepcopy(model.config)
    model.config.use_cache = True  # trainers switch it off, and a served model would recompute every token
    try:
        model.save_pretrained(out, state_dict=_served(model))
    finally:
        model.config = trained
    for file in out.iterdir():
        file.chmod(0o644)  # safetensors writes 0600 whatever the umask


def _served(model: Any) -> dict[str, Any]:
    """The model's weights in the type that it is served in; what is one memory, as a tied head is, stays one."""
    dtype, found, cast = served_dtype(model), model.state_dict(), dict[int, Any]()
    return {name: cast.setdefault(tensor.data_ptr(), tensor.to(dtype)) for name, tensor in found.items()}


def _read(saved: Path) -> dict[str, Any]:
    """All tensors of a saved model. Raises `Refused` for pickles, damage, and numbers that are none."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = sorted(saved.glob(WEIGHTS))
    if not files or any(list(saved.glob(pattern)) for pattern in PICKLES):
        raise Refused(f"{saved.name} does not hold its weights as safetensors alone")
    weights: dict[str, Any] = {}
    for file in files:
        try:
            weights |= load_file(file)
        except SafetensorError as error:
            raise Refused(f"{file.name} is damaged: {error}") from error
    broken = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise Refused(f"{saved.name}: `{min(broken)}` has numbers that are not finite")
    return weights


def _shares(expected: dict[str, Any], name: str, weights: dict[str, Any]) -> bool:
    """Whether `name` is the same memory as a tensor that was saved, as a tied head is."""
    return any(expected[name].data_ptr() == expected[other].data_ptr() for other in weights if other in expected)
