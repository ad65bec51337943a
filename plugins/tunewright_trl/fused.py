"""The seam of the fast path: shared beginnings are computed once, the LM head runs at supervised positions only.

TRL's trainers call `model(…, labels=…, fused_lm_head=True)` and read per-token log-probabilities (`add_fused_lm_head`
in TRL's trainer/utils.py). `install` replaces that forward on the base model by one that lays the padded batch out as a
prefix tree, runs the backbone over the tree's tokens, scores the supervised positions and gives the same output in the
same padded coordinates. It touches neither the collator nor the loss.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from trl.kernels.chunked_logprob import _use_triton
from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE, FusedCausalLMOutput, _ChunkedLogProbFunction

from tunewright_transformers.attention import Attending
from tunewright_transformers.flex import FlexLayout
from tunewright_transformers.kernels import chosen, probe
from tunewright_transformers.prefix import tree_of
from tunewright_transformers.tree_attention import TREE, Layout, run
from tunewright_trl.forwards import Forwards
from tunewright_trl.lean import LeanLayers
from tunewright_trl.logprob import FrozenHeadLogProb
from tunewright_trl.low_rank import LowRankLayers
from tunewright_trl.sharing import not_by_flex

_SETTINGS = ("temperature", "cast_lm_head_to_fp32", "final_logit_softcapping", "logit_scale", "outputs")


@dataclass
class Fused:
    """What `install` did to `base`, what it has counted since, and the way back.

    `left_alone` says why TRL's own forward is still in place, `unshared` why each row is computed whole; they are empty
    where it is otherwise.
    """

    base: Any
    replaced: Any
    left_alone: str = ""
    unshared: str = ""
    not_flex: str = ""
    """Why trees are attended to by products, and not by torch's `flex_attention`."""
    by_liger: int = 0
    """Norms and gated MLPs that run by Liger's kernels."""
    not_liger: str = ""
    """Why they do not, or not all of them."""
    layout: type[Layout] = Layout
    attending: Attending | None = None
    lighter: tuple[Forwards, ...] = ()
    """Layers that run with less work, or keep less."""
    scored: int = 0
    """Positions at which the LM head ran."""
    padded: int = 0
    """Positions at which it would have run: every one of the padded batches that has a next token."""
    computed: int = 0
    """Tokens that the backbone computed."""
    given: int = 0
    """Tokens of the rows, padding left out: what it would have computed at least."""

    @property
    def attention(self) -> str:
        """What attends to trees; nothing where each row is computed whole."""
        if self.unshared or self.left_alone:
            return ""
        return "flex" if self.layout is FlexLayout else "products"

    def uninstall(self) -> None:
        """Put back what `install` found."""
        if not self.left_alone:
            self.base.forward = self.replaced
        if self.attending is not None:
            self.attending.stop()
            self.attending = None
        for layers in self.lighter:
            layers.stop()


def install(
    model: Any, unshared: str = "beginnings are not to be shared", left_alone: str = "", longest: int = 64
) -> Fused:
    """Replace the fused forward that TRL put on `model`, a transformers model or a PEFT one around it.

    `unshared` is the reason why rows are not to share what they begin with; none lets them. `left_alone` is a reason to
    replace nothing: one of the training's own, beside those that are found in the model. Kernels are tried on
    rows of up to `longest` tokens, and none is longer than the training's longest.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    trl_forward = base.forward
    settings = _settings_of(trl_forward)
    left_alone = left_alone or _reason_to_leave(base, settings, unshared)
    fused = Fused(base, trl_forward, left_alone, unshared or left_alone)
    if not fused.left_alone:
        kernels = chosen(probe(base.device))
        if not unshared:
            fused.not_flex = kernels.not_flex or not_by_flex(model, longest)
            fused.layout = Layout if fused.not_flex else FlexLayout
        base.forward = types.MethodType(_forward(fused, settings), base)
        # on until `uninstall`: checkpointing runs layers again in the backward
        fused.attending = None if unshared else Attending(base, TREE)
        lean = LeanLayers(model, kernels.not_liger)
        fused.lighter = (LowRankLayers(model), lean)
        fused.by_liger, fused.not_liger = lean.by_liger, lean.not_liger
    return fused


def _settings_of(trl_forward: Any) -> Mapping[str, Any]:
    """What TRL worked out about this model's logits, read where TRL keeps it: there is no second list of its names."""
    return inspect.getclosurevars(getattr(trl_forward, "__func__", trl_forward)).nonlocals


def _reason_to_leave(base: Any, settings: Mapping[str, Any], unshared: str) -> str:
    if any(name not in settings for name in _SETTINGS):
        return "the model's forward is not the fused one of the TRL that this was written for"
    device = base.get_output_embeddings().weight.device
    if unshared and _use_triton(device):
        return f"on `{device.type}` TRL itself scores supervised positions only"
    if hasattr(base.config.get_text_config(), "output_router_logits"):
        return "a mixture of experts has a loss of its own beside the tokens' loss"
    if settings["cast_lm_head_to_fp32"]:
        return "the head is to run in fp32"
    return ""


