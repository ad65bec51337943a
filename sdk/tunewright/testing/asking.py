"""The kit for what asks a model and what writes it out."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tunewright.data.mask import prompt_ids
from tunewright.errors import TunewrightError
from tunewright.host import Host
from tunewright.parts import Cap, Engine, Exporter, Facts
from tunewright.parts.engine import Completion, Continuation, Likeliest, Served
from tunewright.parts.exporter import Form, Trained
from tunewright.parts.prompt_format import Text
from tunewright.parts.several import Asked
from tunewright.parts.whole import Whole
from tunewright.pipeline.forms import identity_of
from tunewright.testing.bases import InWorld
from tunewright.testing.compare import difference
from tunewright.testing.contract import own_fields
from tunewright.testing.desk import Desk
from tunewright.testing.fields import read
from tunewright.testing.samples import ROWS, question
from tunewright.testing.state import TORCH
from tunewright.testing.tiny import World
from tunewright.testing.trial import Attempt, Make
from tunewright.testing.tuning import damaged
from tunewright.testing.violations import Report
from tunewright.testing.weights import content

LIMITS = (1, 8)  # tokens
NEAR = 1e-3  # nats: what another order of floating-point sums may change
DIGEST = re.compile(r"[0-9a-f]{64}")
TOO_LONG = 4096  # tokens: more than the kit's own model reads
ADAPTERS = tuple(f"kit-{number}" for number in range(1, 9))
"""Names of the adapters that are asked beside their base; what is served elsewhere must be served under them."""
UNKNOWN = "kit-0"


class TrainedWorld(InWorld):
    """An exercise that needs something trained; it is made once, before the backend is watched."""

    draws = (TORCH,)  # an adapter that is put on is first initialized

    def prepare(self, desk: Desk) -> None:
        super().prepare(desk)
        self.saved = desk.keep("trained")
        self.digest = self.world.trained(self.saved)


class EngineExercise(TrainedWorld):
    """The base and what was trained on it, asked together and one by one, and how likely given answers are, where the
    engine offers to tell; and, of an engine that opens several in a way of its own, the base with eight adapters beside
    it, asked in mixed order."""

    part = "engine"

    def __init__(self, world: World | None = None, prompts: Sequence[Text] | None = None) -> None:
        super().__init__(world)
        asked: list[Text] = [*(question(row) for row in ROWS[:4]), str(ROWS[4]["text"])]
        self.prompts = asked if prompts is None else prompts
        self.mixed = False

    def prepare(self, desk: Desk) -> None:
        super().prepare(desk)
        self.adapters = {name: desk.keep(name) for name in ADAPTERS}
        self.world.trained_apart(self.adapters.values())

    def run(self, made: Engine, desk: Desk, report: Report) -> Any:
        saved, digest = self.saved, self.digest
        found: dict[str, Any] = {}
        rows: list[Continuation] = []
        scores = Cap.SCORES in made.offers()
        for what, method, path, identity in (("base", None, None, "base"), ("tuned", self.world.method, saved, digest)):
            served = self._served()._replace(method=method, trained=path)
            with made.open(served) as subject:
                self._identity(made, what, subject.identity, identity, report)
                offered = Cap.LIKELIEST in made.offers()
                says = "it offers LIKELIEST, or its subjects have `likeliest`, and not both: a gate on `kl` goes by it"
                report.expect(offered == isinstance(subject, Likeliest), "capability-lies", says)
                answers = [self._asked(subject, limit, scores, report) for limit in LIMITS]
                self._limits(subject, [one["answers"] for one in answers], report)
                rows = rows or self._rows(answers[-1]["answers"])
                scored = self._scored(subject, rows, report) if scores else {}
                found[what] = {"identity": subject.identity, "asked": answers, "scored": scored}
        way, does = ("scored", "scores") if scores else ("asked", "answers")
        says = f"the tuned model's {does} are the base's: what was trained is not in the model that {does}"
        report.expect(bool(difference(found["base"][way], found["tuned"][way])), "identity-untrue", says)
        own = type(made).open_several is not Engine.open_several  # the core's opens one after the other
        if own and not self.mixed:  # the same whatever the options are, and the longest part
            self._several(made, report)
            self.mixed = True
        return found

    def _several(self, made: Engine, report: Report) -> None:
        """Base and adapters in mixed order: each answers as it does where it is opened by itself."""
        served = self._served()._replace(method=self.world.method)
        order = [None, *ADAPTERS[::2], None, *ADAPTERS[1::2], None]
        asked = [Asked(self.prompts[place % 2], name) for place, name in enumerate(order * 2)]
        with made.open_several(served, self.adapters) as several:
            found = several.complete(asked, LIMITS[1])
            says = f"asked of an adapter `{UNKNOWN}` that is not there, it answers: nobody knows by which weights"
            with suppress(TunewrightError):
                several.complete([Asked(self.prompts[0], UNKNOWN)], LIMITS[0])
                report.add("unknown-adapter-answers", says)
        says = f"{len(found)} answers to {len(asked)} prompts that are asked of several adapters"
        if not report.expect(len(found) == len(asked), "adapters-mixed", says):
            return
        alone = {name: self._by_itself(made, name) for name in dict.fromkeys(order)}
        for one, answer in zip(asked, found, strict=True):
            who = "the base" if one.adapter is None else f"adapter `{one.adapter}`"
            where = difference(vars(answer), vars(alone[one.adapter][self.prompts.index(one.prompt)]), "answer")
            says = f"asked in mixed order, {who} answers otherwise than by itself: {where}"
            report.expect(not where, "adapters-mixed", says)

    def _by_itself(self, made: Engine, name: str | None) -> list[Completion]:
        """In an engine that opens adapters by their folders, itself; else, as of a server's names, in the world's."""
        engine = made if made.sees_weights else self.world.engine
        served = self._served()
        if name is not None:
            served = served._replace(method=self.world.method, trained=self.adapters[name])
        with engine.open(served) as subject:
            return subject.complete(self.prompts[:2], LIMITS[1])

    def _identity(self, made: Engine, what: str, told: str, true: str, report: Report) -> None:
        """Its weights' digest; of an engine that never sees them anything else than what a digest looks like."""
        if made.sees_weights:
            says = f"the subject of the {what} model says that it is `{told}`, it is `{true}`"
            report.expect(told == true, "identity-untrue", says)
        else:
            says = f"the engine never sees weights, and the subject of the {what} model says that it is `{told}`"
            report.expect(told != "base" and not DIGEST.search(told), "identity-untrue", says)

    def _served(self) -> Served:
        return Served(self.world.base, self.world.loader, self.world.quantizer, self.world.dtype)

    def _asked(self, subject: Any, limit: int, scores: bool, report: Report) -> Any:
        done: list[int] = []
        together = subject.complete(self.prompts, limit, done.append)
        alone = subject.complete(self.prompts, limit, together=False)
        where = difference([vars(one) for one in together], [vars(one) for one in alone], "answer")
        says = f"asked together and one by one, the answers differ: {where}"
        report.expect(not where, "batching-changes-answers", says)
        self._counted("answers", len(together), "prompts", len(self.prompts), done, report)
        for prompt, answer in zip(self.prompts, together, strict=False):
            self._answer(prompt, answer, limit, report)
        if scores:
            self._likeliest(subject, alone, report)
        return {"answers": [vars(one) for one in together], "progress": done}

    def _limits(self, subject: Any, answers: Sequence[Sequence[dict[str, Any]]], report: Report) -> None:
        """Each prompt its own limit, in one call: an answer is the one that its limit gives where it is everyone's."""
        told = any(each.code == "batching-changes-answers" for each in report.violations)
        if told or any(len(some) != len(self.prompts) for some in answers):
            return  # whose answers they are is not known
        which = [int(place % 3 == 0) for place in range(len(self.prompts))]
        wanted = [answers[each][place] for place, each in enumerate(which)]
        limits = [LIMITS[each] for each in which]
        for together in (True, False):
            found = [vars(answer) for answer in subject.complete(self.prompts, limits, together=together)]
            where = difference(found, wanted, "answer")
            says = f"asked for answers of at most {limits} tokens, a limit a prompt, it answers otherwise: {where}"
            report.expect(not where, "limit-ignored", says)

    def _counted(self, made: str, found: int, asked: str, wanted: int, done: list[int], report: Report) -> None:
        report.expect(
            found == wanted and done[-1:] == [wanted] and done == sorted(done),
            "progress-untrue",
            f"{found} {made} to {wanted} {asked}, and `progress` heard {done}: count to the last",
        )

    def _rows(self, answers: Sequence[dict[str, Any]]) -> list[Continuation]:
        """Each prompt with each answer, cut to different lengths, and a plain text from its second token on."""
        text = prompt_ids(str(ROWS[5]["text"]), self.world.tokenizer)
        whole = [Continuation(text[:1], text[1:], "kit.csv:7")]
        return whole + [
            Continuation(asked, other["ids"][: len(other["ids"]) - place or None], f"kit.csv:{place + 2}")
            for asked in self._prompt_ids()
            for place, other in enumerate(answers)
        ]

    def _prompt_ids(self) -> list[list[int]]:
        return [prompt_ids(prompt, self.world.tokenizer) for prompt in self.prompts]

    def _scored(self, subject: Any, rows: Sequence[Continuation], report: Report) -> Any:
        """Of each token one finite log-probability, the same alone, and the same wherever its prompt is said to end."""
        done: list[int] = []
        together = subject.score(rows, done.append)
        self._counted("scores", len(together), "rows", len(rows), done, report)
        lengths = [len(row.answer) for row in rows]
        says = f"`score` gives {[len(one) for one in together]} numbers for answers of {lengths} tokens: one a token"
        if not report.expect([len(one) for one in together] == lengths, "bad-contract", says):
            return {"scores": together, "progress": done}
        values = [value for one in together for value in one]
        if not report.expect(all(map(math.isfinite, values)), "not-finite", "`score` gives what is no finite number"):
            return {"scores": together, "progress": done}
        says = f"a log-probability is at most 0, `score` gives {max(values)}"
        report.expect(max(values) <= NEAR, "bad-contract", says)
        says = "`score` gives every token the same number"
        report.expect(len(set(values)) > 1, "bad-contract", says)
        says = "scored together and one by one, rows get other numbers"
        report.expect(_near(together, subject.score(rows, together=False)), "batching-changes-answers", says)
        parted = [(row._replace(answer=row.answer[:1]), _later(row)) for row in rows]
        halves = iter(subject.score([half for pair in parted for half in pair]))
        says = "a token's score depends on where the prompt is said to end: it is given all that stands before it"
        report.expect(_near(together, [[*next(halves), *next(halves)] for _ in rows]), "bad-contract", says)
        return {"scores": together, "progress": done}

    def _likeliest(self, subject: Any, answers: Sequence[Completion], report: Report) -> None:
        """Of the first tokens of all answers, a prompt's own is the likeliest: it was the greedy one."""
        firsts = sorted({answer.ids[0] for answer in answers if answer.ids})
        scores = iter(subject.score([Continuation(ids, [token]) for ids in self._prompt_ids() for token in firsts]))
        for answer in answers:
            found = {token: next(scores)[0] for token in firsts}
            held = not answer.ids or found[answer.ids[0]] >= max(found.values()) - NEAR
            says = "`complete` begins an answer with one token, and `score` finds another one likelier at that place"
            report.expect(held, "bad-contract", says)

    def _answer(self, prompt: Text, answer: Completion, limit: int, report: Report) -> None:
        tokenizer = self.world.tokenizer
        says = f"an answer has {len(answer.ids)} tokens where at most {limit} were asked for"
        report.expect(len(answer.ids) <= limit, "limit-ignored", says)
        stopped = "terminator" if answer.ids and answer.ids[-1] in tokenizer.stops else "limit"
        says = f"an answer says that it stopped at the {answer.stopped}, it stopped at the {stopped}"
        report.expect(answer.stopped == stopped, "stopped-untrue", says)
        text = tokenizer.decode(answer.ids, special=False)
        says = f"the text {answer.text!r} is not what its tokens decode to, {text!r}"
        report.expect(answer.text == text, "text-differs", says)
        says = "`prompt_ids` are not what `tunewright.data.mask` makes of the prompt: other questions were trained on"
        report.expect(answer.prompt_ids == prompt_ids(prompt, tokenizer), "text-differs", says)

    def abuse(self, make: Make, desk: Desk) -> Iterator[Attempt]:
        made, served = make(), self._served()
        for what, folder in damaged(self.saved, desk):
            tuned = served._replace(method=self.world.method, trained=folder)
            yield Attempt(what, partial(self._open, made, tuned))
        gone = served._replace(base=desk.folder / "missing")
        yield Attempt("a base that is not there", partial(self._open, made, gone))
        token = prompt_ids(self.prompts[0], self.world.tokenizer)[0]
        for what, row in (
            ("a row without a prompt to score", Continuation([], [token])),
            ("a row of very many tokens to score", Continuation([token], [token] * TOO_LONG)),
        ):
            yield Attempt(what, partial(self._score, made, served, row))

    def _open(self, made: Engine, served: Served) -> None:
        with made.open(served) as subject:
            subject.complete(self.prompts[:1], LIMITS[0])

    def _score(self, made: Engine, served: Served, row: Continuation) -> None:
        with made.open(served) as subject:
            subject.score([row])


