"""Direct preference optimization with TRL's DPOTrainer. Rafailov et al. 2023, https://arxiv.org/abs/2305.18290"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from tunewright.parts.base import Facts, Finding, Json, To
from tunewright_trl.idle import nothing
from tunewright_trl.options import ORDERED, READ, REFERENCE, VARY, OrderedOptions
from tunewright_trl.referring import Referring

Loss = Literal[
    "sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot",
    "aot_unpaired", "discopop", "apo_zero", "apo_down", "sft",
]  # fmt: skip

SMOOTHED = ("robust", "exo_pair", "aot", "aot_unpaired")
"""The losses that read `label_smoothing`: in TRL 1.16 the sigmoid does not."""


class DpoOptions(OrderedOptions):
    """`{kind: dpo, beta: 0.1, loss: sigmoid}`."""

    kind: str = "dpo"
    beta: Annotated[
        PositiveFloat, To("beta"), Field(description="How closely the model stays with the reference; IPO's tau.")
    ] = 0.1
    loss: Annotated[
        Loss | Annotated[list[Loss], Field(min_length=1)],
        To("loss_type"),
        Field(description="Loss over a pair, by TRL's name; several are summed with `loss_weights`."),
    ] = "sigmoid"
    loss_weights: Annotated[
        list[PositiveFloat] | None,
        To("loss_weights"),
        Field(description="Weight of each loss; by default 1."),
    ] = None
    label_smoothing: Annotated[
        NonNegativeFloat,
        To("label_smoothing"),
        Field(
            lt=0.5,
            description="Share of the pairs that may be the wrong way round; read by "
            f"{', '.join(f'`{loss}`' for loss in SMOOTHED)}.",
        ),
    ] = 0.0


class Dpo(Referring[DpoOptions]):
    """Trains on pairs. The reference is the model as it came to this stage; what it says is worked out beforehand."""

    kind: ClassVar[str] = "dpo"
    Options: ClassVar[type[DpoOptions]] = DpoOptions
    consumes = ("preference",)
    accepts: ClassVar[str] = "trl:DPOConfig"
    fixed: ClassVar[dict[str, Json]] = REFERENCE
    reads = READ | ORDERED.keys()
    vary: ClassVar[dict[str, tuple[Json, Json]]] = {**VARY, **ORDERED}
    held = "HeldDpo"
    sequences = 2
    rate = 1e-6
    rate_from = "TRL's default for DPO"

    def check(self, facts: Facts) -> Iterable[Finding]:
        """As of every trainer; and what the chosen losses cannot use."""
        yield from super().check(facts)
        losses = [self.options.loss] if isinstance(self.options.loss, str) else self.options.loss
        weights = self.options.loss_weights
        if weights is not None and len(weights) != len(losses):
            message = f"{len(weights)} weights for {len(losses)} losses"
            yield Finding("bad-value", message, "loss_weights", "give one weight a loss")
        if self.options.label_smoothing and not set(losses) & set(SMOOTHED):
            yield nothing("label_smoothing", f"with the loss `{losses[0]}`", "take `loss: robust`", option=True)
        yield from self._unread(losses)
        if "exo_pair" in losses and not self.options.label_smoothing:
            message = "the loss `exo_pair` needs `label_smoothing` above 0"
            yield Finding("bad-value", message, "loss", "its paper takes 0.001")

    def _unread(self, losses: list[Loss]) -> Iterable[Finding]:
        """Options of a loss that is not computed."""
        args = self.options.args
        if "beta" in self.options.model_fields_set and set(losses) == {"sft"}:
            yield nothing("beta", "with the loss `sft` alone, which has no reference", "add a loss", option=True)
        if "discopop_tau" in args and "discopop" not in losses:
            yield nothing("discopop_tau", f"with the loss `{losses[0]}`", "take `loss: discopop`")
        if "f_alpha_divergence_coef" in args and args.get("f_divergence_type") != "alpha_divergence":
            yield nothing(
                "f_alpha_divergence_coef", "without its divergence", "add `f_divergence_type: alpha_divergence`"
            )
