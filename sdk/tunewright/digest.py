"""The one place where digests are computed: of values, of files, of folders.

hashlib and json are imported where they are used: `validate` digests nothing, and must answer in a moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; refuses NaN, so that equal values give equal bytes."""
    import json

    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_json(value: Any) -> str:
    """sha256 of the canonical JSON, 64 hex digits."""
    return digest_bytes(canonical_json(value))


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes, read in blocks."""
    import hashlib

    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_bytes(data: bytes) -> str:
    """sha256 of bytes, 64 hex digits."""
    import hashlib

    return hashlib.sha256(data).hexdigest()


def digest_tree(root: Path, files: Iterable[Path] | None = None) -> str:
    """sha256 over the relative names and contents of `files` (default: every file below `root`)."""
    chosen = sorted(p for p in root.rglob("*") if p.is_file()) if files is None else files
    return digest_json({p.relative_to(root).as_posix(): digest_file(p) for p in chosen})


def digest_tensors(named: Iterable[tuple[str, Any]]) -> str:
    """Digest of torch tensors in memory by name, whatever their order and type; 64 hex digits.

    It proves which weights a model carries; of a folder's weights that is `handoff.verify.model_identity`. Values are
    compared as 32-bit floats, which hold every bf16 and fp16 exactly: an adapter that a library casts up when it loads
    it is still the same adapter. One tensor at a time is copied.
    """
    return digest_json({name: _digest_tensor(tensor) for name, tensor in named})


def _digest_tensor(tensor: Any) -> str:
    import hashlib

    found = hashlib.sha256(canonical_json(list(tensor.shape)))
    found.update(tensor.detach().float().cpu().contiguous().reshape(-1).numpy())
    return found.hexdigest()
