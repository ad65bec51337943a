"""What this machine knows of the hub without asking it: one small file in the user's cache for each last pin.

Every pin that the hub answered is kept, with the model's config.json. It serves `validate`, which asks no network, and
a `plan` or `run` where the hub cannot be reached.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from tunewright_transformers.layout import LAYOUT


class Asked(NamedTuple):
    """What was asked of which hub; an empty endpoint is the library's own."""

    endpoint: str
    repo: str
    revision: str


class Record(NamedTuple):
    """What the hub answered: a commit, the digest of its listing, the licence it names, and the config.json."""

    commit: str
    files: str
    license: str
    config: dict[str, Any]


def read_record(asked: Asked) -> Record | None:
    """The last pin, or None where there is none. A damaged file counts as none: the next pin writes it anew."""
    import json

    try:
        found = json.loads(_path(asked).read_bytes())
        record = Record(*(found[name] for name in Record._fields))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return record if isinstance(record.config, dict) else None


def write_record(asked: Asked, record: Record) -> None:
    """Replace the last pin in one step. Raises `EnvironmentFault` where the cache cannot be written."""
    from tunewright.digest import canonical_json
    from tunewright.store import disk

    path = _path(asked)
    disk.make_folder(path.parent)
    disk.replace(path, canonical_json({**asked._asdict(), **record._asdict()}))


def _path(asked: Asked) -> Path:
    from tunewright.digest import digest_json  # late, as the store is: `validate` imports this module
    from tunewright.store.cache import cache_root

    # with the layout: a release that takes other files pins anew, rather than find a listing that differs
    return cache_root() / "hub" / f"{digest_json([*asked, *LAYOUT])[:32]}.json"
