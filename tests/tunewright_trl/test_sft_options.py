"""Each option reaches the argument of SFTConfig that it names, and the module needs no torch to be read."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError
from trl import SFTConfig

from tunewright.parts.base import Argument, Facts, To
from tunewright_trl.arguments import ELSEWHERE, IDLE, PASSED, UNSUPPORTED
from tunewright_trl.sft import Sft, SftOptions

# field: the library's argument, and a value that is not the default
FIELDS = {
    "epochs": ("num_train_epochs", 3),
    "max_steps": ("max_steps", 7),
    "batch_size": ("per_device_train_batch_size", 4),
    "accumulation": ("gradient_accumulation_steps", 2),
    "learning_rate": ("learning_rate", 1e-3),
    "schedule": ("lr_scheduler_type", "cosine"),
    "warmup_steps": ("warmup_steps", 0.1),
    "optimizer": ("optim", "paged_adamw_8bit"),
    "weight_decay": ("weight_decay", 0.1),
    "max_grad_norm": ("max_grad_norm", 0.5),
    "checkpointing": ("activation_checkpointing", True),
}
NAMES = {field.name for field in dataclasses.fields(SFTConfig)}


def sft(**options: Any) -> Sft:
    return Sft(SftOptions.model_validate(options))


def test_every_option_is_tried() -> None:
    own = {name for name, info in SftOptions.model_fields.items() if any(isinstance(m, To) for m in info.metadata)}
    assert own == set(FIELDS)


@pytest.mark.parametrize("field", FIELDS)
def test_an_option_changes_its_argument_and_no_other(field: str) -> None:
    argument, value = FIELDS[field]
    before, after = sft().arguments(), sft(**{field: value}).arguments()
    assert {name for name in after if after[name] != before[name]} == {argument}
    assert after[argument] == Argument(value, "spec", field)


def test_every_argument_of_the_library_has_one_place() -> None:
    """The table is the library's own: a new version's arguments must be sorted before it is allowed."""
    places = [PASSED, IDLE, UNSUPPORTED, set(ELSEWHERE), set(sft().arguments())]
    assert set().union(*places) == NAMES
    assert sum(map(len, places)) == len(NAMES)


def test_args_pass_through() -> None:
    backend = sft(args={"loss_type": "dft"})
    assert backend.arguments()["loss_type"] == Argument("dft", "spec", "args")
    assert list(backend.check(Facts())) == []


@pytest.mark.parametrize(
    ("name", "code", "suggestion"),
    [
        ("shuffle_dataset", "argument-unused", ""),
        ("eval_steps", "argument-unused", ""),
        ("fsdp", "unsupported-argument", ""),
        ("seed", "argument-taken", "set `seed` at the top of the spec instead"),
        ("gradient_checkpointing", "argument-taken", "set `checkpointing` instead"),
        ("adam_beta_2", "unknown-argument", "adam_beta2"),
    ],
)
def test_an_argument_that_cannot_be_passed_is_a_finding(name: str, code: str, suggestion: str) -> None:
    (finding,) = sft(args={name: 1}).check(Facts())
    assert (finding.code, finding.field) == (code, f"args.{name}")
    assert suggestion in finding.suggestion


@pytest.mark.parametrize("name", ["learning_rate", "packing"])
def test_what_an_option_or_the_plugin_sets_is_left_to_the_core(name: str) -> None:
    assert list(sft(args={name: 1}).check(Facts())) == []


@pytest.mark.parametrize(
    "wrong", [{"learning_rate": 0}, {"epochs": 0}, {"max_steps": 0}, {"warmup_steps": -1}, {"optimizer": "adam"}]
)
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        sft(**wrong)


def test_reading_the_options_imports_nothing_heavy() -> None:
    code = """
import sys, tunewright_trl.sft as m
m.Sft(m.SftOptions(epochs=2)).signature()
print(sorted({"torch", "transformers", "trl", "datasets", "peft"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
