"""`weighted`: what was trained, combined with adapters that other runs trained on the same base, into one adapter.

By PEFT's `add_weighted_adapter`. `cat` is the sum itself: the new adapter changes each layer by the weighted sum of
what the others change it by, and has all their ranks. The others give up some of it for a smaller rank, or for what
the adapters contradict each other in:

- TIES, Yadav et al. 2023, https://arxiv.org/abs/2306.01708
- DARE, Yu et al. 2023, https://arxiv.org/abs/2311.03099
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, PositiveInt

from tunewright.errors import Refused
from tunewright.parts import BadOption, Cap, Exporter, Facts, Finding, Need, Options, SpecPath, To
from tunewright.parts.exporter import ExporterOptions, Form, Trained
from tunewright_peft.arguments import VLLM_MAX_RANK
from tunewright_peft.files import read_plain

Combination = Literal[
    "cat", "linear", "svd", "ties", "ties_svd", "dare_linear", "dare_linear_svd", "dare_ties", "dare_ties_svd",
    "magnitude_prune", "magnitude_prune_svd",
]  # fmt: skip
CODE = "cannot-combine"
PLAIN = "combine plain LoRA alone, or export a merged model"

BESIDE = (
    "alora_invocation_tokens", "lora_bias", "modules_to_save", "target_parameters", "trainable_token_indices",
    "use_dora", "use_qalora",
)  # fmt: skip
"""Fields of a LoRA's config that mean more than matrices A and B: PEFT would take that of one adapter or of none."""
OF_THE_FIRST = ("exclude_modules", "fan_in_fan_out", "layers_pattern", "layers_to_transform")
"""Fields that say where A and B stand, of which PEFT takes the first adapter's for all."""


class Other(BaseModel):
    """An adapter to combine with, and what it counts."""

    model_config = Options.model_config

    path: Annotated[SpecPath, Field(description="A package of the same base, or a folder that PEFT saved.")]
    weight: Annotated[float, Field(description="What its change of each layer is multiplied by; may be negative.")]
    other_quantization: Annotated[
        bool, Field(description="Take it also where its package was trained over another quantization of the base.")
    ] = False


class WeightedOptions(ExporterOptions):
    """Options of an adapter that is combined of several."""

    kind: str = "weighted"
    adapters: Annotated[
        list[Other], Field(min_length=1, description="The adapters that what was trained is combined with.")
    ]
    weight: Annotated[float, Field(description="What the trained adapter's change of each layer is multiplied by.")] = (
        1.0
    )
    combination: Annotated[
        Combination,
        To("combination_type"),
        Field(
            description="PEFT's way: cat adds exactly, and adds the ranks; svd is the nearest of a smaller rank; "
            "linear sums A and B apart, which adds what no adapter learnt; ties, dare and magnitude_prune drop small "
            "or random entries first, of A and B apart or, ending in _svd, of the changes themselves."
        ),
    ] = "cat"
    svd_rank: Annotated[
        PositiveInt | None,
        To("svd_rank"),
        Field(description="Rank of what svd finds; by default the largest of the adapters'."),
    ] = None
    svd_clamp: Annotated[
        float | None,
        To("svd_clamp"),
        Field(gt=0, le=1, description="Quantile beyond which the entries that svd finds are cut; by default none is."),
    ] = None
    density: Annotated[
        float | None,
        To("density"),
        Field(gt=0, le=1, description="Share of the entries that ties, dare and magnitude_prune keep."),
    ] = None
    majority_sign: Annotated[
        Literal["total", "frequency"],
        To("majority_sign_method"),
        Field(description="How ties finds an entry's sign: by the sum of the adapters' entries, or by their count."),
    ] = "total"

    @property
    def by_svd(self) -> bool:
        """Whether ranks are found anew."""
        return self.combination.endswith("svd")

    @property
    def by_votes(self) -> bool:
        """Whether adapters vote for the sign of each entry: one of weight 0 does too."""
        return "ties" in self.combination

    @property
    def prunes(self) -> bool:
        """Whether entries are dropped."""
        return self.by_votes or "dare" in self.combination or "prune" in self.combination

    @property
    def by_place(self) -> bool:
        """Whether A is combined with A and B with B, entry by entry, which takes equal ranks."""
        return self.combination != "cat" and not self.by_svd


