"""Whether a model turns a token by the length of what it is computed with, and not by the token's place alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

BOUNDS = ("original_max_position_embeddings", "max_position_embeddings")
"""Where a config may say up to which length nothing changes."""


def rotates_by_length(config: Any, longest: int) -> bool:
    """Whether the rotary positions of a pass depend on its longest row, where rows have up to `longest` tokens.

    `longrope` has factors for short and for long passes, `dynamic` stretches its base with a pass: beyond the length
    that the model was first made for, what is computed in a pass of its own, or beside a longer row, is not what it is
    alone. Up to that length no factor changes. `config` is the library's, of which that of the text is looked at.
    """
    text = config.get_text_config()
    for settings in _settings(text):
        kind = str(settings.get("rope_type") or settings.get("type") or "")
        by_length = kind == "longrope" or "dynamic" in kind  # as the library tells them apart
        if by_length and longest > _bound(text, settings):
            return True
    return False


def _settings(config: Any) -> Iterator[Mapping[str, Any]]:
    """What the config says of rotary positions: for all layers, or for each kind of layers."""
    for name in ("rope_parameters", "rope_scaling"):  # code that comes with a model may know the older name alone
        found = getattr(config, name, None)
        if isinstance(found, Mapping):
            yield found
            yield from (each for each in found.values() if isinstance(each, Mapping))


def _bound(config: Any, settings: Mapping[str, Any]) -> int:
    """The longest row for which nothing changes: the least of all that is said, 0 where nothing is."""
    said = [found for name in BOUNDS for found in (settings.get(name), getattr(config, name, None))]
    return min((length for length in said if length is not None), default=0)
