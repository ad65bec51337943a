"""What the tests on real data share: where the data are, a run that says what it found, and its answers row by row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tunewright.pipeline.plan import slow_types
from tunewright.pipeline.tasks.evaluate import read_graded
from tunewright.project import Project
from tunewright.store.publish import read_artifact

HERE = Path(__file__).parent
DATA = HERE.parents[2] / "shared" / "data"


def marks(folder, hours=1):
    """The marks of a module that reads a folder of the public data."""
    return [
        pytest.mark.realdata,
        pytest.mark.timeout(hours * 3600),
        pytest.mark.skipif(
            not (DATA / folder).is_dir(), reason="the folder with the public data sets is not beside this checkout"
        ),
    ]


def fitting(spec, *overrides):
    """The overrides, and those by which a CPU without instructions for bf16 computes in fp32: else it takes hours."""
    slow = slow_types(Project.from_spec(spec, overrides=overrides).resolve())
    return [*overrides, *(f"{field}=fp32" for field in slow)]


def run(spec, root, *overrides):
    """The summary of a run that passed; scores and seconds are printed."""
    overrides = fitting(spec, *overrides)
    summary = Project.from_spec(spec, overrides=overrides).run(root).summary
    seconds = {step["name"]: step["seconds"] for step in summary["steps"] if step["status"] == "done"}
    print(json.dumps({"overrides": overrides, "scores": summary["scores"], "seconds": seconds}))
    assert summary["status"] == "passed", summary["why"]
    return summary


def graded(summary, evaluation):
    """How the tuned model did on each item of an evaluation."""
    return read_graded(read_artifact((Path(summary["run_dir"]) / "steps" / "evaluate-tuned").resolve()), evaluation)
