"""Whether the rows of a training may share what they begin with: only where that changes nothing but rounding.

What the spec alone shows is said by `plan` (`not_by_spec`); what the model and the rows show, before the first step
(`not_by_model`); and by which attention they do (`not_by_flex`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tunewright.parts.base import Cap, Facts
from tunewright_trl.options import LoopOptions

if TYPE_CHECKING:
    import torch


SMOOTHING = "label smoothing reads every logit of every token"


def smooths(options: LoopOptions) -> bool:
    """Whether the loss is TRL's smoothed one, taken of the whole batch's logits and not of the fast forward."""
    return bool(options.args.get("label_smoothing_factor"))


def not_by_spec(options: LoopOptions, facts: Facts) -> str:
    """Why rows of this spec cannot share their beginnings; nothing where they may."""
    if options.neftune_alpha is not None:
        return "NEFTune's noise is drawn anew for each row"
    if smooths(options):
        return SMOOTHING
    adapter = facts.offers.get("adapter")
    if adapter is not None and Cap.BY_TOKEN not in adapter:
        return "the adapter draws by chance, or looks at more than a token's own state"
    return ""


def not_by_model(model: Any, longest: int, multiple: int = 1) -> str:
    """Why rows of up to `longest` tokens, padded to a `multiple` of some, cannot share their beginnings on this very
    model; nothing where they may.

    Asks the model itself: a few tokens over a tree have to give what they give row by row.
    """
    from torch.nn.modules.dropout import _DropoutNd

    from tunewright_transformers.kept import exceeded_window
    from tunewright_transformers.rotary import rotates_by_length

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    dropped = max((float(module.p) for module in model.modules() if isinstance(module, _DropoutNd)), default=0.0)
    if dropped:
        return f"dropout of {dropped:g} is drawn anew for each row"
    for config in getattr(model, "peft_config", {}).values():
        if any(value for name, value in vars(config).items() if "dropout" in name):
            return "the adapter drops by chance, anew for each row"
    if (window := exceeded_window(base, longest)) is not None:
        return f"rows of up to {longest:,} tokens exceed the model's window of {window:,}"
    if rotates_by_length(base.config, -(-longest // multiple) * multiple):
        return "its rotary positions depend on the longest row"
    return _as_it_is_trained(model, lambda: _tried(base))


def not_by_flex(model: Any, longest: int) -> str:
    """Why trees of rows of up to `longest` tokens are not attended to by torch's `flex_attention` on this very model;
    nothing where they may be."""
    from tunewright_transformers import flex

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return _as_it_is_trained(model, lambda: flex.not_by_flex(base, longest))


def _as_it_is_trained(model: Any, tried: Callable[[], str]) -> str:
    """What a trial tells in train mode, in which attention drops scores; each module is then in the mode it was in.

    The loop puts the model into it only later. In eval mode layers of 4 bits may also repack their weights for good.
    """
    before = {module: module.training for module in model.modules()}
    model.train()
    try:
        return tried()
    finally:
        for module, training in before.items():
            module.training = training


def _tried(base: Any) -> str:
    import torch

    from tunewright_transformers.attention import Attending
    from tunewright_transformers.prefix import tree_of
    from tunewright_transformers.tree_attention import TREE, Layout, run
    from tunewright_transformers.trial import why_not

    ids, lengths = _rows(base.config.get_text_config().vocab_size)
    seen = (torch.arange(ids.shape[1]) < lengths[:, None]).to(base.device)

    def over_a_tree() -> torch.Tensor:
        tree = tree_of(ids, lengths, least=1)
        with Attending(base, TREE) as attending:
            states = run(base.base_model, tree, Layout(tree, attending.heads, base.device))
        return states[tree.where.to(states.device)[seen]]

    def plainly() -> torch.Tensor:
        made = base.base_model(input_ids=ids.to(base.device), attention_mask=seen.long(), use_cache=False)
        states: torch.Tensor = made.last_hidden_state[seen]
        return states

    return why_not(over_a_tree, plainly)


def _rows(vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three rows that share beginnings in two levels: ids [3, 9] and lengths [3]."""
    import torch

    ids = torch.tensor(
        [[5, 7, 11, 13, 17, 19, 23, 29, 31], [5, 7, 11, 13, 17, 37, 41, 0, 0], [5, 7, 11, 43, 47, 0, 0, 0, 0]]
    )
    return ids % vocabulary, torch.tensor([9, 7, 5])
