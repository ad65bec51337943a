"""Whether files are a whole model that is safe to read: the same rules, in the same words, for every source.

Each check raises `BadOption` on the source's option `field`; `model` is what the message calls the model.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tunewright.parts.base import BadOption
from tunewright_transformers.layout import INDEX, PICKLES, is_weights


def read_config(model: str, text: str | bytes, field: str) -> dict[str, Any]:
    """A config.json, which must name a model type."""
    try:
        config = json.loads(text)
    except ValueError as error:
        raise BadOption("not-a-model", f"`{model}/config.json` is not JSON: {error}", field) from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise BadOption("not-a-model", f"`{model}/config.json` names no `model_type`", field)
    return config


def check_weights(model: str, names: Collection[str], field: str) -> None:
    """Some of these files are safetensors; pickles alone are refused by name."""
    if any(map(is_weights, names)):
        return
    pickles = sorted(name for name in names if any(fnmatchcase(name, pattern) for pattern in PICKLES))
    if pickles:
        message = f"`{model}` has its weights as a pickle (`{pickles[0]}`), which runs code when it is read"
        raise BadOption("pickle-weights", message, field, "convert it to safetensors where you trust it")
    raise BadOption("not-a-model", f"`{model}` has no *.safetensors", field)


def check_shards(model: str, names: Collection[str], index: Path, field: str) -> None:
    """Every file that the index names is there. A model in one file has no index."""
    if not index.is_file():
        return
    try:
        shards = set(map(str, json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadOption("not-a-model", f"`{model}/{INDEX}` names no shards", field) from error
    lacking = sorted(shards.difference(names))
    if lacking:
        raise BadOption("not-a-model", f"`{model}` lacks the shard `{lacking[0]}`", field)
