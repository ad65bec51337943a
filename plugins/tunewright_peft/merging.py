"""An adapter folded into its base: a whole model, that needs no PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunewright.errors import Refused
from tunewright_transformers.full import save_model


def fold(wrapped: Any, out: Path) -> None:
    """Fold the adapter into the base's weights, in their type, and write the model into the empty folder `out`.

    Raises `Refused` where the base is packed, the method has no such form, or a number would not be finite.
    """
    base = wrapped.get_base_model()
    if getattr(base, "hf_quantizer", None) is not None:
        raise Refused("an adapter is merged into the base's own weights, and this base is quantized",
                      fix="load the base unquantized")  # fmt: skip
    _untie(base)
    try:
        merged = wrapped.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError, AttributeError) as error:
        raise Refused(f"the adapter cannot be merged: {error}", fix="keep it apart from its base") from error
    save_model(merged, out)


def _untie(base: Any) -> None:
    """Give a tied head weights of its own where it, or the embedding, was adapted: else both would be changed."""
    from torch.nn import Parameter

    embedding, head = base.get_input_embeddings(), base.get_output_embeddings()
    inner = [_original(module) for module in (embedding, head)]
    tied = None not in inner and inner[0].weight is inner[1].weight
    if tied and (inner[0] is not embedding or inner[1] is not head):
        inner[1].weight = Parameter(inner[1].weight.detach().clone(), requires_grad=False)


def _original(module: Any) -> Any:
    for inside in ("base_layer", "original_module", "token_adapter"):
        if module is not None and inside in dict(module.named_children()):
            return _original(getattr(module, inside))
    return module
