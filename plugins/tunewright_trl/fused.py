"""The seam of the fast path: the LM head runs at supervised positions only.

TRL's trainers call `model(…, labels=…, fused_lm_head=True)` and read per-token log-probabilities (`add_fused_lm_head`
in TRL's trainer/utils.py). Where Triton does not run, as on the CPU, that forward scores every position of the padded
batch, prompt and padding too. `install` replaces it on the base model by one that gives the same output in the same
padded coordinates, and touches neither the collator nor the loss.
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

from tunewright_trl.logprob import FrozenHeadLogProb

_SETTINGS = ("temperature", "cast_lm_head_to_fp32", "final_logit_softcapping", "logit_scale", "outputs")


@dataclass
class Fused:
    """What `install` did to `base`, what it has counted since, and the way back.

    `left_alone` says why TRL's own forward is still in place; it is empty where ours is.
    """

    base: Any
    replaced: Any
    left_alone: str = ""
    scored: int = 0
    """Positions at which the LM head ran."""
    padded: int = 0
    """Positions at which it would have run: every one of the padded batches that has a next token."""

    def uninstall(self) -> None:
        """Put back the forward that `install` found."""
        if not self.left_alone:
            self.base.forward = self.replaced


def install(model: Any) -> Fused:
    """Replace the fused forward that TRL put on `model`, a transformers model or a PEFT one around it."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    trl_forward = base.forward
    settings = _settings_of(trl_forward)
    fused = Fused(base, trl_forward, _reason_to_leave(base, settings))
    if not fused.left_alone:
        base.forward = types.MethodType(_forward(fused, settings), base)
    return fused


def _settings_of(trl_forward: Any) -> Mapping[str, Any]:
    """What TRL worked out about this model's logits, read where TRL keeps it: there is no second list of its names."""
    return inspect.getclosurevars(getattr(trl_forward, "__func__", trl_forward)).nonlocals


def _reason_to_leave(base: Any, settings: Mapping[str, Any]) -> str:
    if any(name not in settings for name in _SETTINGS):
        return "the model's forward is not the fused one of the TRL that this was written for"
    device = base.get_output_embeddings().weight.device
    if _use_triton(device):
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
        hidden = self.base_model(*args, **{**kwargs, "use_cache": False}).last_hidden_state[:, :-1]
        targets = labels[:, 1:]
        mask = targets != -100
        fused.scored += int(mask.sum())
        fused.padded += mask.numel()
        per_token = _score(hidden[mask], self.get_output_embeddings(), targets[mask], settings)
        return _padded(per_token, mask, num_items)

    return forward


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
