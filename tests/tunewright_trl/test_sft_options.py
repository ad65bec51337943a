"""Each option reaches the argument of SFTConfig that it names, and the module needs no torch to be read."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError
from trl import SFTConfig

from tunewright.parts.base import Facts, To
from tunewright_trl.sft import _ELSEWHERE, _IDLE, Sft, SftOptions

OTHER = {
    "epochs": 3, "max_steps": 7, "batch_size": 4, "accumulation": 2, "learning_rate": 1e-3, "schedule": "cosine",
    "warmup_steps": 0.1, "optimizer": "paged_adamw_8bit", "weight_decay": 0.1, "max_grad_norm": 0.5,
    "checkpointing": True,
}  # fmt: skip
NAMES = {field.name for field in dataclasses.fields(SFTConfig)}


def sft(**options: Any) -> Sft:
    return Sft(SftOptions.model_validate(options))


def test_every_option_is_tried() -> None:
    own = {name for name, info in SftOptions.model_fields.items() if any(isinstance(m, To) for m in info.metadata)}
    assert own == set(OTHER)


@pytest.mark.parametrize("field", OTHER)
def test_an_option_changes_its_argument_and_no_other(field: str) -> None:
    before, after = sft().arguments(), sft(**{field: OTHER[field]}).arguments()
    (mark,) = (m for m in SftOptions.model_fields[field].metadata if isinstance(m, To))
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {mark.argument}
    assert after[mark.argument].value == OTHER[field]
    assert after[mark.argument].set_by == "spec"


def test_every_argument_is_one_of_the_librarys() -> None:
    assert set(sft().arguments()) <= NAMES
    assert _IDLE.union(_ELSEWHERE).issubset(NAMES)


def test_args_pass_through() -> None:
    assert sft(args={"loss_type": "dft"}).arguments()["loss_type"].value == "dft"


@pytest.mark.parametrize(
    ("name", "code"),
    [("shuffle_dataset", "argument-unused"), ("eval_steps", "argument-unused"), ("seed", "argument-taken")],
)
def test_an_argument_that_would_do_nothing_is_a_finding(name: str, code: str) -> None:
    (finding,) = sft(args={name: 1}).check(Facts())
    assert (finding.code, finding.field) == (code, f"args.{name}")


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
