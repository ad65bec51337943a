"""The contracts: one module a part. A plugin subclasses the class of its part; nothing here imports a heavy library."""

from __future__ import annotations

from tunewright.parts.adapter import AdapterMethod
from tunewright.parts.base import (
    Argument,
    Backend,
    BadOption,
    Cap,
    Facts,
    Finding,
    Head,
    LibraryOptions,
    Need,
    Options,
    Secret,
    SpecPath,
    To,
)
from tunewright.parts.data_source import DataSource
from tunewright.parts.engine import Engine
from tunewright.parts.evaluator import Evaluator
from tunewright.parts.exporter import Exporter
from tunewright.parts.gate import Gate
from tunewright.parts.loader import Loader
from tunewright.parts.model_source import ModelSource
from tunewright.parts.prompt_format import PromptFormat
from tunewright.parts.quantizer import Quantizer
from tunewright.parts.tracker import Tracker
from tunewright.parts.trainer import Trainer

PARTS: dict[str, type[Backend]] = {
    contract.part: contract
    for contract in (
        ModelSource, Loader, Quantizer, AdapterMethod, DataSource, PromptFormat,
        Trainer, Engine, Evaluator, Gate, Exporter, Tracker,
    )
}  # fmt: skip

__all__ = [
    "PARTS", "AdapterMethod", "Argument", "Backend", "BadOption", "Cap", "DataSource", "Engine", "Evaluator",
    "Exporter", "Facts", "Finding", "Gate", "Head", "LibraryOptions", "Loader", "ModelSource", "Need", "Options",
    "PromptFormat", "Quantizer", "Secret", "SpecPath", "To", "Tracker", "Trainer",
]  # fmt: skip
