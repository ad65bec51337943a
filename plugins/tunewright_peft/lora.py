"""`lora`: W' = W + (alpha / r) B A, with W frozen. Hu et al. 2021, https://arxiv.org/abs/2106.09685"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from tunewright.parts import Argument, Cap, Facts, Finding, LibraryOptions, Need, To
from tunewright.parts.adapter import AdapterOptions
from tunewright.parts.base import BadOption
from tunewright.parts.memory import BYTES, Shape, Trainable
from tunewright_peft import arguments
from tunewright_peft.method import NAME, PeftMethod, is_packed
from tunewright_peft.targets import (
    KNOWN,
    OTHERS,
    Roles,
    adaptable,
    expand,
    missing,
    no_target,
    projections_of,
    reached,
    refuse_missing,
    refuse_unmatched,
)

IN_WEIGHTS = ("pissa", "olora")
"""Starts that are taken from the base's weights, and taken off again when the adapter is saved."""
PLAIN = ("gaussian", "orthogonal")
"""Starts that PEFT makes of the config alone, beside its default."""

Init = Annotated[str, Field(pattern=r"^(default|gaussian|orthogonal|pissa|pissa_niter_[1-9][0-9]?|olora|loftq)$")]
MAGNITUDE = "lora_magnitude_vector"


class LoraOptions(AdapterOptions, LibraryOptions):
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
    init: Annotated[
        Init,
        Field(
            description="Where A and B begin: default (A at random, B at zero), gaussian, orthogonal; pissa, "
            "pissa_niter_N (faster, N rounds), olora: in the base's weights, saved as a plain LoRA of twice the rank; "
            "loftq: in what a 4-bit base lost."
        ),
    ] = "default"
    rslora: Annotated[
        bool, To("use_rslora"), Field(description="Scale the update by alpha / √r, which keeps high ranks learning.")
    ] = False
    dora: Annotated[
        bool, To("use_dora"), Field(description="DoRA: each column's length is trained apart from its direction.")
    ] = False
    rank_pattern: Annotated[
        dict[str, PositiveInt], To("rank_pattern"), Field(description="Ranks of single layers, by name or expression.")
    ] = {}
    alpha_pattern: Annotated[
        dict[str, PositiveInt],
        To("alpha_pattern"),
        Field(description="Alphas of single layers, by name or expression."),
    ] = {}
    modules_to_save: Annotated[
        list[str],
        To("modules_to_save"),
        Field(description="Modules that are trained and saved whole beside the adapter, as `lm_head`."),
    ] = []
    dtype: Annotated[
        Literal["auto", "bf16", "fp32"],
        Field(
            description="Type of A and B; auto is bf16, and fp32 on a base in fp32 or fp16, or where they begin in the "
            "base's weights."
        ),
    ] = "auto"


