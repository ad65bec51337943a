"""The head of a GGUF file: what it says of itself, and which tensors it holds where. Nothing of them is read.

The package `gguf` has a reader too, which takes half a minute for a vocabulary that this one passes over in a blink:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, Any, NamedTuple

from tunewright.errors import Refused

MAGIC, VERSION = b"GGUF", 3
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9
MOST = 1 << 24  # entries of an array, or tensors: a count beyond it is damage
LONGEST = 1 << 24  # bytes of a text


class Held(NamedTuple):
    """A tensor: its shape as numpy has it, the number of its type, and its first byte after the head."""

    shape: tuple[int, ...]
    kind: int
    offset: int


class Header(NamedTuple):
    """`values` by key, with arrays of numbers and texts as lists; tensors by name, and where their bytes begin."""

    values: dict[str, Any]
    tensors: dict[str, Held]
    data: int


def read_header(file: Path) -> Header:
    """Raises `Refused` where the file is no whole GGUF."""
    try:
        with file.open("rb") as opened:
            return _header(opened)
    except (OSError, ValueError, struct.error, UnicodeDecodeError) as error:
        raise Refused(f"{file.name} is no whole GGUF: {error}", fix="export it again") from error


def _header(file: IO[bytes]) -> Header:
    magic = file.read(4)
    (version,) = _numbers(file, "I")
    if magic != MAGIC or version != VERSION:
        raise ValueError(f"it begins with {magic!r}, version {version}")
    tensors, keys = _numbers(file, "QQ")
    values = {_text(file): _value(file, _numbers(file, "I")[0]) for _ in range(_bounded(keys))}
    held = {_text(file): _held(file) for _ in range(_bounded(tensors))}
    align = int(values.get("general.alignment", 32))
    return Header(values, held, -(-file.tell() // align) * align)


def _held(file: IO[bytes]) -> Held:
    (axes,) = _numbers(file, "I")
    shape = _numbers(file, "Q" * _bounded(axes))
    kind, offset = _numbers(file, "IQ")
    return Held(tuple(reversed(shape)), kind, offset)


def _value(file: IO[bytes], kind: int) -> Any:
    if kind == STRING:
        return _text(file)
    if kind == ARRAY:
        of, count = _numbers(file, "IQ")
        if of in SCALARS:
            return list(_numbers(file, SCALARS[of] * _bounded(count)))
        return [_value(file, of) for _ in range(_bounded(count))]
    if kind not in SCALARS:
        raise ValueError(f"a value of the unknown type {kind}")
    return _numbers(file, SCALARS[kind])[0]


def _text(file: IO[bytes]) -> str:
    (length,) = _numbers(file, "Q")
    if length > LONGEST:
        raise ValueError(f"a text of {length} bytes")
    return _read(file, length).decode()


def _numbers(file: IO[bytes], letters: str) -> tuple[Any, ...]:
    return struct.unpack(f"<{letters}", _read(file, struct.calcsize(f"<{letters}")))


def _read(file: IO[bytes], length: int) -> bytes:
    found = file.read(length)
    if len(found) != length:
        raise ValueError("it ends within its head")
    return found


def _bounded(count: int) -> int:
    if count > MOST:
        raise ValueError(f"a count of {count:,}")
    return count
