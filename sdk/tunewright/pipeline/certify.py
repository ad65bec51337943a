"""The trained model and any form of it are asked the same, and the form gets its row of the certificate."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.digest import digest_json, digest_tree
from tunewright.errors import BadInput, Refused, TunewrightError, WorkFailed
from tunewright.parts import Backend, Engine, Evaluator, Quantizer
from tunewright.parts.engine import Completion, Continuation, Likeliest
from tunewright.parts.evaluator import Graded, TestRow, serves
from tunewright.parts.gate import CHANCE
from tunewright.parts.prompt_format import Text
from tunewright.pipeline.apart import Apart, apart, form_of, plain
from tunewright.pipeline.certificate import ALIKE, APART, LOSS, Answers, certificate, unmeasured
from tunewright.pipeline.forms import Opener, refuse_other
from tunewright.pipeline.rows import ClaimRows
from tunewright.pipeline.step import Context
from tunewright.pipeline.tasks.evaluate import measured, read_graded
from tunewright.pipeline.tasks.export import AS_TRAINED, FILES, FORM, STORED
from tunewright.pipeline.tasks.fetch import base_folder
from tunewright.pipeline.tasks.train import OUTCOME, TRAINED
from tunewright.store.publish import Artifact

UNFIT = (BadInput, WorkFailed)
"""What is wrong with a form. What this machine lacks is no form's fault."""
PROMPTS = 8
LIMIT = 32  # tokens of a golden answer
BEGINNING = 200  # characters of a plain text that it is asked to go on with
TOP = 32  # likeliest tokens of a place that distributions are compared by


class Exported(NamedTuple):
    """A form as an export step wrote it: its name, its folder, and how it is reopened."""

    name: str
    folder: Path
    about: Mapping[str, Any]

    @classmethod
    def read(cls, name: str, output: Artifact) -> Exported:
        """The form in a step's output."""
        return cls(name, output.path, output.json(FORM))

    @property
    def digest(self) -> str:
        """Two forms of one digest answer alike: their files are the same, and so is the way to open them."""
        return digest_json([dict(self.about), digest_tree(self.folder / FILES)])


class Reference(NamedTuple):
    """What every form is asked, and compared with."""

    golden: list[TestRow]
    tests: Mapping[Evaluator, list[TestRow]]
    trained: Answers
    base: Answers
    """What the base answered to the test rows, and to the golden prompts where these tell nothing of a form."""
    model: Path
    """The base's folder."""

    @property
    def prompts(self) -> list[Text]:
        return [golden_prompt(row) for row in self.golden]


class Certified(NamedTuple):
    """A form's row of the certificate, and what another machine has others of: tokens a second, memory."""

    row: dict[str, Any]
    figures: dict[str, Any]


