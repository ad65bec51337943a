"""`ia3`: three learned vectors a block, which scale keys, values and what the MLP holds inside.

(IA)³, Liu et al. 2022, https://arxiv.org/abs/2205.05638
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from tunewright.parts import Argument, Cap, Facts, Finding, Need, To
from tunewright.parts.adapter import AdapterOptions
from tunewright.parts.base import BadOption
from tunewright_peft.method import PeftMethod
from tunewright_peft.targets import (
    KNOWN,
    OTHERS,
    adaptable,
    missing,
    no_target,
    projections_of,
    reached,
    refuse_missing,
)

PAPER = ("k_proj", "v_proj", "down_proj")
"""Keys, values and the MLP's last layer, whose input is what the MLP holds inside, as the known families name them."""


class Ia3Options(AdapterOptions):
    """Options of (IA)³."""

    kind: str = "ia3"
    targets: Annotated[
        Literal["keys+values+mlp"] | Annotated[list[str], Field(min_length=1)],
        Field(description="Layers that are scaled: as the paper has it, or a list of module names."),
    ] = "keys+values+mlp"
    feedforward: Annotated[
        list[str] | None,
        Field(description="Those of `targets` whose inputs are scaled, not outputs; without it, those within an MLP."),
    ] = None
    modules_to_save: Annotated[
        list[str],
        To("modules_to_save"),
        Field(description="Modules that are trained and saved whole beside the adapter, as `lm_head`."),
    ] = []


class Ia3(PeftMethod[Ia3Options]):
    """Learned scales by PEFT: some ten thousand parameters of a billion."""

    kind = "ia3"
    Options: ClassVar = Ia3Options
    peft_type = "IA3"
    accepts = "peft:IA3Config"
    fixed: ClassVar = {"task_type": "CAUSAL_LM"}
    at_run: ClassVar = {
        "target_modules": "what `targets` names in the model",
        "feedforward_modules": "those of them that lie in an MLP, or `feedforward`",
    }
    reads = frozenset({"targets", "feedforward"})
    begins = frozenset({"init_ia3_weights"})
    calls: ClassVar = {"target_modules": "targets", "feedforward_modules": "feedforward"}
    vary: ClassVar = {
        "targets": ("keys+values+mlp", ["k_proj", "v_proj"]),
        "feedforward": (None, []),
        "modules_to_save": ([], ["model.norm"]),
    }

    def offers(self) -> frozenset[Cap]:
        return frozenset({Cap.ADAPTS, Cap.MERGES, Cap.BY_TOKEN})

    def needs(self) -> Iterable[Need]:
        yield Need("quantizer", Cap.TRAINABLE, "base-not-trainable")

    def check(self, facts: Facts) -> Iterable[Finding]:
        """Targets that a known family does not have, and inputs of layers that are not adapted."""
        projections = KNOWN.get((facts.model_config or {}).get("model_type", ""))
        if projections is not None and not isinstance(self.options.targets, str):
            names = [name for role in projections.values() for name in role]
            unknown = missing([t.rpartition(".")[2] for t in self.options.targets], [*names, *OTHERS])
            yield from (no_target(f"module `{name}`", names).finding for name in unknown)
        targets = PAPER if isinstance(self.options.targets, str) else self.options.targets
        for name in self.options.feedforward or ():
            if name not in targets:
                message = f"`{name}` is not among `targets`, and so is not scaled at all"
                yield Finding("bad-value", message, "feedforward", f"take of {', '.join(sorted(targets))}")

    def derive(self, facts: Facts) -> dict[str, Argument]:
        """Both lists of modules, where the model's family is known before it is fetched."""
        projections = KNOWN.get((facts.model_config or {}).get("model_type", ""))
        if projections is None:
            return {}
        targets = sorted(PAPER if isinstance(self.options.targets, str) else self.options.targets)
        inner = [name for name in targets if name.rpartition(".")[2] in projections["mlp"]]
        within = inner if self.options.feedforward is None else sorted(self.options.feedforward)
        return {"target_modules": self._argument("targets", targets),
                "feedforward_modules": self._argument("feedforward", within)}  # fmt: skip

    def config(self, model: Any) -> Any:
        targets = self._targets(model)
        within = self.options.feedforward
        if within is None:
            within = [name for name in targets if reached([name], _mlp(model))]
        given = {name: argument.value for name, argument in self.arguments().items()}
        return self.make("IA3Config", **given, target_modules=targets, feedforward_modules=sorted(within))

    def _argument(self, field: str, value: Any) -> Argument:
        return Argument(value, "spec" if field in self.options.model_fields_set else "tunewright", field)

    def _targets(self, model: Any) -> list[str]:
        names = self.options.targets
        if isinstance(names, str):
            names = self._papers(model)
        refuse_missing("targets", names, adaptable(model))
        refuse_missing("modules_to_save", self.options.modules_to_save, [path for path, _ in model.named_modules()])
        return sorted(names)

    def _papers(self, model: Any) -> list[str]:
        """By the names of the known families, else by PEFT's own table of architectures."""
        from peft.utils.constants import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as THEIRS

        paths = adaptable(model)
        if not missing(PAPER, paths):
            return list(PAPER)
        known = THEIRS.get(model.config.model_type)
        if known is None:
            message = f"which layers (IA)³ scales in a `{model.config.model_type}` is not known"
            names = sorted({path.rpartition(".")[2] for path in paths})
            raise BadOption("unknown-target", message, "targets", f"list them; it has: {', '.join(names)}")
        return list(known)


def _mlp(model: Any) -> list[str]:
    return reached(projections_of(model)["mlp"], adaptable(model))
