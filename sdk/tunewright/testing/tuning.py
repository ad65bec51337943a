"""The kit for what is trained and what trains it."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from tunewright.data.mask import tokenize
from tunewright.data.pack import pack
from tunewright.parts import AdapterMethod, Cap, Trainer
from tunewright.parts.base import Facts
from tunewright.parts.memory import Shape
from tunewright.parts.trainer import AnyRow, Checkpoint, PairRow, Reference, TokenRow, TrainJob, TrainOutcome
from tunewright.parts.whole import Whole
from tunewright.pipeline.forms import identity_of
from tunewright.testing.bases import InWorld
from tunewright.testing.compare import alike, difference
from tunewright.testing.desk import Desk, unwatched
from tunewright.testing.referring import check_reference
from tunewright.testing.rows import GARBAGE
from tunewright.testing.samples import ROWS, Fields, example
from tunewright.testing.state import RANDOM, TORCH
from tunewright.testing.tiny import World
from tunewright.testing.trial import Attempt, Make
from tunewright.testing.violations import Report
from tunewright.testing.weights import content, frozen, tensors, trained_bytes

NOT_FOR_VLLM = (
    "use_dora", "modules_to_save", "lora_bias", "trainable_token_indices", "alora_invocation_tokens", "use_qalora",
)  # fmt: skip
"""What an adapter_config.json must not ask for if vLLM is to load it."""
PACKED = 24  # tokens of a packed row: a few of them, from a few short texts
VALIDATION = frozenset({"eval_every", "patience", "keep"})
"""Options of a trainer that look at validation rows."""
EVENT = frozenset({"event", "optimizer_step", "optimizer_steps", "loss", "learning_rate", "tokens_per_second"})
"""What a training event tells, one an optimizer step."""


class AdapterExercise(InWorld):
    """A base, wrapped, changed as by a training, saved twice, and put on a fresh base."""

    part = "adapter"
    shows_arguments = True
    draws = (RANDOM, TORCH)

    def run(self, made: AdapterMethod, desk: Desk, report: Report) -> Any:
        world, adapts = self.world, Cap.ADAPTS in made.offers()
        base = world.fresh()
        before = tensors(base)
        bare = world.say(base) if Cap.NEUTRAL in made.offers() else None
        model = made.wrap(base, None)
        if bare is not None:
            says = "it offers NEUTRAL, and with fresh weights the model answers otherwise than its base, to the bit"
            report.expect(not difference(bare, world.say(model)), "capability-lies", says)
        untaught = made.digest(model)
        world.teach(model)
        digest, count = made.digest(model), made.count(model)
        report.expect(digest != untaught, "digest-blind", "`digest` stays as it is when what is trained changes")
        first, second = desk.give("saved"), desk.give("saved")
        made.save(model, first)
        made.save(model, second)
        where = difference(content(first), content(second))
        report.expect(not where, "save-differs", f"one model was saved twice and the bytes differ: {where}")
        report.expect(made.digest(model) == digest, "save-changes-model", "`save` changes what is trained")
        self._count(count, adapts, report)
        self._told(made, model, report)
        if adapts:
            self._part_alone(before, model, first, report)
        if adapts and Cap.VLLM in made.offers():
            self._for_vllm(first, report)
        said = world.say(model)
        self._attached(made, first, digest, said, before if adapts else None, report)
        if Cap.MERGES in made.offers() and not report.violations:  # what is saved wrong cannot be merged right
            self._merged(made, first, said, desk, report)
        return {"digest": digest, "count": list(count), "files": content(first), "said": said}

    def _count(self, count: tuple[int, int], adapts: bool, report: Report) -> None:
        trainable, total = count
        says = f"`count` gives {trainable:,} trainable of {total:,} parameters"
        report.expect(0 < trainable <= total, "count-wrong", f"{says}: something must be trained, and no more than all")
        says = f"it offers ADAPTS, and {says}: the base is not frozen"
        report.expect(not adapts or trainable != total, "capability-lies", says)

    def _told(self, made: AdapterMethod, model: Any, report: Report) -> None:
        """What it tells of what it trains, against what is trained; where it tells nothing, nothing is asked."""
        config = json.loads((self.world.base / "config.json").read_text("utf-8"))
        shape, held = Shape.of(config), trained_bytes(model)
        told = None if shape is None else made.trainable(shape, self.world.dtype, False)
        if told is not None and held:
            says = (
                f"`trainable` tells {told.bytes:,} bytes of what is trained, which are {held:,}: a forecast goes by it"
            )
            report.expect(told.bytes == held, "memory-untrue", says)

    def _part_alone(self, before: Any, model: Any, saved: Path, report: Report) -> None:
        """The base is as it was, and none of it is saved."""
        says = "it offers ADAPTS, and the base's own tensors changed or can be trained: freeze them, change none"
        report.expect(not before - frozen(model), "capability-lies", says)
        if before:  # a model of tensors: a whole base would be as large as the base
            size, whole = (sum(path.stat().st_size for path in folder.glob("*.safetensors"))
                           for folder in (saved, self.world.base))  # fmt: skip
            says = f"it offers ADAPTS, and saves {size:,} bytes of weights on a base of {whole:,}: save a part alone"
            report.expect(size < whole, "capability-lies", says)

    def _for_vllm(self, saved: Path, report: Report) -> None:
        path = saved / "adapter_config.json"
        if not report.expect(path.is_file(), "capability-lies", "it offers VLLM, and saves no adapter_config.json"):
            return
        config = json.loads(path.read_text("utf-8"))
        asked = [name for name in NOT_FOR_VLLM if config.get(name)]
        says = f"it offers VLLM, and adapter_config.json has `{', '.join(asked)}`, which vLLM refuses: do not claim it"
        report.expect(not asked, "capability-lies", says)

    def _attached(self, made: AdapterMethod, saved: Path, digest: str, said: Any, before: Any, report: Report) -> None:
        """On a fresh base, for asking and for training on, it is what it was before it was saved."""
        model = made.attach(self.world.fresh(use="infer"), saved)
        report.expect(
            made.digest(model) == digest, "attach-differs", "what is attached has another digest than what was saved"
        )
        says = "what is attached to a fresh base answers otherwise than the model that was saved"
        report.expect(alike(said, self.world.say(model)), "attach-differs", says)
        if before is not None:
            says = "`attach` changes the base's own tensors"
            report.expect(not before - tensors(model), "capability-lies", says)
        again = made.digest(made.wrap(self.world.fresh(), saved))
        says = "`wrap` with a parent does not start from what the parent saved: a second training forgets the first"
        report.expect(again == digest, "parent-ignored", says)

    def _merged(self, made: AdapterMethod, saved: Path, said: Any, desk: Desk, report: Report) -> None:
        """Merged twice, it is one model, by itself, that answers as the base with the adapter did."""
        world, base = self.world, content(self.world.base)
        first, second = desk.give("out"), desk.give("out")
        whole = Whole(world.loader, world.quantizer, made, world.dtype, identity_of)
        for out in (first, second):
            whole.write(world.base, identity_of(world.base), saved, out, world.dtype)
        where = difference(content(first), content(second))
        says = f"one adapter was merged twice into one base and the bytes differ: {where}"
        report.expect(not where, "merge-differs", says)
        report.expect(content(world.base) == base, "writes-outside", "`merge` changes the base that it reads")
        if not world.quantizer.describe():  # else it stands on other weights than it was trained on
            merged = world.loader.model(first, world.quantizer, world.dtype, "infer")
            says = "what is merged answers otherwise than the base with what was saved put on it"
            report.expect(alike(said, world.say(merged)), "merge-differs", says)

    def abuse(self, make: Make, desk: Desk) -> Iterator[Attempt]:
        made, world = make(), self.world
        with unwatched():
            whole = desk.keep("whole")
            model = made.wrap(world.fresh(), None)
            made.save(model, whole)
        for what, folder in damaged(whole, desk):
            yield Attempt(what, partial(made.attach, world.fresh(use="infer"), folder))


def damaged(whole: Path, desk: Desk) -> Iterator[tuple[str, Path]]:
    """Copies of a saved folder: without a file, with half of one, with garbage for one."""
    yield "an empty folder for what was saved", desk.keep("saved")
    files = sorted(path for path in whole.iterdir() if path.is_file())
    for file, what in itertools.product(files, ("without", "with half of", "with garbage for")):
        folder = desk.keep("saved")
        with unwatched():
            for other in files:
                data = other.read_bytes()
                if other != file:
                    (folder / other.name).write_bytes(data)
                elif what != "without":
                    (folder / other.name).write_bytes(GARBAGE if what == "with garbage for" else data[: len(data) // 2])
        yield f"a saved folder {what} {file.name}", folder


class TrainerExercise(InWorld):
    """A training on a few rows: what changes, what is told, and whether both agree."""

    part = "trainer"
    draws = (RANDOM, TORCH)

    def __init__(self, world: World | None = None, rows: Sequence[Fields] | None = None) -> None:
        super().__init__(world)
        self.rows = ROWS if rows is None else rows
        self.taken_up = False

    def run(self, made: Trainer, desk: Desk, report: Report) -> Any:
        world, events = self.world, list[dict[str, Any]]()
        base = world.fresh()
        before = tensors(base)
        model = world.method.wrap(base, None)
        untrained, rows = world.method.digest(model), self._tokens(made)
        random.seed(0)
        outcome = made.train(self._job(made, model, rows, desk, events))
        digest = world.method.digest(model)
        says = "the model that it was given is the same after training: train `job.model` in place"
        report.expect(digest != untrained, "trains-nothing", says)
        says = "it changes the base, which the adapter method froze: train what wants gradients alone"
        frozen_before = Cap.ADAPTS not in world.method.offers() or not before - tensors(model)
        report.expect(frozen_before, "base-changed", says)
        self._told(outcome, [event for event in events if event.get("event") == "train"], report)
        self._counted(outcome, rows, report)
        self._observed(made, outcome, report)
        if not self.taken_up:  # once is enough: every further option is another training
            self.taken_up = True
            self._taken_up(made, outcome, digest, rows, desk, report)
            self._referring(made, rows, desk, report)
        return {"digest": digest, "order": outcome.row_order, "losses": [list(pair) for pair in outcome.losses],
                "steps": outcome.steps, "observed": dict(outcome.observed)}  # fmt: skip

    def _tokens(self, made: Trainer) -> list[AnyRow]:
        kind, tokenizer = made.consumes[0], self.world.tokenizer
        rows = [
            tokenize(f"kit.csv:{number}", f"kit.csv:{number}", example(fields, kind), tokenizer)
            for number, fields in enumerate(self.rows, 2)
        ]
        if not made.packs:
            return rows
        return list(pack([row for row in rows if isinstance(row, TokenRow)], PACKED))

    def _facts(self, made: Trainer) -> Facts:
        """What a trainer's `derive` is told: the adapter method, and validation where its options look at some."""
        looks = bool(VALIDATION & made.options.model_fields_set)
        return Facts(offers={"adapter": self.world.method.offers()}, validation=looks)

    def _job(
        self, made: Trainer, model: Any, rows: Sequence[AnyRow], desk: Desk, events: list[dict[str, Any]], **more: Any
    ) -> TrainJob:
        """A job as a run makes it; the rows are looked at besides, where there are options for that."""
        facts = self._facts(made)
        return TrainJob(
            model=model,
            tokenizer=self.world.tokenizer,
            train=rows,
            validation=rows if facts.validation else (),
            seed=0,
            scratch=desk.give("scratch"),
            emit=events.append,
            derived=made.derive(facts),
            decided=made.decide(facts),
            **more,
        )

    def _taken_up(
        self, made: Trainer, whole: TrainOutcome, digest: str, rows: Sequence[AnyRow], desk: Desk, report: Report
    ) -> None:
        """Interrupted after its first step and taken up again, it ends as it did in one go."""
        if whole.steps < 2:
            return
        kept, events = desk.give("checkpoint"), list[dict[str, Any]]()
        committed: list[Checkpoint] = []

        def commit(folder: Path, step: int) -> None:
            place = kept / str(len(committed))
            folder.rename(place)
            committed.append(Checkpoint(place, step))

        def trained(**more: Any) -> tuple[TrainOutcome, str]:
            model = self.world.method.wrap(self.world.fresh(), None)
            random.seed(0)
            outcome = made.train(self._job(made, model, rows, desk, events, commit=commit, **more))
            return outcome, self.world.method.digest(model)

        stopped, _ = trained(stopping=lambda: any(event.get("event") == "train" for event in events))
        if not committed:  # it need not be able to; then an interrupted training begins anew
            says = "it says that it stopped, and has committed nothing to go on from: call `job.commit`"
            report.expect(not stopped.stopped, "outcome-untrue", says)
            return
        outcome, again = trained(resume=committed[-1])
        says = (
            f"interrupted after step {committed[-1].step} and taken up from what it committed, it ends with other "
            "weights, losses or rows than in one go: put into the checkpoint what the rest of the training depends on"
        )
        if _came_to(outcome, again) != _came_to(whole, digest):
            # unless not even two trainings in one go are alike, which is said by itself
            report.expect(_came_to(*trained()) != _came_to(whole, digest), "resume-differs", says)

    def _referring(self, made: Trainer, rows: Sequence[AnyRow], desk: Desk, report: Report) -> None:
        """What it says of the rows before training depends on what it says, and is what it is trained against."""

        def begun() -> Any:
            model = self.world.method.wrap(self.world.fresh(), None)
            random.seed(0)
            return model

        def ask(trainer: Trainer, seed: int) -> Reference:
            job = self._job(trainer, begun(), rows, desk, [])
            return trainer.reference(job._replace(seed=seed, derived={}, decided={}))

        def came_to(reference: Reference | None) -> str:
            model = begun()
            outcome = made.train(self._job(made, model, rows, desk, [], reference=reference))
            return _came_to(outcome, self.world.method.digest(model))

        check_reference(made, len(rows), ask, came_to, report)

    def _told(self, outcome: TrainOutcome, events: Sequence[dict[str, Any]], report: Report) -> None:
        says = f"it made {outcome.steps} steps and emitted {len(events)} train events: emit one a step"
        report.expect(outcome.steps == len(events) > 0, "outcome-untrue", says)
        for event in events:
            lacking = sorted(EVENT - set(event))
            says = f"a train event lacks {', '.join(lacking)}: the progress and the report read it"
            report.expect(not lacking, "event-incomplete", says)
        told = [event.get("optimizer_step") for event in events]
        says = f"`optimizer_step` runs {told}, not from 1 to {len(events)}"
        report.expect(told == list(range(1, len(events) + 1)), "outcome-untrue", says)
        losses = [loss for _, loss in outcome.losses]
        report.expect(all(map(math.isfinite, losses)), "outcome-untrue", f"a loss is no number: {losses}")

    def _counted(self, outcome: TrainOutcome, rows: Sequence[AnyRow], report: Report) -> None:
        """Whole passes over the rows, and some rows once more: no other counts are possible."""
        sizes = [(row.tokens, row.supervised) for row in rows]
        whole = sum(tokens for tokens, _ in sizes)
        rest = outcome.tokens % whole
        passes = outcome.tokens // whole
        possible = {
            sum(s for _, s in some) + passes * sum(s for _, s in sizes)
            for number in range(len(sizes) + 1)
            for some in itertools.combinations(sizes, number)
            if sum(t for t, _ in some) == rest
        }
        says = f"it says that it trained on {outcome.tokens} tokens, {outcome.supervised} of them with a loss"
        held = outcome.tokens > 0 and outcome.supervised in possible
        report.expect(held, "outcome-untrue", f"{says}: no selection of the rows has so many ({whole} in all)")

    def _observed(self, made: Trainer, outcome: TrainOutcome, report: Report) -> None:
        told = {substitution.what for substitution in outcome.substituted}
        derived = made.derive(self._facts(made))
        for name, argument in {**derived, **made.arguments()}.items():
            got = outcome.observed.get(name, "nothing")
            same = not difference(_plain(argument.value), _plain(got))
            says = (
                f"`{name}` should be {argument.value!r}, and `observed` has {got!r}: pass it or record a Substitution"
            )
            report.expect(same or name in told, "argument-lost", says)

    def abuse(self, make: Make, desk: Desk) -> Iterator[Attempt]:
        made, world = make(), self.world
        rows = self._tokens(made)
        silent = [_silent(row) for row in rows]
        for what, given in (("no rows", []), ("rows without a supervised token", silent)):
            model = world.method.wrap(world.fresh(), None)
            yield Attempt(what, partial(made.train, self._job(made, model, given, desk, [])))


def _came_to(outcome: TrainOutcome, digest: str) -> str:
    """What two trainings that are one must have in common."""
    return repr((digest, outcome.losses, outcome.row_order))  # as text, a NaN equals itself


def _silent(row: AnyRow) -> AnyRow:
    """The row without anything that bears a loss."""
    if isinstance(row, TokenRow):
        return replace(row, labels=[-100] * len(row.ids))
    if isinstance(row, PairRow):
        return replace(row, chosen=[], rejected=[])
    return replace(row, completion=[])


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
