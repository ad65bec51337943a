"""The adapter of Banking77 in every form a client may serve, certified in one run: `make realdata-forms`."""

from __future__ import annotations

import importlib.util
import json

import pytest

from realdata.runs import HERE, marks, run
from tunewright_llamacpp.engine import LlamaCpp, LlamaCppOptions

SPEC = HERE / "banking77.yaml"
FP32 = ["model.dtype=fp32", "quantization.compute_dtype=fp32"]
FAST = ["trainer.optimizer=adamw_torch_fused"]
"""On a CPU, states of 8 bits take a third of a second each step, and save 30 MB."""
FORMS = (
    "exports=[{kind: merged}, {kind: merged, name: merged-original, into: original}, {kind: gguf, type: f16}, "
    "{kind: gptq}, {kind: awq}]"
)
LACKING = LlamaCpp(LlamaCppOptions()).lacking()
pytestmark = [
    pytest.mark.slow,
    pytest.mark.engines,
    pytest.mark.skipif(importlib.util.find_spec("gptqmodel") is None, reason="the extra `gptq` is not installed"),
    pytest.mark.skipif(LACKING is not None, reason=str(LACKING)),
    *marks("support-banking77"),
]


@pytest.fixture(scope="module")
def certified(tmp_path_factory):
    summary = run(SPEC, tmp_path_factory.mktemp("forms"), *FP32, *FAST, FORMS)
    for name, form in summary["parity"].items():
        print(name, json.dumps({key: form[key] for key in form if key != "scores"}))
    return summary["parity"]


def test_what_only_changes_the_files_changes_no_answer(certified):
    assert set(certified) == {"adapter", "merged", "merged-original", "gguf", "gptq", "awq"}
    assert certified["adapter"]["agreement"] == 1.0
    assert certified["merged"]["agreement"] >= 0.99
    assert certified["gguf"]["agreement"] >= 0.99, "llama.cpp answers otherwise than was trained"
    assert all(certified[name]["refused"] == [] for name in ("adapter", "merged", "gguf"))


@pytest.mark.parametrize("name", ["gptq", "awq"])
def test_four_bits_are_handed_over_or_refused_by_what_was_measured(certified, name):
    form = certified[name]
    score = form["scores"]["heldout.exact_match"]
    lost = score["tuned"] - score["base"] < -0.02 and score["p_value"] <= 0.05
    assert lost == any("heldout.exact_match falls behind" in why for why in form["refused"])
    assert form["bytes"] < certified["merged"]["bytes"] / 2
    assert form["kl"] > certified["merged"]["kl"]