class WeightedExporter(Exporter[WeightedOptions]):
    """One plain LoRA of several, in PEFT's layout; the base's weights are not needed for it."""

    kind = "weighted"
    Options: ClassVar = WeightedOptions
    attaches = True
    extra = "train"
    libraries = ("peft", "torch", "safetensors", "transformers")
    fixed: ClassVar = {"svd_full_matrices": False}  # the rest of them is thrown away, and takes the longest
    reads = frozenset({"adapters", "weight"})
    vary: ClassVar = {"combination": ("cat", "svd"), "svd_rank": (None, 2), "svd_clamp": (None, 0.5),
                      "density": (None, 0.5), "weight": (1.0, -0.5)}  # fmt: skip

    def takes_up(self) -> Mapping[str, SpecPath]:
        return {f"adapters.{place}.path": other.path for place, other in enumerate(self.options.adapters)}

    def takes_other_quantization(self) -> list[str]:
        others = enumerate(self.options.adapters)
        return [f"adapters.{place}.path" for place, other in others if other.other_quantization]

    def draws(self) -> bool:
        return "dare" in self.options.combination

    def needs(self) -> Iterable[Need]:
        yield Need("adapter", Cap.LORA, CODE, "PEFT combines LoRA alone: take `lora`, or leave this export out")

    def leaves(self, offers: frozenset[Cap], facts: Facts) -> frozenset[Cap]:
        """`cat` adds the ranks, and vLLM has a bound for them."""
        return offers - {Cap.VLLM} if self._rank(facts) > VLLM_MAX_RANK else offers

    def check(self, facts: Facts) -> Iterable[Finding]:
        """Options that do nothing under the chosen combination, and adapters that PEFT would combine wrongly."""
        yield from self._idle()
        if facts.saves.get("peft_type") != "LORA":  # `needs` says so, or nothing is known of it
            return
        if why := _beside(facts.saves):
            yield Finding(CODE, f"the adapter has {why}, which would be lost", suggestion=PLAIN)
        if self.options.by_place and facts.saves.get("rank_pattern"):
            yield Finding(CODE, f"the adapter has {_RANKS}, and `{self.options.combination}` needs one rank",
                          "combination", _BY_RANK)  # fmt: skip
        for field, path in self.takes_up().items():
            if path.path.is_dir():  # else the core says so
                yield from self._unlike(path.path, field, facts.saves)

    def fit(self, outline: Callable[[], Any]) -> None:
        """A bare folder need not tell of its base: its tensors are compared with the base's layers."""
        from tunewright_peft import combining

        for field, path in self.takes_up().items():
            try:
                combining.refuse_misfit(outline(), path.path)
            except Refused as error:
                raise BadOption(CODE, error.message, field, "take one that was trained on this base") from error

    def export(self, trained: Trained, out: Path) -> Form:
        """Raises `Refused` where one of the adapters is damaged, of another base, or more than plain LoRA."""
        from tunewright_peft import combining
        from tunewright_transformers.export import complete

        if not trained.adapts:
            raise Refused("what was trained is a whole model, and no adapter", fix="leave `weighted` out of `exports`")
        others = [(other.path.path, other.weight) for other in self.options.adapters]
        adapters = [(trained.saved, self.options.weight), *others]
        for saved, _ in adapters:
            if why := _beside(read_plain(saved)):
                raise Refused(f"{saved.name} has {why}, which would be lost", fix=PLAIN)
        arguments = {name: argument.value for name, argument in self.arguments().items()}
        digest = combining.combine(trained.outline(), adapters, arguments, trained.seed, out)
        complete(trained, out)
        return Form(trained.engine, attach=True, speaks=True, digest=digest)

    def _rank(self, facts: Facts) -> int:
        """Of what it writes, as far as the adapters' configs can be read; 0 where they cannot."""
        if self.options.by_svd and self.options.svd_rank is not None:
            return self.options.svd_rank
        configs = [facts.saves]
        try:
            configs += [read_plain(path.path) for path in self.takes_up().values()]
        except Refused:  # `check` says so, or the core
            return 0
        ranks = [rank for config in configs if isinstance(rank := config.get("r"), int)]
        return sum(ranks) if self.options.combination == "cat" else max(ranks, default=0)

    def _idle(self) -> Iterable[Finding]:
        options, how = self.options, self.options.combination
        if options.prunes and options.density is None:
            message = f"`{how}` drops entries, and needs `density`: the share that it keeps"
            yield Finding("missing-key", message, "combination", "add `density: 0.5`")
        idle = {"density": not options.prunes, "majority_sign": not options.by_votes,
                "svd_rank": not options.by_svd, "svd_clamp": not options.by_svd}  # fmt: skip
        for name in sorted(options.model_fields_set & idle.keys()):
            if idle[name] and getattr(options, name) is not None:
                yield Finding("argument-unused", f"`{name}` does nothing under `combination: {how}`", name,
                              "remove it", at_key=True)  # fmt: skip
        weights = {"weight": options.weight}
        weights |= {f"adapters.{place}.weight": other.weight for place, other in enumerate(options.adapters)}
        for name, weight in weights.items():
            if weight == 0 and not options.by_votes:
                yield Finding("argument-unused", f"under `{how}` an adapter of weight 0 does nothing", name,
                              "give it another weight, or leave it out")  # fmt: skip

    def _unlike(self, saved: Path, field: str, ours: Mapping[str, Any]) -> Iterable[Finding]:
        """What keeps an adapter from being combined with this spec's."""
        try:
            theirs = read_plain(saved)
        except Refused as error:
            yield Finding("bad-value", error.message, field, "name a package of an adapter, or a folder of PEFT's")
            return
        kind = theirs.get("peft_type")
        if kind != "LORA":
            yield Finding(CODE, f"`{saved.name}` is {_shown(kind)}, and PEFT combines LoRA alone", field)
            return
        if why := _beside(theirs):
            yield Finding(CODE, f"`{saved.name}` has {why}, which would be lost", field, PLAIN)
        if isinstance(theirs.get("target_modules"), str):
            yield Finding(CODE, f"`{saved.name}` names its layers by an expression, and this adapter by a list", field)
        for name in OF_THE_FIRST:
            if (theirs.get(name) or None) != (ours.get(name) or None):
                message = f"`{saved.name}` has `{name}: {_shown(theirs.get(name))}`, and this adapter `{name}: "
                yield Finding(CODE, f"{message}{_shown(ours.get(name))}`: PEFT takes the first for all", field)
        if self.options.by_place and theirs.get("rank_pattern"):
            message = f"`{saved.name}` has {_RANKS}, and `{self.options.combination}` needs one rank"
            yield Finding(CODE, message, field, _BY_RANK)
        elif self.options.by_place and "r" in ours and theirs.get("r") != ours["r"]:
            message = f"`{saved.name}` has rank {_shown(theirs.get('r'))}, and this adapter rank {ours['r']}"
            yield Finding(CODE, f"{message}: `{self.options.combination}` needs equal ones", field, _BY_RANK)


_RANKS = "layers of ranks of their own (`rank_pattern`)"
_BY_RANK = "take `combination: cat`, or one that ends in `svd`"


def _beside(config: Mapping[str, Any]) -> str:
    """What a config has beside plain A and B; empty for nothing."""
    found = [f"`{name}`" for name in BESIDE if config.get(name)]
    found += ["`bias`"] if config.get("bias", "none") != "none" else []
    return ", ".join(found)


def _shown(value: Any) -> str:
    """A value out of another run's file, cut to what a message can hold."""
    text = str(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
