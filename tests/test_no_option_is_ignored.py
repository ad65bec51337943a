"""Every field of every installed backend reaches a library argument, the backend's own code, or the core's."""

from __future__ import annotations

import pytest

from tunewright.host import Host
from tunewright.parts import PARTS, LibraryOptions, Options, To
from tunewright.parts.data_source import SourceOptions
from tunewright.parts.evaluator import EvaluatorOptions
from tunewright.parts.exporter import ExporterOptions
from tunewright.parts.gate import GateOptions
from tunewright.parts.trainer import TrainerOptions

CORE = (Options, LibraryOptions, SourceOptions, EvaluatorOptions, ExporterOptions, GateOptions, TrainerOptions)
CORE_FIELDS = {name for model in CORE for name in model.model_fields}
KEYS = sorted(Host().table)


@pytest.mark.parametrize("key", KEYS)
def test_every_field_goes_somewhere(key):
    part, _, kind = key.partition("/")
    backend = Host().backend(part, kind)
    assert issubclass(backend, PARTS[part])
    for name, info in backend.Options.model_fields.items():
        marked = any(isinstance(mark, To) for mark in info.metadata)
        assert marked or name in backend.reads or name in CORE_FIELDS, f"{key}: `{name}` reaches nothing"
        assert info.description or name in ("kind", "args", "path", "where"), f"{key}: `{name}` has no description"


@pytest.mark.parametrize("key", KEYS)
def test_unknown_keys_are_refused(key):
    part, _, kind = key.partition("/")
    assert Host().backend(part, kind).Options.model_config["extra"] == "forbid"
