"""Banking77, ten intents, QLoRA on the embedded model: the main job on real input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from realdata.runs import fitting
from tunewright.project import Project

HERE = Path(__file__).parent
SPEC = HERE / "banking77.yaml"
DATA = HERE.parents[2] / "shared" / "data" / "support-banking77"
pytestmark = [
    pytest.mark.realdata,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(not DATA.is_dir(), reason="the folder with the public data sets is not beside this checkout"),
]


def run(root, *overrides):
    return Project.from_spec(SPEC, overrides=fitting(SPEC, *overrides)).run(root).summary


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """One epoch on 160 rows, 100 test rows: enough to learn something, in minutes."""
    overrides = ["trainer.epochs=1", "data.train.0.sample=160", "data.test.0.sample=100"]
    return run(tmp_path_factory.mktemp("short"), *overrides, "gates.0.at_least=0.2")


def test_a_short_training_beats_the_base_and_the_package_verifies(short):
    assert short["status"] == "passed", short["why"]
    score = short["scores"]["heldout.exact_match"]
    assert score["base"] <= 0.1
    assert score["ci95"][0] > 0.1
    package = short["artifacts"]["package"]
    subprocess.run([sys.executable, "-I", f"{package}/verify.py", package], check=True, capture_output=True)


def test_the_package_gives_its_golden_answers_in_plain_peft(short):
    package = Path(short["artifacts"]["package"])
    from tunewright.pipeline.tasks.fetch import base_folder
    from tunewright.store.publish import read_artifact

    fetched = read_artifact((Path(short["run_dir"]) / "steps" / "fetch").resolve())
    command = [sys.executable, str(HERE.parent / "plain_peft.py"), str(package), str(base_folder(fetched))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    golden = json.loads((package / "prompts.json").read_text())
    assert json.loads(done.stdout.splitlines()[-1]) == [entry["answer_ids"] for entry in golden]


@pytest.mark.slow
def test_three_seeds_reach_the_figures(tmp_path):
    tuned = []
    for seed in (0, 1, 2):
        summary = run(tmp_path / str(seed), f"seed={seed}")
        score = summary["scores"]["heldout.exact_match"]
        assert score["n"] == 400
        assert score["base"] <= 0.1
        tuned.append(score["tuned"])
        print(f"seed {seed}: {json.dumps(summary['scores'])}")
        print({step["name"]: step["seconds"] for step in summary["steps"]})
    assert sum(tuned) / 3 >= 0.8, tuned
