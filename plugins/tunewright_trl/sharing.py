"""Whether the rows of a training may share what they begin with: only where that changes nothing but rounding.

What the spec alone shows is said by `plan` (`not_by_spec`); what the model and the rows show, before the first step
(`not_by_model`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tunewright.parts.base import Cap, Facts
from tunewright_trl.options import LoopOptions

if TYPE_CHECKING:
    import torch

EXACT = {"float32": 1e-3, "float64": 1e-3}
"""How far hidden states may be apart, in relative L2, by type: a mask that leaks, or a position that is wrong, is a
hundred times as far. Types of 16 bits round more."""
ROUGH = 5e-2


def not_by_spec(options: LoopOptions, facts: Facts) -> str:
    """Why rows of this spec cannot share their beginnings; nothing where they may."""
    if options.neftune_alpha is not None:
        return "NEFTune's noise is drawn anew for each row"
    adapter = facts.offers.get("adapter")
    if adapter is not None and Cap.BY_TOKEN not in adapter:
        return "the adapter draws by chance, or looks at more than a token's own state"
    return ""


def not_by_model(model: Any, longest: int) -> str:
    """Why rows of up to `longest` tokens cannot share their beginnings on this very model; nothing where they may.

    Asks the model itself: a few tokens over a tree have to give what they give row by row.
    """
    from torch.nn.modules.dropout import _DropoutNd
    from transformers import DynamicCache

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    dropped = max((float(module.p) for module in model.modules() if isinstance(module, _DropoutNd)), default=0.0)
    if dropped:
        return f"dropout of {dropped:g} is drawn anew for each row"
    for config in getattr(model, "peft_config", {}).values():
        if any(value for name, value in vars(config).items() if "dropout" in name):
            return "the adapter drops by chance, anew for each row"
    windows = [layer.sliding_window for layer in DynamicCache(config=base.config).layers if layer.is_sliding]
    if longest > min(windows, default=longest):
        return f"rows of up to {longest:,} tokens exceed the model's window of {min(windows):,}"
    return _tried(base)


def _tried(base: Any) -> str:
    import torch

    from tunewright_transformers.prefix import tree_of
    from tunewright_transformers.tree_attention import Attending, Layout, run

    ids, lengths = _rows(base.config.get_text_config().vocab_size)
    seen = (torch.arange(ids.shape[1]) < lengths[:, None]).to(base.device)
    try:
        attending = Attending(base)
    except ValueError as error:
        return str(error)
    try:
        with torch.no_grad():
            tree = tree_of(ids, lengths, least=1)
            shared = run(base.base_model, tree, Layout(tree, attending.heads, base.device))
    except (ValueError, TypeError, KeyError) as error:  # the model's attention asks for what a tree cannot give
        return str(error)
    finally:
        attending.stop()
    with torch.no_grad():
        whole = base.base_model(
            input_ids=ids.to(base.device), attention_mask=seen.long(), use_cache=False
        ).last_hidden_state[seen]
    apart = _apart(shared[tree.where.to(shared.device)[seen]], whole)
    allowed = EXACT.get(str(whole.dtype).removeprefix("torch."), ROUGH)
    return "" if apart <= allowed else f"the model answers otherwise over a tree: {apart:.1g} apart, in relative L2"


def _rows(vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Three rows that share beginnings in two levels: ids [3, 9] and lengths [3]."""
    import torch

    ids = torch.tensor(
        [[5, 7, 11, 13, 17, 19, 23, 29, 31], [5, 7, 11, 13, 17, 37, 41, 0, 0], [5, 7, 11, 43, 47, 0, 0, 0, 0]]
    )
    return ids % vocabulary, torch.tensor([9, 7, 5])


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.float() - other.float()).norm() / other.float().norm().clamp(min=1e-12))
