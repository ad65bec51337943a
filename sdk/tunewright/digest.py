"""The one place where digests are computed: of values, of files, of folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no spaces; refuses NaN, so that equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_json(value: Any) -> str:
    """sha256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_bytes(data: bytes) -> str:
    """sha256 of bytes, 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def digest_tree(root: Path, files: Iterable[Path] | None = None) -> str:
    """sha256 over the relative names and contents of `files` (default: every file below `root`)."""
    chosen = sorted(p for p in root.rglob("*") if p.is_file()) if files is None else files
    return digest_json({p.relative_to(root).as_posix(): digest_file(p) for p in chosen})
