"""The base that an adapter was trained on, in the adapter's own file: it is there where no manifest lies beside it.

A safetensors file may hold texts of its own in its header, which PEFT and every engine pass over.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import IO, Any

from tunewright.errors import Refused
from tunewright.handoff.verify import read_header
from tunewright.store import disk

ADAPTER = "adapter_model.safetensors"
KEY, METADATA = "tunewright.base", "__metadata__"


def bind(folder: Path, identity: str) -> None:
    """Write a base's identity into the adapter of a folder; nothing where it holds none. Equal files stay equal."""
    path = folder / ADAPTER
    if not path.is_file():
        return
    staged = path.with_name(f".{path.name}.bound")
    with path.open("rb") as source, staged.open("wb") as target:
        header = _header(source, path)
        texts = {**header.pop(METADATA, {}), KEY: identity}
        data = json.dumps({METADATA: texts, **header}, separators=(",", ":"), ensure_ascii=False).encode()
        data += b" " * (-len(data) % 8)  # as safetensors aligns what follows
        target.write(len(data).to_bytes(8, "little") + data)
        shutil.copyfileobj(source, target)
    shutil.copymode(path, staged)
    disk.rename(staged, path)


def bound_to(folder: Path) -> str | None:
    """The identity of the base that a folder's adapter names; None where it names none, or there is no adapter.

    Raises `Refused` where the adapter's file is damaged.
    """
    path = folder / ADAPTER
    if not path.is_file():
        return None
    with path.open("rb") as file:
        found = _header(file, path).get(METADATA, {}).get(KEY)
    return found if isinstance(found, str) else None


def _header(file: IO[bytes], path: Path) -> dict[str, Any]:
    """The header of a safetensors file, which is left at its data."""
    try:
        return read_header(file, path.stat().st_size)[0]
    except ValueError as error:
        message = f"{path.parent.name}/{path.name} cannot be read: {error}"
        raise Refused(message, fix="take the original, or train it anew") from error
