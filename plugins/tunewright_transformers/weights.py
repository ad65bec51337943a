"""The digest of tensors in memory: proves which weights a model carries. A folder's is the core's `model_identity`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tunewright.digest import canonical_json, digest_json


def digest_tensors(named: Iterable[tuple[str, Any]]) -> str:
    """Digest of torch tensors by name, whatever their order and type; 64 hex digits.

    Values are compared as 32-bit floats, which hold every bf16 and fp16 exactly: an adapter that a library casts up
    when it loads it is still the same adapter. One tensor at a time is copied.
    """
    return digest_json({name: _digest(tensor) for name, tensor in named})


def _digest(tensor: Any) -> str:
    import hashlib

    found = hashlib.sha256(canonical_json(list(tensor.shape)))
    found.update(tensor.detach().float().cpu().contiguous().reshape(-1).numpy())
    return found.hexdigest()
