"""`plan` shows every argument that a library will have, and who set it: the spec, Tunewright, or the library itself."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from tunewright.project import Project
from tunewright.spec.problems import SpecError
from tunewright.store.publish import Store

QUICKSTART = Path(__file__).parents[2] / "specs" / "quickstart" / "quickstart.yaml"


@pytest.fixture(scope="module")
def arguments():
    return Project(QUICKSTART).plan().to_json(Store(Path("nowhere")))["arguments"]


def test_every_argument_of_the_library_is_there_once(arguments):
    from peft import LoraConfig
    from trl import SFTConfig

    decided = {"prefix_sharing"}  # by our own code, and no argument of the library
    assert set(arguments["trainer/sft"]) == set(inspect.signature(SFTConfig).parameters) | decided
    assert set(arguments["adapter/lora"]) == set(inspect.signature(LoraConfig).parameters)


def test_each_says_who_set_it(arguments):
    sft = arguments["trainer/sft"]
    assert sft["num_train_epochs"] == {"value": 2.0, "set_by": "spec", "field": "epochs", "why": ""}
    assert sft["weight_decay"] == {"value": 0.0, "set_by": "tunewright", "field": "weight_decay", "why": ""}
    assert sft["packing"] == {"value": False, "set_by": "tunewright", "field": None, "why": ""}
    assert sft["adam_beta2"] == {"value": 0.999, "set_by": "library", "field": None, "why": ""}
    assert sft["include_for_metrics"]["value"] == []  # a dataclass's factory, called
    assert sft["seed"] == {"value": "the spec's seed", "set_by": "tunewright", "field": None, "why": ""}
    assert arguments["adapter/lora"]["target_modules"]["set_by"] == "spec"


def test_what_the_library_shows_as_its_default_is_what_it_uses(arguments, tmp_path):
    """A default that the library replaces by itself would be shown wrong."""
    from trl import SFTConfig

    passed = {
        name: argument["value"]
        for name, argument in arguments["trainer/sft"].items()
        if argument["set_by"] != "library"
        and name not in ("seed", "data_seed", "output_dir", "use_cpu", "prefix_sharing")
    }
    config = SFTConfig(**passed, output_dir=str(tmp_path), seed=0, data_seed=0, use_cpu=True)
    shown = {name: a["value"] for name, a in arguments["trainer/sft"].items() if a["set_by"] == "library"}
    replaced = {name: getattr(config, name) for name in shown if _plain(getattr(config, name)) != _plain(shown[name])}
    assert replaced == {}


def _plain(value):
    return str(getattr(value, "value", value)) if not isinstance(value, (list, dict)) else value


def test_a_default_that_the_library_replaces_is_shown_as_replaced(arguments):
    assert arguments["trainer/sft"]["gradient_checkpointing"]["value"] is False  # declared True, follows another


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ("trainer.args={adam_beta1: soon}", "wrong-type"),
        ("trainer.args={adam_beta3: 0.9}", "unknown-argument"),
        ("trainer.args={torch_empty_cache_steps: 0}", "bad-value"),
        ("adapter.args={layers_pattern: [layers]}", "bad-value"),
    ],
)
def test_a_further_argument_is_checked_by_name_and_by_type(args, code):
    with pytest.raises(SpecError) as caught:
        Project(QUICKSTART, overrides=[args]).plan()
    assert [problem.code for problem in caught.value.problems] == [code]


def test_a_further_argument_is_shown_as_the_specs():
    plan = Project(QUICKSTART, overrides=["trainer.args={adam_beta1: 0.8}"]).plan()
    shown = plan.to_json(Store(Path("nowhere")))["arguments"]["trainer/sft"]["adam_beta1"]
    assert shown == {"value": 0.8, "set_by": "spec", "field": "args", "why": ""}


def test_a_learning_rate_that_nobody_wrote_says_where_it_comes_from():
    plan = Project(QUICKSTART, overrides=["trainer={kind: sft}"]).plan()
    rate = plan.to_json(Store(Path("nowhere")))["arguments"]["trainer/sft"]["learning_rate"]
    assert (rate["value"], rate["set_by"]) == (2e-4, "tunewright")
    assert "ten times full fine-tuning's 2e-05" in rate["why"]
    plan = Project(QUICKSTART, overrides=["trainer={kind: sft}", "adapter=none", "quantization=none"]).plan()
    rate = plan.to_json(Store(Path("nowhere")))["arguments"]["trainer/sft"]["learning_rate"]
    assert (rate["value"], rate["why"]) == (2e-5, "TRL's default for SFT")
