"""What the readers of published benchmarks share: an entry has the shape of its benchmark, or it is said how not."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tunewright.parts.base import Json
from tunewright.spec.suggest import did_you_mean


class Unfit(Exception):
    """An entry is not of the benchmark's form; the text says in what."""


def text_at(entry: Mapping[str, Json], key: str) -> str:
    """A text with something in it. Raises `Unfit`."""
    found = at(entry, key)
    if not isinstance(found, str) or not found.strip():
        raise Unfit(f"`{key}` should be a text with something in it")
    return found


def texts_at(entry: Mapping[str, Json], key: str) -> list[str]:
    """A list of texts with something in each. Raises `Unfit`."""
    found = at(entry, key)
    if not isinstance(found, list) or not found or not all(isinstance(one, str) and one.strip() for one in found):
        raise Unfit(f"`{key}` should be a list of texts with something in each")
    return found


def one_of(entry: Mapping[str, Json], key: str, known: Collection[str]) -> str:
    """One of the benchmark's own words. Raises `Unfit`."""
    found = at(entry, key)
    if found not in known:
        raise Unfit(f"`{key}` is {found!r}: {did_you_mean(str(found), known)}")
    return str(found)


def at(entry: Mapping[str, Json], key: str) -> Any:
    """What stands under a key. Raises `Unfit` where it is not there, or `entry` has no keys at all."""
    if not isinstance(entry, Mapping):
        raise Unfit(f"a JSON object with `{key}` should be here")
    if key not in entry:
        raise Unfit(f"it has no `{key}`")
    return entry[key]
