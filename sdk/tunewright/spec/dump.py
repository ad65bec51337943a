"""Plain data as YAML, keys in their order: the lock that stands in a run and in a package."""

from __future__ import annotations

import sys
from io import StringIO
from typing import Any

from ruamel.yaml import YAML


def dump(value: Any) -> str:
    """YAML 1.2 text; equal values give equal text."""
    return _dumped(value, flow=False, width=100)


def flow(value: Any) -> str:
    """The same in one line, as a person writes a part of a spec: `{kind: merged, dtype: fp16}`."""
    return _dumped(value, flow=True, width=sys.maxsize).strip()


def _dumped(value: Any, flow: bool, width: int) -> str:
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = flow
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = width
    out = StringIO()
    yaml.dump(value, out)
    return out.getvalue()
