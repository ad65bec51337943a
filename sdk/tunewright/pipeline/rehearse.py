"""`run --rehearse-resume`: a training is killed after a few steps and taken up again, and must come to the same state.

Two processes train the user's own spec from its beginning. One makes four steps and stops with a checkpoint. The other
kills itself (SIGKILL, nothing is tidied up) once its second step's checkpoint is committed; a third goes on from there
to the fourth step. Every byte of the two states is compared: weights, optimizer, random numbers, the rows seen so far.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.digest import digest_file
from tunewright.errors import BadInput, WorkFailed
from tunewright.host import Host
from tunewright.pipeline.events import Listener
from tunewright.pipeline.interrupts import Interrupts
from tunewright.pipeline.plan import Plan, make_plan
from tunewright.pipeline.step import Context, Step
from tunewright.pipeline.tasks.train import Train
from tunewright.resolve import resolve
from tunewright.store import disk
from tunewright.store.checkpoints import Checkpoints
from tunewright.store.publish import MANIFEST, Store

KILLED_AFTER, STOPPED_AFTER = 2, 4  # optimizer steps


class Rehearsed(NamedTuple):
    """What came of a rehearsal: the step at which it was taken up, the files compared, those that differ."""

    training: str
    steps: int
    resumed_from: int
    files: int
    differ: tuple[str, ...]


class LeftOut(NamedTuple):
    """A training that could not be rehearsed: why, and what to do."""

    training: str
    why: str
    fix: str


class Rehearsal(NamedTuple):
    """What came of every training of a spec."""

    rehearsed: tuple[Rehearsed, ...]
    left_out: tuple[LeftOut, ...]


class _Stop(Interrupts):
    """Asks a training to stop after some steps, as a signal would."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after, self.steps = after, 0

    def stopping(self) -> bool:
        return self.steps >= self.after

    def obey(self) -> None:
        raise _Done


class _Done(Exception):
    """The rehearsed steps are made."""


def rehearse(plan: Plan, store: Store, spec: Path, how: Mapping[str, Any], listener: Listener) -> Rehearsal:
    """Rehearse every training whose inputs are in the store. `how` says how the spec is read: overrides, plugins.

    The others are named: what they go on from is made by whole trainings, which a rehearsal does not do.

    Raises `BadInput` where a training makes too few steps, `WorkFailed` where a process ended otherwise than it should.
    """
    hits = plan.hits(store)
    trainings = [step for step in plan.steps if isinstance(step.task, Train)]
    found, left_out = list[Rehearsed](), list[LeftOut]()
    for step in trainings:
        lacking = [name for name in dict.fromkeys(step.inputs.values()) if name not in hits]
        if lacking:
            left_out.append(_left_out(step.name, lacking, spec))
            continue
        folder = store.rehearsal(step.name)
        try:
            found.append(_rehearse(step, plan.keys[step.name], folder, [spec, store.folder.parent, how], listener))
        finally:
            disk.remove(folder)
    return Rehearsal(tuple(found), tuple(left_out))


def _left_out(training: str, lacking: Sequence[str], spec: Path) -> LeftOut:
    named = " and ".join(f"`{name}`" for name in lacking)
    return LeftOut(
        training,
        f"it reads what {named} {'makes' if len(lacking) == 1 else 'make'}, and that is not there yet",
        f"`tunewright run {spec.name}` makes it, with the same options: rehearse again after that",
    )


def _rehearse(step: Step, key: str, folder: Path, given: Sequence[Any], listener: Listener) -> Rehearsed:
    whole, broken = folder / "whole", folder / "broken"
    for what, scratch, kill in (("in one go", whole, 0), ("killed", broken, KILLED_AFTER), ("taken up", broken, 0)):
        listener({"event": "progress", "step": step.name, "what": f"rehearsing: {what}"})
        code, said = _child(step.name, scratch, kill, given)
        _refuse_other_end(step.name, what, code, -signal.SIGKILL if kill else 0, said)
        if not kill:
            _refuse_too_short(step.name, scratch)
    states = [_state(scratch, key) for scratch in (whole, broken)]
    differ = sorted(name for name in {*states[0], *states[1]} if states[0].get(name) != states[1].get(name))
    made = _made(broken)
    if not made["resumed_from"]:
        raise WorkFailed(
            f"`{step.name}` was not taken up again: it began at its first step",
            fix="tell the trainer's maker: it should call `job.commit` as `checkpoint_every` says",
        )
    return Rehearsed(step.name, made["steps"], made["resumed_from"][-1], len(states[0]), tuple(differ))


