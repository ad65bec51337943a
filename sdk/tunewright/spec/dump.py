"""Plain data as YAML, keys in their order: the lock that stands in a run and in a package."""

from __future__ import annotations

from io import StringIO
from typing import Any

from ruamel.yaml import YAML


def dump(value: Any) -> str:
    """YAML 1.2 text; equal values give equal text."""
    yaml: Any = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False
    yaml.width = 100
    out = StringIO()
    yaml.dump(value, out)
    return out.getvalue()
