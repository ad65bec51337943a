"""`lora`: W' = W + (alpha / r) B A, with W frozen. Hu et al. 2021, https://arxiv.org/abs/2106.09685"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from tunewright.digest import digest_tensors
from tunewright.errors import MissingExtra, Refused
from tunewright.parts import AdapterMethod, Argument, Cap, Facts, Finding, LibraryOptions, Need, To
from tunewright.parts.base import BadOption
from tunewright_peft.arguments import check_arguments, loadable_by_vllm
from tunewright_peft.targets import KNOWN, OTHERS, Roles, adaptable, expand, missing, projections_of

NAME = "default"
"""The one adapter of a model: trainers may put others beside it, which are never saved."""


class LoraOptions(LibraryOptions):
    """Options of LoRA; `args:` passes any further argument of PEFT's LoraConfig."""

    kind: str = "lora"
    r: Annotated[
        PositiveInt, To("r"), Field(le=65536, description="Rank: columns of B, rows of A. 8 to 64 is usual.")
    ] = 16
    alpha: Annotated[
        PositiveInt, To("lora_alpha"), Field(description="The update is scaled by alpha / r; twice r is usual.")
    ] = 32
    dropout: Annotated[
        float, To("lora_dropout"), Field(ge=0, lt=1, description="Share of the adapter's inputs dropped in training.")
    ] = 0.0
    targets: Annotated[
        Roles | Annotated[list[str], Field(min_length=1)],
        Field(description="Layers that get an adapter: by role, or a list of module names."),
    ] = "attention+mlp"
    dtype: Annotated[
        Literal["auto", "bf16", "fp32"],
        Field(description="Type of the adapter's weights; auto is bf16, and fp32 on a base in fp32 or fp16."),
    ] = "auto"


