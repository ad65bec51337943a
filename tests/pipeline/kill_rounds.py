"""A script: one spec trained in one go, then again and again with a kill at a random step. Prints what came of each.

Every round is a fork of this process, so that torch is imported once. Threads are one: a pool would not survive.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import random
import signal
import sys
import traceback
from functools import partial
from pathlib import Path

import bitsandbytes  # noqa: F401  each imported before the forks, where it would be imported again and again
import peft  # noqa: F401
import torch
from trl import DPOTrainer, SFTTrainer  # noqa: F401  by name: `trl` itself imports nothing yet
from trl.trainer.kto_trainer import KTOTrainer  # noqa: F401

import tunewright_trl.loop  # noqa: F401
from damages import DAMAGES
from tunewright.digest import digest_tree
from tunewright.pipeline.run import Run
from tunewright.project import Project
from tunewright.store import disk

OPERATIONS = 7
"""Moments that the store tells of a commit, at least: the folder is made, the manifest written, the whole renamed."""


def forked(work):
    """The child's signal or exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            torch.set_num_threads(1)
            code = work() or 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def trained(spec, overrides, root, hear=lambda event: None):
    """Run until the training is done; returns nothing."""
    plan = Project.from_spec(spec, overrides=overrides).plan()
    upto = [step.name for step in plan.steps].index("train") + 1
    steps = tuple(step for step in plan.steps[:upto] if step.name != "evaluate-base")
    with Run.open(dataclasses.replace(plan, steps=steps), root) as run:
        run.execute(hear)


def result(root):
    run = (root / "latest").resolve()
    step = (run / "steps" / "train").resolve()
    adapter = digest_tree(step / "trained", sorted((step / "trained").iterdir()))
    outcome = json.loads((step / "outcome.json").read_text())
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    resumed = [event["resumed_from"] for event in events if "resumed_from" in event]
    return {"adapter": adapter, "order": outcome["row_order"], "steps": outcome["steps"], "losses": outcome["losses"],
            "resumed_from": resumed, "warnings": [e["why"] for e in events if e["event"] == "warning"]}  # fmt: skip


def killer(step, at, number):
    """(what hears the events, what sees the store): one of them ends this process, by `at`: as step `step` + 1 is
    told, as the first look at the validation rows after `step` is, within the asking of the reference, or as a file of
    a checkpoint, the `number`th of all, is written.
    """
    seen = [0]

    def hear(event):
        if at == told(event, step):
            os.kill(os.getpid(), signal.SIGKILL)

    def observe(moment, path):
        if at == "in-checkpoint" and ("checkpoints" in path.parts or path.parent.name.startswith("checkpoint-")):
            seen[0] += 1
            if seen[0] == number:
                os.kill(os.getpid(), signal.SIGKILL)

    return hear, observe


def told(event, step):
    """The moment that an event tells of, where it is one to die at."""
    kind, after = event["event"], event.get("optimizer_step", 0)
    if kind == "train" and after == step + 1:
        return "after-step"
    if kind == "validation" and after >= step:
        return "at-a-look"
    return "in-the-reference" if event.get("what") == "asking the reference" else None


def killed(spec, overrides, root, step, at, number):
    """Train, and die on the way."""
    hear, observe = killer(step, at, number)
    disk.observers.append(observe)
    trained(spec, overrides, root, hear)


def tear(root, name, damage):
    """Damage this file of the newest checkpoint, which is named."""
    newest = max((root / "store/.work").glob("train-*/checkpoints/step-*"))
    DAMAGES[damage](newest / name)
    return newest.name


def main(asked, line):
    """One line of what is asked; each round is printed as it ends."""
    spec, root, rng = Path(asked["spec"]), Path(asked["root"]), random.Random(asked["seed"])
    assert forked(partial(trained, spec, asked["case"], root / "whole")) == 0
    whole = result(root / "whole")
    print(json.dumps({"line": line, "round": "whole", **whole}), flush=True)
    every = [*asked["case"], "trainer.checkpoint_every=1"]
    for turn in range(asked["kills"]):
        step = rng.randint(1, whole["steps"] - 1) if asked["at"] is None else asked["at"]
        at = "after-step" if asked["at"] is not None else asked["moments"][turn % len(asked["moments"])]
        again = root / f"round{turn}"
        number = rng.randint(1, OPERATIONS * (whole["steps"] - 1))  # the last step has no checkpoint
        code = forked(partial(killed, spec, every, again, step, at, number))
        assert code in (0, -signal.SIGKILL), code
        torn = tear(again, *asked["torn"][turn]) if asked["torn"] else ""
        assert forked(partial(trained, spec, every, again)) == 0
        found = {"line": line, "round": f"killed {at} {step}", "killed": code != 0, "torn": torn, **result(again)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    gc.freeze()  # a trainer collects garbage twice, and would look through all that was imported
    for number, text in enumerate(sys.argv[1:]):
        main(json.loads(text), number)