@dataclass(frozen=True)
class Certifier:
    """Everything that decides over a form's row, but for the form and the trained model themselves."""

    opener: Opener
    plain: Quantizer
    """Opens weights that were computed anew, where their form names no other; and a base as it lies in its files."""
    engines: Mapping[str, Engine]
    """The engine of each form, by its name."""
    golden: ClaimRows
    asked: Mapping[Evaluator, ClaimRows]
    answered: Collection[Evaluator]
    """By the trained form in the loader's own engine: the others are asked here."""
    seed: int
    blocked: Sequence[str]
    """Plugins of this process's host that the fresh one leaves out as well."""

    def parts(self) -> tuple[Backend, ...]:
        """The backends whose signatures belong into the key of a step that certifies."""
        rows = (part for claims in (self.golden, *self.asked.values()) for part in claims.parts())
        parts = (self.plain, *self.engines.values(), *self.opener.parts(), *rows, *self.asked)
        return tuple(dict.fromkeys(parts))

    def settings(self) -> dict[str, Any]:
        """What else does, as plain JSON."""
        rows = {evaluator.name: claims.settings() for evaluator, claims in self.asked.items()}
        asked = {"golden": self.golden.settings(), "rows": rows, "prompts": PROMPTS, "limit": LIMIT, "top": TOP}
        limits = {"loss": LOSS, "chance": CHANCE, "alike": ALIKE, "apart": APART}
        judged: dict[str, Any] = {"answered": sorted(one.name for one in self.answered), **limits}
        opened = {name: [engine.kind, engine.settings()] for name, engine in sorted(self.engines.items())}
        return {"dtype": self.opener.dtype, "seed": self.seed, "opened_by": opened, **asked, **judged}

    def sources(self) -> dict[str, str]:
        """Digests of the rows that are asked."""
        found = {f"golden {place}": digest for place, digest in self.golden.digests().items()}
        for evaluator, claims in self.asked.items():
            found |= {f"{evaluator.name} {place}": digest for place, digest in claims.digests().items()}
        return found

    def reference(self, inputs: Mapping[str, Artifact], others: Collection[str], context: Context) -> Reference:
        """Ask the trained form, in this process: ports `model`, `trained`, and what was evaluated, `base` and `tuned`.

        `others` names the forms that it will be compared with. What evaluate-tuned asked of it in another engine is
        asked anew where there are any; and the base is asked the golden prompts, where the evaluations cannot tell one
        of them from it.
        """
        golden = golden_rows(self.golden.examples(), self.seed)
        prompts = [golden_prompt(row) for row in golden]
        tests = {evaluator: claims.examples() for evaluator, claims in self.asked.items()}
        again = [one for one in tests if one not in self.answered] if others else []
        model, trained = base_folder(inputs["model"]), inputs["trained"]
        with self.opener.tuned(model, trained.path / TRAINED, trained.json(OUTCOME)["digest"]) as subject:
            answers = subject.complete(prompts, LIMIT, together=False)
            likeliest = subject.likeliest(_said(answers), TOP) if isinstance(subject, Likeliest) else None
            asked = {evaluator: measured(evaluator, subject, tests[evaluator], context) for evaluator in again}
        known = self._graded(inputs["tuned"]) if "tuned" in inputs else {}
        base = Answers((), graded=self._graded(inputs["base"])) if "base" in inputs else Answers(())
        if any(not self._comparable(name) for name in others):
            with self.opener.served(model, None) as subject:
                base = base._replace(golden=subject.complete(prompts, LIMIT, together=False))
        return Reference(golden, tests, Answers(answers, likeliest, {**known, **asked}), base, model)

    def _comparable(self, form: str) -> list[Evaluator]:
        """The evaluations whose rows base, trained form and this one all answer, and the first two in one engine."""
        return [evaluator for evaluator in self.answered if serves(self.engines[form], evaluator)]

    def _graded(self, evaluated: Artifact) -> dict[Evaluator, list[Graded]]:
        return {evaluator: read_graded(evaluated, evaluator.name) for evaluator in self.answered}

    def is_trained(self, form: Exported) -> bool:
        """Whether a form is the trained tensors, on the base that they were trained on, in the engine that answered for
        them."""
        own = self.opener.engine
        return (
            bool(form.about["trained"])
            and form.about["base"] == AS_TRAINED
            and form.about["engine"] == own.kind
            and self._engine(form) == plain(own.options)
        )

    def _engine(self, form: Exported) -> dict[str, Any]:
        """The engine that opens a form, as a spec would write it: as the spec gives it, else as the form says."""
        engine = self.engines[form.name]
        asked = form.about["options"] if engine.kind == form.about["engine"] else {}
        return {**plain(engine.options), **asked, **plain(engine.options, written=True)}

    def certify(self, form: Exported, reference: Reference, context: Context) -> Certified:
        """Reopen a form in a fresh process, ask it, compare.

        Where the trained form itself cannot be opened or asked, or answers as no form may, the run ends: it would be
        packaged. Of another form it is a reason to leave it out. What this machine lacks ends the run for any.
        """
        context.emit({"event": "progress", "what": f"reopening {form.name} in a fresh process"})
        with ExitStack() as opened:
            try:
                subject = opened.enter_context(self._reopened(form, reference, context))
                if form.about["dtype"] is None and self.engines[form.name].sees_weights:
                    whose = "trained" if form.about["trained"] else "exported"
                    refuse_other(subject.identity, form.about["identity"], whose)
            except UNFIT as error:
                if self.is_trained(form):
                    raise
                return Certified(
                    self._row(form, unmeasured(f"it cannot be opened: {_in_a_line(error)}")), _figures(None, None)
                )
            try:
                answers, speed = self._asked(form, subject, reference, context)
            except UNFIT as error:
                if self.is_trained(form):
                    raise
                why = f"it cannot be asked what the trained form was asked: {_in_a_line(error)}"
                return Certified(self._row(form, unmeasured(why)), _figures(subject, None))
            found = certificate(reference.trained, answers, reference.base, self.seed)
            if self.is_trained(form) and found["refused"]:
                why = f"`{form.name}` holds the trained tensors, and reopened in a fresh process {found['refused'][0]}"
                raise Refused(why, fix="nothing is published: look at its tokenizer files, its template and its stops")
            return Certified(self._row(form, found), _figures(subject, speed))

    def _row(self, form: Exported, found: Mapping[str, Any]) -> dict[str, Any]:
        """With `engine`, the kind of the one that asked: another than the form's own where the spec says so."""
        about, kind = form.about, self.engines[form.name].kind
        return {**found, "engine": kind, "bytes": about["bytes"], "identity": about["identity"]}

    def _reopened(self, form: Exported, reference: Reference, context: Context) -> AbstractContextManager[Apart]:
        """The form as its client will open it, without anything of this process."""
        about, base, files = form.about, reference.model, form.folder / FILES
        speaks = files if about["speaks"] else base
        if about["dtype"] is None:
            opener = replace(self.opener, quantizer=self.plain) if about["base"] == STORED else self.opener
            how = form_of(opener, base, files, speaks, self.blocked)
        else:
            opener = replace(self.opener, quantizer=self.plain, dtype=about["dtype"])
            how = form_of(opener, files, None, speaks, self.blocked)
        how["parts"]["engine"] = self._engine(form)
        if about["quantizer"] is not None:
            how["parts"]["quantizer"] = dict(about["quantizer"])
        return apart(how, self.opener.loader.tokenizer(base), context.scratch)

    def _asked(
        self, form: Exported, subject: Apart, reference: Reference, context: Context
    ) -> tuple[Answers, float | None]:
        """What it answers, and how fast: tokens a second of the golden prompts, which every form is asked, one by one.

        The trained tensors in the same engine have the trained form's scores, as long as they answer every golden
        prompt as it did: the evaluation opened the same files. Any other form is asked the test rows. What an engine
        cannot do for an evaluation is not measured."""
        trained = reference.trained
        golden = subject.complete(reference.prompts, LIMIT, together=False)
        speed = subject.tokens / subject.seconds if subject.seconds else None
        known = trained.likeliest is not None and subject.gives_likeliest
        likeliest = subject.likeliest(_said(trained.golden), TOP) if known else None
        if self.is_trained(form) and golden == list(trained.golden):
            return Answers(golden, likeliest, trained.graded, taken_over=True), speed
        can = [evaluator for evaluator in trained.graded if serves(self.engines[form.name], evaluator)]
        graded = {evaluator: measured(evaluator, subject, reference.tests[evaluator], context) for evaluator in can}
        return Answers(golden, likeliest, graded), speed


def _said(golden: Iterable[Completion]) -> list[Continuation]:
    return [Continuation(answer.prompt_ids, answer.ids) for answer in golden]


def _in_a_line(error: TunewrightError) -> str:
    """What it says; of a process that died, its last words."""
    return " ".join(error.message.split())


def _figures(subject: Apart | None, speed: float | None) -> dict[str, Any]:
    """What another machine has others of: it stands in the manifest, where the report reads it."""
    return {"tokens_per_second": speed, "peak_rss_bytes": None if subject is None else subject.peak_rss_bytes}


def golden_rows(rows: Sequence[TestRow], seed: int) -> list[TestRow]:
    """A few rows drawn by the seed, in their own order."""
    rng = random.Random(f"golden-{seed}")
    return [rows[place] for place in sorted(rng.sample(range(len(rows)), min(PROMPTS, len(rows))))]


def golden_prompt(row: TestRow) -> Text:
    """What is asked of a row; of a plain text, that it be gone on with."""
    return row.example.asked or row.example.answer[:BEGINNING]