def _later(row: Continuation) -> Continuation:
    """The row without its answer's first token, which is given."""
    return row._replace(prompt=[*row.prompt, *row.answer[:1]], answer=row.answer[1:])


def _near(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> bool:
    """Whether both hold the same numbers but for rounding."""
    if [len(one) for one in first] != [len(one) for one in second]:
        return False
    pairs = ((a, b) for one, other in zip(first, second, strict=True) for a, b in zip(one, other, strict=True))
    return all(abs(a - b) <= NEAR for a, b in pairs)


class ExporterExercise(TrainedWorld):
    """What was trained, exported twice and reopened."""

    part = "exporter"

    def run(self, made: Exporter, desk: Desk, report: Report) -> Any:
        self._varied(made, report)
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

    def _varied(self, made: Exporter, report: Report) -> None:
        """What a search would try: options that it takes, the same whenever it is asked."""
        config = self.world.base / "config.json"
        known = Facts(model_config=json.loads(config.read_text("utf-8"))) if config.is_file() else Facts()
        for facts in (Facts(), known):
            found, again = ([dict(changes) for changes in made.variants(facts)] for _ in range(2))
            says = "`variants` gives others when it is asked again: a search is taken up where it was"
            report.expect(found == again, "variant-unusable", says)
            for changes in found:
                foreign = sorted(changes.keys() - set(own_fields(type(made))))
                says = f"`variants` changes {', '.join(foreign)}: it may change options of its own, no others"
                if report.expect(not foreign, "variant-unusable", says):
                    says = f"`variants` offers {changes}, which its Options refuse"
                    sound = read(type(made), {"kind": made.kind, **changes}) is not None
                    report.expect(sound, "variant-unusable", says)

    def _what(self, saved: Path) -> Trained:
        world = self.world
        adapts = Cap.ADAPTS in world.method.offers()
        whole = Whole(world.loader, world.quantizer, world.method, world.dtype, identity_of)
        identity = identity_of(world.base)
        engine, rows = world.engine.kind, world.calibration
        return Trained(saved, world.base, identity, "kit/base", engine, world.tokenizer, adapts, whole, rows)

    def _reopened(self, form: Form, out: Path, digest: str, report: Report) -> None:
        """As parity does it: attached to the base, or as a model by itself."""
        if form.engine != self.world.engine.kind:
            return  # an engine of another environment: parity asks it there
        world = self.world
        quantizer = world.quantizer if form.quantizer is None else Host().make("quantizer", dict(form.quantizer))
        served = Served(world.base if form.attach else out, world.loader, quantizer, form.dtype or world.dtype)
        served = served._replace(speaks=out if form.speaks else world.base)
        if form.attach:
            served = served._replace(method=world.method, trained=out)
        try:
            with world.engine.open(served) as subject:
                says = (
                    f"reopened as its Form says, its weights are others ({subject.identity[:12]}) than they should be"
                )
                report.expect(not form.attach or subject.identity == (form.digest or digest), "form-untrue", says)
                subject.complete([question(ROWS[0])], LIMITS[0])
        except Exception as error:
            report.add("form-untrue", f"it cannot be reopened as its Form says: {type(error).__name__}: {error}")

    def abuse(self, make: Make, desk: Desk) -> Iterator[Attempt]:
        made = make()
        for what, folder in damaged(self.saved, desk):
            yield Attempt(what, partial(made.export, self._what(folder), desk.give("out")))