def _refuse_other_end(step: str, what: str, code: int, expected: int, said: str) -> None:
    if code == expected:
        return
    if code == 0:
        raise WorkFailed(
            f"`{step}` could not be killed: its trainer committed no checkpoint after step {KILLED_AFTER}",
            fix="tell the trainer's maker: it should call `job.commit` as `checkpoint_every` says",
        )
    raise WorkFailed(
        f"the rehearsal of `{step}` ({what}) ended with {code}: {said[-2000:].strip() or 'it said nothing'}",
        fix="`tunewright run` without `--rehearse-resume` shows whether the training fails by itself",
    )


def _refuse_too_short(step: str, scratch: Path) -> None:
    """A training commits no checkpoint after its last step: what it trained is there instead."""
    steps = _made(scratch)["steps"]
    if steps <= KILLED_AFTER:
        raise BadInput(
            f"`{step}` makes {steps} optimizer step{'' if steps == 1 else 's'}, so it is over before it can be killed "
            f"at a checkpoint after step {KILLED_AFTER}",
            fix=f"rehearse {KILLED_AFTER + 1} steps or more: raise `max_steps` or `epochs`, or give it more rows",
        )


def _made(scratch: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((scratch / "made.json").read_text("utf-8"))
    return found


def _child(step: str, scratch: Path, kill: int, given: Sequence[Any]) -> tuple[int, str]:
    scratch.mkdir(parents=True, exist_ok=True)
    spec, root, how = given
    asked = {"spec": str(spec), "root": str(root), **how, "step": step, "scratch": str(scratch), "kill": kill}
    ended = subprocess.run(
        [sys.executable, "-m", "tunewright.pipeline.rehearse", json.dumps(asked)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return ended.returncode, ended.stderr


def _state(scratch: Path, key: str) -> dict[str, str]:
    """Digest of every file of the state that a process ended with: its last checkpoint, or all that it trained."""
    out = scratch / "out"
    if (scratch / "finished").exists():
        folder = out
    else:
        found = Checkpoints(scratch, key).newest()
        if found is None:
            raise WorkFailed("a rehearsed training committed no checkpoint", fix="tell the trainer's maker")
        folder = found.folder
    return {
        path.relative_to(folder).as_posix(): digest_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }


def _train(asked: Mapping[str, Any]) -> None:
    """The child's part: one training step of a plan, in a scratch folder of its own."""
    host = Host(blocked=tuple(asked["blocked"]), only=asked["only"] and tuple(asked["only"]))
    plan = make_plan(resolve(Path(asked["spec"]), host, asked["overrides"]))
    store, scratch = Store(Path(asked["root"])), Path(asked["scratch"])
    step = next(step for step in plan.steps if step.name == asked["step"])
    task = step.task
    if not isinstance(task, Train):
        raise BadInput(f"`{step.name}` is no training")
    every = task.trainer.options.model_copy(update={"checkpoint_every": KILLED_AFTER})
    task.trainer = type(task.trainer)(every)
    inputs = {port: store.find(name, plan.keys[name]) for port, name in step.inputs.items()}
    stop, resumed = _Stop(STOPPED_AFTER), list[int]()

    def hear(event: Mapping[str, Any]) -> None:
        if event["event"] == "train":
            stop.steps = event["optimizer_step"]
        elif event["event"] == "resumed":
            resumed.append(event["resumed_from"])
        elif event["event"] == "checkpoint" and event["optimizer_step"] == asked["kill"]:
            os.kill(os.getpid(), signal.SIGKILL)

    out = scratch / "out"
    disk.remove(out)
    disk.make_folder(out)
    context = Context(scratch=scratch, emit=hear, key=plan.keys[step.name], interrupts=stop)
    try:
        task.run({port: found for port, found in inputs.items() if found is not None}, out, context)
        disk.write(scratch / "finished", b"")  # fewer steps than it would have been stopped after
    except _Done:
        pass
    disk.write(scratch / "made.json", json.dumps({"steps": stop.steps, "resumed_from": resumed}).encode())


if __name__ == "__main__":
    _train(json.loads(sys.argv[1]))
