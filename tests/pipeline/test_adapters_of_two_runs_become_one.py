"""`weighted`, from two runs' specs to a package: the combined adapter is certified, and plain PEFT loads it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_the_real_backends_run_on_a_tiny_model import ROWS, SPEC

from tiny import tiny_model
from tunewright.project import Project
from tunewright.spec.problems import SpecError

BLEND = "[{kind: weighted, name: blend, weight: 0.5, adapters: [{path: first, weight: 0.5}]%s}]"


def written(folder, more=""):
    """A spec that combines what it trains with what lies under `first/`, and its data."""
    for name, rows in (("train.csv", ROWS), ("other.csv", [(text[::-1], queue) for text, queue in ROWS])):
        (folder / name).write_text("text,queue\n" + "".join(f"{text},{queue}\n" for text, queue in rows))
    lines = [json.dumps({"text": text, "queue": queue}) for text, queue in ROWS[:4]]
    (folder / "test.jsonl").write_text("\n".join(lines) + "\n")
    (folder / "tiny.yaml").write_text(SPEC % ("fp32", "{kind: none}", BLEND % more))
    return folder / "tiny.yaml"


@pytest.mark.slow
def test_two_runs_adapters_are_combined_certified_and_loaded_by_plain_peft(tmp_path, monkeypatch):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    tiny_model(tmp_path / "base", "llama")
    spec = written(tmp_path)
    other = (f"data.train.0.path={tmp_path / 'other.csv'}", "adapter.r=2", "exports=[]")
    first = Project(spec, other).run(tmp_path / "one").summary
    Path(first["artifacts"]["package"]).rename(tmp_path / "first")
    summary = Project(spec).run(tmp_path / "two").summary
    row = summary["parity"]["blend"]
    assert row["identity"] != summary["parity"]["adapter"]["identity"]
    assert row["scores"]["heldout.exact_match"]["n"] == 4
    out = Path(summary["artifacts"]["blend"])
    assert json.loads((out / "adapter_config.json").read_text())["r"] == 4 + 2

    def base():
        return AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)

    plain = PeftModel.from_pretrained(base(), summary["artifacts"]["adapter"], adapter_name="one")
    plain.load_adapter(tmp_path / "first", adapter_name="two")
    plain.add_weighted_adapter(["one", "two"], [0.5, 0.5], "both", combination_type="cat")
    plain.set_adapter("both")
    ids = torch.arange(5, 60)[None]
    with torch.no_grad():
        found = PeftModel.from_pretrained(base(), out)(ids).logits
        torch.testing.assert_close(found, plain(ids).logits)


def test_what_does_not_go_together_stands_in_the_spec_before_a_run(tmp_path):
    tiny_model(tmp_path / "base", "llama")
    (tmp_path / "first").mkdir()
    config = {"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}
    (tmp_path / "first/adapter_config.json").write_text(json.dumps(config))
    spec = written(tmp_path, ", combination: linear, density: 0.5")
    with pytest.raises(SpecError) as caught:
        Project(spec).resolve()
    line = next(text for text in spec.read_text().splitlines() if text.startswith("exports:"))
    found = {problem.code: line[problem.position.column - 1 : problem.position.end_column - 1]
             for problem in caught.value.problems}  # fmt: skip
    assert found == {"argument-unused": "density", "cannot-combine": "first"}


@pytest.mark.parametrize(
    ("more", "rank", "refused"),
    [
        ("", 509, True),  # and 4 of the spec's own: one more than vLLM's 512
        ("", 508, False),
        (", combination: svd", 509, False),
        (", combination: svd, svd_rank: 513", 4, True),
    ],
)
def test_ranks_that_add_up_beyond_an_engines_bound_are_refused_before_the_training(tmp_path, more, rank, refused):
    tiny_model(tmp_path / "base", "llama")
    (tmp_path / "first").mkdir()
    config = {"peft_type": "LORA", "r": rank, "target_modules": ["q_proj"]}
    (tmp_path / "first/adapter_config.json").write_text(json.dumps(config))
    spec = written(tmp_path, f"{more}, engine: {{kind: vllm}}")
    found = [problem for problem in Project(spec).validate() if problem.code == "target-cannot-load"]
    assert len(found) == refused
    for problem in found:
        assert (
            "engine `vllm` needs an adapter that is loadable by vLLM; what `weighted` writes is not" in problem.message
        )
        assert problem.position.end_column - problem.position.column == len("vllm")


def test_what_peft_does_not_combine_stands_at_the_export(tmp_path):
    tiny_model(tmp_path / "base", "llama")
    (tmp_path / "first").mkdir()
    with pytest.raises(SpecError) as caught:
        Project(written(tmp_path), ("adapter={kind: ia3}",)).resolve()
    (problem,) = caught.value.problems
    assert (problem.code, problem.position.end_column - problem.position.column) == ("cannot-combine", len("weighted"))