def _forward(fused: Fused, settings: Mapping[str, Any]) -> Any:
    trl_forward = fused.replaced

    # `generate` and the trainer read the signature of the model's own forward
    @functools.wraps(type(fused.base).forward)
    def forward(
        self: Any, *args: Any, fused_lm_head: bool = False, labels: Any = None, shift_labels: Any = None, **kwargs: Any
    ) -> Any:
        if not fused_lm_head or labels is None or shift_labels is not None:
            given = {"labels": labels, "shift_labels": shift_labels}
            kwargs.update({name: value for name, value in given.items() if value is not None})
            return trl_forward(*args, fused_lm_head=fused_lm_head, **kwargs)
        num_items = kwargs.pop("num_items_in_batch", None)
        targets = labels[:, 1:]
        mask = targets != -100
        hidden = _shared(self, fused, mask, args, kwargs)
        if hidden is None:
            hidden = _whole(self, fused, mask, args, kwargs)
        fused.scored += int(mask.sum())
        fused.padded += mask.numel()
        per_token = _score(hidden, self.get_output_embeddings(), targets[mask], settings)
        return _padded(per_token, mask, num_items)

    return forward


def _whole(model: Any, fused: Fused, mask: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Hidden states [N, H] at the supervised positions `mask` [B, L - 1], each row computed whole."""
    states = model.base_model(*args, **{**kwargs, "use_cache": False}).last_hidden_state
    fused.computed += states.shape[0] * states.shape[1]
    seen = kwargs.get("attention_mask")
    fused.given += states.shape[0] * states.shape[1] if seen is None else int(seen.sum())
    return states[:, :-1][mask]


def _shared(model: Any, fused: Fused, mask: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """The same over the batch's prefix tree; None where this batch has to be computed whole.

    A row is computed up to its last supervised position: nothing is asked of what comes after.
    """
    further = [name for name, value in kwargs.items() if value is not None and name not in _TREE_TAKES]
    if fused.attending is None or args or further or "input_ids" not in kwargs:
        return None
    ids, seen = kwargs["input_ids"], kwargs.get("attention_mask")
    reach = mask * torch.arange(1, ids.shape[1], device=ids.device)
    lengths = reach.amax(1)
    if not bool(lengths.any()):
        return None  # nothing is supervised: TRL wants a zero that can be differentiated
    real = torch.full_like(lengths, ids.shape[1]) if seen is None else seen.sum(1)
    if seen is not None and not bool((seen[:, 0].bool() & (seen.cumprod(1).sum(1) == real)).all()):
        return None  # not padded on the right
    tree = tree_of(ids, lengths)
    layout = fused.layout(tree, fused.attending.heads, model.device)
    fused.computed += layout.tokens
    fused.given += int(real.sum())
    states = run(model.base_model, tree, layout)
    return states[tree.where.to(states.device)[:, :-1][mask]]


_TREE_TAKES = frozenset({"input_ids", "attention_mask", "use_cache"})
"""Arguments of the forward that a tree replaces; with any other the batch is computed whole."""


def _score(hidden: Any, head: Any, targets: Any, settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """For `targets` [N] at `hidden` [N, H]: log-probability, entropy, log Σp², mean logit, is-top-1; or None."""
    if _is_plain(hidden, head, settings):
        log_probs, *others = FrozenHeadLogProb.apply(hidden, head.weight, targets)
        found = dict(zip(("entropy", "mean_logits", "is_top1"), others, strict=True))
        entropy, mean, is_top1 = (value if name in settings["outputs"] else None for name, value in found.items())
        return log_probs, entropy, None, mean, is_top1
    return _ChunkedLogProbFunction.apply(
        hidden,
        head.weight,
        head.bias,
        targets,
        settings["temperature"],
        _CHUNKED_LOGPROB_CHUNK_SIZE,
        settings["final_logit_softcapping"],
        settings["logit_scale"],
        settings["outputs"],
    )


def _is_plain(hidden: Any, head: Any, settings: Mapping[str, Any]) -> bool:
    """Whether the logits are `hidden @ weight.T` of a head that is not trained, and no statistic of them is asked that
    `FrozenHeadLogProb` does not give."""
    return (
        not head.weight.requires_grad
        and head.bias is None
        and hidden.dtype == head.weight.dtype
        and settings["final_logit_softcapping"] is None
        and settings["logit_scale"] == settings["temperature"] == 1.0
        and {"log_probs", "entropy", "mean_logits", "is_top1"}.issuperset(settings["outputs"])
    )


def _padded(per_token: tuple[Any, ...], mask: Any, num_items: Any) -> FusedCausalLMOutput:
    """Scores of the N supervised positions back in `mask`'s shape [B, L-1], zero elsewhere.

    `masked_scatter` keeps the output joined to the model where no position is supervised: such a batch gives a zero
    that can be differentiated.
    """
    log_probs, entropy, log_sum_sq_probs, mean_logits, is_top1 = (
        None if x is None else x.new_zeros(mask.shape).masked_scatter(mask, x) for x in per_token
    )
    return FusedCausalLMOutput(
        loss=-log_probs.sum() / (mask.sum().clamp(min=1) if num_items is None else torch.as_tensor(num_items)),
        log_probs=log_probs,
        entropy=entropy,
        log_sum_sq_probs=log_sum_sq_probs,
        mean_logits=mean_logits,
        is_top1=is_top1,
        label_mask=mask,
    )