class Lora(PeftMethod[LoraOptions]):
    """Low-rank adapters by PEFT: LoRA, rsLoRA, DoRA, and LoRA that begins as PiSSA, OLoRA or LoftQ do."""

    kind = "lora"
    Options: ClassVar = LoraOptions
    peft_type = "LORA"
    accepts = "peft:LoraConfig"
    fixed: ClassVar = {"task_type": "CAUSAL_LM", "bias": "none"}
    at_run: ClassVar = {"target_modules": "what `targets` names in the model"}
    reads = frozenset({"targets", "init", "dtype", "args"})
    begins = frozenset({"init_lora_weights"})
    calls: ClassVar = {"target_modules": "targets"}
    vary: ClassVar = {
        "r": (4, 8),  # the largest that is allowed takes its time
        "init": ("default", "gaussian"),
        "rank_pattern": ({}, {"q_proj": 2}),
        "alpha_pattern": ({}, {"q_proj": 3}),
        "modules_to_save": ([], ["model.norm"]),
    }

    def offers(self) -> frozenset[Cap]:
        merges = {Cap.MERGES} if not self._has(arguments.NOT_MERGED) else set()
        vllm = {Cap.VLLM} if self._loadable_by_vllm() else set()
        llamacpp = {Cap.LLAMACPP} if self._loadable_by_llamacpp() else set()
        beside = {Cap.BESIDE} if self._reads_outputs_alone() else set()
        neutral = {Cap.NEUTRAL} if self._begins_at_nothing() else set()
        by_token = {Cap.BY_TOKEN} if not (self.options.dropout or self._has(arguments.NOT_BY_TOKEN)) else set()
        return frozenset({Cap.ADAPTS, Cap.LORA, *merges, *vllm, *llamacpp, *beside, *by_token, *neutral})

    def needs(self) -> Iterable[Need]:
        yield Need("quantizer", Cap.TRAINABLE, "base-not-trainable")
        if self._in_weights:
            why = "take `init: default`, or drop the quantization"
            yield Need("quantizer", Cap.FULLY_TRAINABLE, "base-not-trainable", why)
        if self.options.init == "loftq":
            yield Need("quantizer", Cap.FOUR_BIT, "base-not-trainable", "take `init: default`, or a 4-bit base")

    def check(self, facts: Facts) -> Iterable[Finding]:
        """Arguments of other methods, options that contradict each other, targets that a known family does not have."""
        yield from arguments.check_arguments(self.options.args)
        if self.options.dora and (self._in_weights or self.options.init == "loftq"):
            message = f"`dora` measures the base's columns, and `{self.options.init}` moves them into A and B"
            yield Finding("bad-value", message, "init", "take `init: default`, or `dora: false`")
        if self.options.dtype == "bf16" and self._in_weights:
            message = f"`{self.options.init}` begins as large as the base: bf16 would round away what is learned on top"
            yield Finding("bad-value", message, "dtype", "leave it out: A and B are then fp32")
        projections = KNOWN.get((facts.model_config or {}).get("model_type", ""))
        if projections is not None and not isinstance(self.options.targets, str):
            names = [name for role in projections.values() for name in role]
            unknown = missing([t.rpartition(".")[2] for t in self.options.targets], [*names, *OTHERS])
            yield from (no_target(f"module `{name}`", names).finding for name in unknown)

    def derive(self, facts: Facts) -> dict[str, Argument]:
        """`init_lora_weights`; and `target_modules`, where the model's family is known before it is fetched."""
        found = {"init_lora_weights": self._argument("init", self._library_init, self._why)}
        projections = KNOWN.get((facts.model_config or {}).get("model_type", ""))
        if projections is not None:
            found["target_modules"] = self._argument("targets", expand(self.options.targets, projections))
        return found

    def config(self, model: Any) -> Any:
        given = {name: argument.value for name, argument in self.arguments().items()}
        given |= {"init_lora_weights": self._library_init, "target_modules": self._targets(model)}
        return self.make("LoraConfig", **given)

    def saves(self, facts: Facts) -> Mapping[str, Any]:
        """As `widened` has it where A and B begin in the base's weights."""
        found, times = super().saves(facts), 2 if self._in_weights else 1
        ranks = {name: times * rank for name, rank in self.options.rank_pattern.items()}
        return {**found, "r": times * self.options.r, "rank_pattern": ranks}

    def saved_form(self, config: Any) -> Any:
        from tunewright_peft.start import widened

        return widened(config) if self._in_weights else config

    def begin(self, model: Any, base: Any) -> None:
        from tunewright_peft import start

        if self._in_weights:
            start.from_weights(model, NAME, self.options.init)
        elif self.options.init == "loftq":
            start.from_loss(model, NAME, Path(base.name_or_path))

    def settle(self, model: Any) -> None:
        """A and B in the type that `dtype` says. DoRA's lengths stay in fp32: in bf16, small steps would be lost."""
        dtype = self._dtype(model)
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.data = parameter.data.float() if MAGNITUDE in name else parameter.data.to(dtype)

    def tensors(self, model: Any) -> dict[str, Any]:
        from tunewright_peft.start import converted

        return converted(model, super().tensors(model))

    def saved_config(self, model: Any) -> Any:
        from tunewright_peft.start import is_kept, widened

        config = super().saved_config(model)
        return widened(config) if is_kept(model) else config

    @property
    def saved_as(self) -> str:
        return f" (`init: {self.options.init}` is saved with twice its rank)" if self._in_weights else ""

    @property
    def _in_weights(self) -> bool:
        return self.options.init.startswith(IN_WEIGHTS)

    @property
    def _library_init(self) -> bool | str:
        return self.options.init if self.options.init in PLAIN else True

    @property
    def _why(self) -> str:
        own = self._in_weights or self.options.init == "loftq"
        return f"`{self.options.init}` replaces it, and leaves the base's weights as they are" if own else ""

    def _argument(self, field: str, value: Any, why: str = "") -> Argument:
        return Argument(value, "spec" if field in self.options.model_fields_set else "tunewright", field, why)

    def _has(self, names: Iterable[str]) -> bool:
        return any(self.options.args.get(name) for name in names)

    def _loadable_by_vllm(self) -> bool:
        """Whether vLLM takes what is saved: ranks within its bound, nothing beside plain LoRA matrices."""
        largest = max([self.options.r, *self.options.rank_pattern.values()]) * (2 if self._in_weights else 1)
        beside = self.options.dora or self.options.modules_to_save or self._has(arguments.NOT_FOR_VLLM)
        return largest <= arguments.VLLM_MAX_RANK and not beside

    def _loadable_by_llamacpp(self) -> bool:
        """Whether a GGUF can say it: matrices A and B of projections alone, all under one alpha."""
        options = self.options
        beside = options.dora or options.modules_to_save or self._has(arguments.NOT_FOR_LLAMACPP)
        scales = options.alpha_pattern or (options.rslora and options.rank_pattern)
        names = [] if isinstance(options.targets, str) else options.targets
        return not (beside or scales or any(name.rpartition(".")[2] in OTHERS for name in names))

    def _reads_outputs_alone(self) -> bool:
        """Whether B A x is all that it adds to a layer: what else it can be needs the weights, or another forward."""
        begins_plain = self.options.init in ("default", *PLAIN)
        return begins_plain and not self.options.dora and not self._has(arguments.NOT_BESIDE)

    def _begins_at_nothing(self) -> bool:
        """Whether fresh weights leave every answer as it is, to the bit: B is zero, and zero is all that is added.

        Not so `orthogonal` (B A is zero but for rounding), starts in the base's weights (taken off again, but for
        rounding) or in what 4 bits lost, DoRA (it divides by a length that it multiplies by), whole modules and rows of
        embeddings beside (copies, maybe of another type).
        """
        plain = self.options.init in ("default", "gaussian") and not self.options.dora
        return plain and not self.options.modules_to_save and arguments.ONLY_WHERE.issuperset(self.options.args)

    def _targets(self, model: Any) -> list[str]:
        """The names of the modules that get an adapter. Raises `BadOption` for any name that is none of the model's."""
        paths = adaptable(model)
        names = expand(self.options.targets, projections_of(model))
        refuse_missing("targets", names, paths)
        chosen = reached(names, paths)
        refuse_unmatched("rank_pattern", self.options.rank_pattern, chosen)
        refuse_unmatched("alpha_pattern", self.options.alpha_pattern, chosen)
        self._check_whole([path for path, _ in model.named_modules()])
        return names

    def _check_whole(self, paths: list[str]) -> None:
        """PEFT takes `norm` for every module whose path ends so, `input_layernorm` too: only whole names are meant."""
        refuse_missing("modules_to_save", self.options.modules_to_save, paths)
        for name in self.options.modules_to_save:
            others = [path for path in paths if path.endswith(name) and missing([name], [path])]
            if others:
                raise BadOption("bad-value", f"`{name}` would stand for `{others[0]}` as well", "modules_to_save",
                                "write it with the module that holds it, as `model.norm`")  # fmt: skip

    def trainable(self, shape: Shape, dtype: str, packed: bool) -> Trainable | None:
        """A and B of every layer that `targets` names; None with options whose weights the base must tell of.

        PEFT casts a layer's input to the type of A where that is another, once for each layer, and keeps the copy.
        """
        options = self.options
        names = options.targets if isinstance(options.targets, str) else [n.rpartition(".")[2] for n in options.targets]
        adapted = shape.named(expand(names, KNOWN["llama"]) if isinstance(names, str) else names)
        plain = not (options.dora or options.rank_pattern or options.modules_to_save or options.args)
        if not plain or (not isinstance(names, str) and len(adapted) != len(set(names))):
            return None
        sixteen = dtype != "fp32" if packed else dtype == "bf16"  # as `_dtype` has it of a model
        halved = sixteen and not self._in_weights
        own = {"auto": "bf16" if halved else "fp32"}.get(options.dtype, options.dtype)
        each, copied = BYTES[own], own != dtype or options.dropout > 0
        tensors = Counter[tuple[int, ...]]()
        for linear in adapted:
            tensors[(options.r, linear.inputs)] += shape.layers
            tensors[(linear.outputs, options.r)] += shape.layers
        mask = BYTES[dtype] if options.dropout else 0  # of the inputs' own type on a CPU, of a byte on a GPU
        copies = sum(linear.inputs * (each + mask) for linear in adapted) if copied else 0
        return Trainable(
            tensors, each, frozenset(linear.name for linear in adapted),
            kept=shape.layers * options.r * each * len(adapted), copied=shape.layers * copies,
        )  # fmt: skip

    def _dtype(self, model: Any) -> Any:
        """bf16 halves what an adapter keeps, and is what TRL casts adapters of packed bases to; fp16 would overflow.
        Where the weights that stay unpacked are in fp32, the spec wants fp32, or the machine has nothing else.

        What begins in the base's weights is as large as they are: bf16 would round away what is learned on top.
        """
        import torch

        kept = next(p.dtype for p in model.parameters() if p.is_floating_point())
        sixteen = kept != torch.float32 if is_packed(model) else kept == torch.bfloat16
        halved = sixteen and not self._in_weights
        automatic = torch.bfloat16 if halved else torch.float32
        return {"auto": automatic, "bf16": torch.bfloat16, "fp32": torch.float32}[self.options.dtype]
