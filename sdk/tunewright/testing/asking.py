"""The kit for what asks a model and what writes it out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tunewright.parts import Cap, Engine, Exporter
from tunewright.parts.engine import Completion, Served
from tunewright.parts.exporter import Form, Trained
from tunewright.parts.loader import Message
from tunewright.testing.bases import InWorld
from tunewright.testing.compare import difference
from tunewright.testing.desk import Desk
from tunewright.testing.samples import ROWS, question
from tunewright.testing.state import TORCH
from tunewright.testing.tiny import World
from tunewright.testing.trial import Attempt, Make
from tunewright.testing.tuning import damaged
from tunewright.testing.violations import Report
from tunewright.testing.weights import content

LIMITS = (1, 8)  # tokens


class TrainedWorld(InWorld):
    """An exercise that needs something trained; it is made once, before the backend is watched."""

    draws = (TORCH,)  # an adapter that is put on is first initialized

    def prepare(self, desk: Desk) -> None:
        super().prepare(desk)
        self.saved = desk.keep("trained")
        self.digest = self.world.trained(self.saved)


class EngineExercise(TrainedWorld):
    """The base and what was trained on it, asked together and one by one."""

    part = "engine"

    def __init__(self, world: World | None = None, prompts: Sequence[Sequence[Message]] | None = None) -> None:
        super().__init__(world)
        self.prompts = [question(row) for row in ROWS[:4]] if prompts is None else prompts

    def run(self, made: Engine, desk: Desk, report: Report) -> Any:
        saved, digest = self.saved, self.digest
        found = {}
        for what, method, path, identity in (("base", None, None, "base"), ("tuned", self.world.method, saved, digest)):
            served = self._served()._replace(method=method, trained=path)
            with made.open(served) as subject:
                says = f"the subject of the {what} model says that it is `{subject.identity}`, it is `{identity}`"
                report.expect(subject.identity == identity, "identity-untrue", says)
                found[what] = [self._asked(subject, limit, report) for limit in LIMITS]
        return found

    def _served(self) -> Served:
        return Served(self.world.base, self.world.loader, self.world.quantizer, self.world.dtype)

    def _asked(self, subject: Any, limit: int, report: Report) -> Any:
        done: list[int] = []
        together = subject.complete(self.prompts, limit, done.append)
        alone = subject.complete(self.prompts, limit, together=False)
        where = difference([vars(one) for one in together], [vars(one) for one in alone], "answer")
        says = f"asked together and one by one, the answers differ: {where}"
        report.expect(not where, "batching-changes-answers", says)
        report.expect(
            len(together) == len(self.prompts) and done[-1:] == [len(self.prompts)] and done == sorted(done),
            "progress-untrue",
            f"{len(together)} answers to {len(self.prompts)} prompts, and `progress` heard {done}: count to the last",
        )
        for prompt, answer in zip(self.prompts, together, strict=False):
            self._answer(prompt, answer, limit, report)
        return {"answers": [vars(one) for one in together], "progress": done}

    def _answer(self, prompt: Sequence[Message], answer: Completion, limit: int, report: Report) -> None:
        tokenizer = self.world.tokenizer
        says = f"an answer has {len(answer.ids)} tokens where at most {limit} were asked for"
        report.expect(len(answer.ids) <= limit, "limit-ignored", says)
        stopped = "terminator" if answer.ids and answer.ids[-1] in tokenizer.stops else "limit"
        says = f"an answer says that it stopped at the {answer.stopped}, it stopped at the {stopped}"
        report.expect(answer.stopped == stopped, "stopped-untrue", says)
        text = tokenizer.decode(answer.ids, special=False)
        says = f"the text {answer.text!r} is not what its tokens decode to, {text!r}"
        report.expect(answer.text == text, "text-differs", says)
        asked = tokenizer.encode(tokenizer.render(prompt, generation_prompt=True))
        says = "`prompt_ids` are not the prompt as the loader's tokenizer renders it: other questions were trained on"
        report.expect(answer.prompt_ids == asked, "text-differs", says)

    def abuse(self, make: Make, desk: Desk) -> Iterator[Attempt]:
        made, served = make(), self._served()
        for what, folder in damaged(self.saved, desk):
            tuned = served._replace(method=self.world.method, trained=folder)
            yield Attempt(what, partial(self._open, made, tuned))
        gone = served._replace(base=desk.folder / "missing")
        yield Attempt("a base that is not there", partial(self._open, made, gone))

    def _open(self, made: Engine, served: Served) -> None:
        with made.open(served) as subject:
            subject.complete(self.prompts[:1], LIMITS[0])


class ExporterExercise(TrainedWorld):
    """What was trained, exported twice and reopened."""

    part = "exporter"

    def run(self, made: Exporter, desk: Desk, report: Report) -> Any:
        saved, digest = self.saved, self.digest
        before, base = content(saved), content(self.world.base)
        first, second = desk.give("out"), desk.give("out")
        form, again = made.export(self._what(saved), first), made.export(self._what(saved), second)
        if not report.expect(isinstance(form, Form), "bad-contract", f"`export` gives {form!r}, it must give a Form"):
            return {}
        where = difference(content(first), content(second)) or difference(vars(form), vars(again))
        report.expect(not where, "export-differs", f"one training was exported twice and the bytes differ: {where}")
        untouched = content(saved) == before and content(self.world.base) == base
        report.expect(untouched, "writes-outside", "`export` changes what was trained, or the base")
        if report.expect(bool(content(first)), "bad-contract", "`export` wrote no file"):
            self._reopened(form, first, digest, report)
        return {"name": made.name, "files": content(first), "form": vars(form)}

    def _what(self, saved: Path) -> Trained:
        world = self.world
        adapts = Cap.ADAPTS in world.method.offers()
        return Trained(saved, world.base, "0" * 64, "kit/base", world.engine.kind, world.tokenizer, adapts)

    def _reopened(self, form: Form, out: Path, digest: str, report: Report) -> None:
        """As parity does it: attached to the base, or as a model by itself."""
        if form.engine != self.world.engine.kind:
            return  # an engine of another environment: parity asks it there
        world = self.world
        served = Served(world.base if form.attach else out, world.loader, world.quantizer, world.dtype)
        if form.attach:
            served = served._replace(method=world.method, trained=out)
        try:
            with world.engine.open(served) as subject:
                says = f"reopened as its Form says, its weights are others ({subject.identity[:12]}) than trained"
                report.expect(not form.attach or subject.identity == digest, "form-untrue", says)
                subject.complete([question(ROWS[0])], LIMITS[0])
        except Exception as error:
            report.add("form-untrue", f"it cannot be reopened as its Form says: {type(error).__name__}: {error}")

    def abuse(self, make: Make, desk: Desk) -> Iterator[Attempt]:
        made = make()
        for what, folder in damaged(self.saved, desk):
            yield Attempt(what, partial(made.export, self._what(folder), desk.give("out")))