class Lora(AdapterMethod[LoraOptions]):
    """Low-rank adapters by PEFT."""

    kind = "lora"
    Options: ClassVar = LoraOptions
    extra = "train"
    libraries = ("peft", "torch", "transformers")
    accepts = "peft:LoraConfig"
    fixed: ClassVar = {"task_type": "CAUSAL_LM", "bias": "none"}
    at_run: ClassVar = {"target_modules": "what `targets` names in the model"}
    reads = frozenset({"targets", "dtype", "args"})

    def offers(self) -> frozenset[Cap]:
        vllm = {Cap.VLLM} if loadable_by_vllm(self.options.r, self.options.args) else set()
        return frozenset({Cap.ADAPTS, Cap.MERGES, *vllm})

    def needs(self) -> Iterable[Need]:
        yield Need("quantizer", Cap.TRAINABLE, "base-not-trainable")

    def check(self, facts: Facts) -> Iterable[Finding]:
        """Arguments of other methods, and targets that a known family does not have."""
        yield from check_arguments(self.options.args)
        projections = KNOWN.get((facts.model_config or {}).get("model_type", ""))
        if projections is not None and not isinstance(self.options.targets, str):
            names = [name for role in projections.values() for name in role]
            unknown = missing([t.rpartition(".")[2] for t in self.options.targets], [*names, *OTHERS])
            yield from (_no_target(name, names).finding for name in unknown)

    def derive(self, facts: Facts) -> dict[str, Argument]:
        """`target_modules`, where the model's family is known before it is fetched."""
        projections = KNOWN.get((facts.model_config or {}).get("model_type", ""))
        if projections is None:
            return {}
        set_by: Literal["spec", "tunewright"] = "spec" if "targets" in self.options.model_fields_set else "tunewright"
        return {"target_modules": Argument(expand(self.options.targets, projections), set_by, "targets")}

    def wrap(self, model: Any, parent: Path | None) -> Any:
        """A `PeftModel` with fresh adapters, or with `parent`'s, in the type that `dtype` says.

        Raises `BadOption` where a target names no module of the model.
        """
        dtype = self._dtype(model)
        wrapped = self._fresh(model) if parent is None else _load(model, parent, trainable=True)
        for name, parameter in wrapped.named_parameters():
            if ".lora_" in name:
                parameter.data = parameter.data.to(dtype)
        return wrapped

    def save(self, model: Any, out: Path) -> None:
        """adapter_config.json and adapter_model.safetensors of the one trained adapter, and nothing else."""
        from tunewright_peft import files  # late: validate has no time for it

        files.write(model.peft_config[NAME], _tensors(model), out)

    def attach(self, model: Any, saved: Path) -> Any:
        """The base with a saved adapter, as `PeftModel.from_pretrained` gives it, adapters in fp32.

        Raises `Refused` unless the files are a LoRA of exactly this shape, in safetensors, with finite numbers.
        """
        return _load(model, saved, trainable=False)

    def count(self, model: Any) -> tuple[int, int]:
        """(trainable, all) parameters; a packed 4-bit weight counts as the two that it holds a byte."""
        return model.get_nb_trainable_parameters()

    def digest(self, model: Any) -> str:
        """Digest of the adapter's values, under the names that they are saved by."""
        return digest_tensors(_tensors(model).items())

    def _fresh(self, model: Any) -> Any:
        arguments = {name: argument.value for name, argument in self.arguments().items()}
        targets = self._targets(model)
        try:
            config = _peft().LoraConfig(**arguments, target_modules=targets)
            return _peft().get_peft_model(model, config, adapter_name=NAME)
        except (TypeError, ValueError) as error:
            raise BadOption("bad-value", f"LoraConfig refuses its arguments: {error}", "args") from error

    def _targets(self, model: Any) -> list[str]:
        paths = adaptable(model)
        names = expand(self.options.targets, projections_of(model))
        unknown = missing(names, paths)
        if unknown or not names:
            what = unknown[0] if unknown else str(self.options.targets)
            raise _no_target(what, sorted({path.rpartition(".")[2] for path in paths}))
        return names

    def _dtype(self, model: Any) -> Any:
        """bf16 halves what an adapter keeps, and is what TRL casts adapters of 4-bit bases to; fp16 would overflow."""
        import torch

        kept = next(p.dtype for p in model.parameters() if p.is_floating_point())
        packed = getattr(model, "is_loaded_in_4bit", False)
        automatic = torch.bfloat16 if packed or kept == torch.bfloat16 else torch.float32
        return {"auto": automatic, "bf16": torch.bfloat16, "fp32": torch.float32}[self.options.dtype]


def _no_target(name: str, known: Iterable[str]) -> BadOption:
    return BadOption(
        "unknown-target", f"the model has no module `{name}`", "targets", f"it has: {', '.join(sorted(known))}"
    )


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise MissingExtra("adapter/lora", Lora.extra, error) from error
    return peft


def _tensors(model: Any) -> dict[str, Any]:
    """The adapter's tensors by saved name. Without embeddings: asking whether they changed would ask a hub."""
    return _peft().get_peft_model_state_dict(model, adapter_name=NAME, save_embedding_layers=False)


def _load(model: Any, saved: Path, *, trainable: bool) -> Any:
    """What `PeftModel.from_pretrained` does, with every name and shape compared before a number is taken over."""
    from tunewright_peft import files

    config, tensors = files.read_config(saved), files.read_tensors(saved)
    config.inference_mode, config.base_model_name_or_path = not trainable, None  # the identity names the base
    try:
        wrapped = _peft().get_peft_model(model, config, adapter_name=NAME)
    except (TypeError, ValueError) as error:  # a target that the base does not have, a rank that is no number
        raise Refused(f"{saved.name} is not an adapter of this base: {error}") from error
    expected = {name: tensor.shape for name, tensor in _tensors(wrapped).items()}
    unlike = set(expected.items()) ^ {(name, tensor.shape) for name, tensor in tensors.items()}
    if unlike:
        raise Refused(f"{saved.name} is not a whole adapter of this base: `{min(unlike)[0]}` does not match")
    _peft().set_peft_model_state_dict(wrapped, tensors, adapter_name=NAME)
    return wrapped
