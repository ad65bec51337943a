"""parity: the certificate of every form that a client may serve, each reopened in a fresh process."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.errors import BadInput, Refused, TunewrightError, WorkFailed
from tunewright.parts import Backend, Engine, Evaluator, Quantizer
from tunewright.parts.engine import Completion, Continuation, Likeliest
from tunewright.parts.evaluator import Graded, TestRow, serves
from tunewright.parts.prompt_format import Text
from tunewright.pipeline.apart import Apart, apart, form_of
from tunewright.pipeline.certificate import CHANCE, LOSS, Answers, certificate, unmeasured
from tunewright.pipeline.forms import Opener, refuse_other
from tunewright.pipeline.rows import ClaimRows
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.evaluate import measured, read_graded
from tunewright.pipeline.tasks.export import FILES, FORM
from tunewright.pipeline.tasks.fetch import base_folder
from tunewright.pipeline.tasks.train import OUTCOME, TRAINED
from tunewright.store import disk
from tunewright.store.publish import Artifact

GOLDEN, PARITY = "golden.json", "parity.json"
PORT = "export-"
UNFIT = (BadInput, WorkFailed)
"""What is wrong with a form. What this machine lacks is no form's fault."""
PROMPTS = 8
LIMIT = 32  # tokens of a golden answer
BEGINNING = 200  # characters of a plain text that it is asked to go on with
TOP = 32  # likeliest tokens of a place that distributions are compared by


class Parity(Task):
    """Each form against the trained one, on golden prompts and on the test rows.

    The trained form must carry the trained tensors, and another that is put on the base those that were exported. A
    whole model of its own can only be compared by what it answers. Where a form is not what it should be, or answers
    worse, its row of the certificate says so, and it is not packaged; where it is the trained one, the run ends.
    """

    version = 2

    def __init__(
        self,
        opener: Opener,
        plain: Quantizer,
        engines: Mapping[str, Engine],
        golden: ClaimRows,
        asked: Mapping[Evaluator, ClaimRows],
        answered: Collection[Evaluator],
        seed: int,
        blocked: Sequence[str],
    ) -> None:
        self.opener, self.plain, self.engines = opener, plain, engines
        self.golden, self.asked, self.seed = golden, asked, seed
        self.answered = answered  # by the trained form in the loader's own engine: the others are asked here
        self.blocked = blocked  # of this process's host: the fresh one leaves out the same plugins

    def parts(self) -> tuple[Backend, ...]:
        rows = (part for claims in (self.golden, *self.asked.values()) for part in claims.parts())
        parts = (self.plain, *self.engines.values(), *self.opener.parts(), *rows, *self.asked)
        return tuple(dict.fromkeys(parts))

    def settings(self) -> dict[str, Any]:
        rows = {evaluator.name: claims.settings() for evaluator, claims in self.asked.items()}
        asked = {"golden": self.golden.settings(), "rows": rows, "prompts": PROMPTS, "limit": LIMIT, "top": TOP}
        judged = {"answered": sorted(one.name for one in self.answered), "loss": LOSS, "chance": CHANCE}
        return {"dtype": self.opener.dtype, "seed": self.seed, **asked, **judged}

    def sources(self) -> Mapping[str, str]:
        found = {f"golden {place}": digest for place, digest in self.golden.digests().items()}
        for evaluator, claims in self.asked.items():
            found |= {f"{evaluator.name} {place}": digest for place, digest in claims.digests().items()}
        return found

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        rows = golden_rows(self.golden.examples(), self.seed)
        prompts = [golden_prompt(row) for row in rows]
        tests = {evaluator: claims.examples() for evaluator, claims in self.asked.items()}
        trained = self._trained(inputs, prompts, tests, context)
        disk.write(out / GOLDEN, canonical_json([_golden(r, a) for r, a in zip(rows, trained.golden, strict=True)]))
        base = Answers((), graded=self._graded(inputs["base"])) if "base" in inputs else None
        table, figures = {}, {}
        for name, about in sorted(_exported(inputs).items()):
            context.emit({"event": "progress", "what": f"reopening {name} in a fresh process"})
            found, figures[name] = self._row(name, about, inputs, trained, base, prompts, tests, context)
            table[name] = {**found, "bytes": about["bytes"], "identity": about["identity"]}
        disk.write(out / PARITY, canonical_json(table))
        return {"figures": figures}

    def _row(
        self,
        name: str,
        about: Mapping[str, Any],
        inputs: Mapping[str, Artifact],
        trained: Answers,
        base: Answers | None,
        prompts: Sequence[Text],
        tests: Mapping[Evaluator, list[TestRow]],
        context: Context,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """A form's row, and what only this machine measures of it.

        Where the trained form itself cannot be opened or asked, or is asked otherwise, the run ends: it would be
        packaged. Of another form it is a reason to leave it out. What this machine lacks ends the run for any.
        """
        itself = self._is_trained(about)
        with ExitStack() as opened:
            try:
                subject = opened.enter_context(self._reopened(name, about, inputs, context))
                if about["dtype"] is None:
                    refuse_other(subject.identity, about["identity"], "trained" if about["trained"] else "exported")
            except UNFIT as error:
                if itself:
                    raise
                return unmeasured(f"it cannot be opened: {_in_a_line(error)}"), _figures(None)
            try:
                form = self._asked(subject, name, about, trained, prompts, tests, context)
            except UNFIT as error:
                if itself:
                    raise
                why = f"it cannot be asked what the trained form was asked: {_in_a_line(error)}"
                return unmeasured(why), _figures(subject)
            found = certificate(trained, form, base, self.seed)
            if itself and found["retokenized"]:
                why = f"`{name}` holds the trained tensors, and {found['refused'][0]}"
                raise Refused(why, fix="nothing is published: look at its tokenizer files and its template")
            return found, _figures(subject)

    def _is_trained(self, about: Mapping[str, Any]) -> bool:
        """Whether a form is the trained tensors in the engine that answered for them."""
        return bool(about["trained"]) and about["engine"] == self.opener.engine.kind

    def _trained(
        self,
        inputs: Mapping[str, Artifact],
        prompts: Sequence[Text],
        tests: Mapping[Evaluator, list[TestRow]],
        context: Context,
    ) -> Answers:
        """What the trained form answers in this process: the reference of all others.

        What evaluate-tuned asked of it in another engine is asked anew, where there is a form to be compared by it.
        """
        others = [one for one in tests if one not in self.answered]
        if all(map(self._is_trained, _exported(inputs).values())):
            others = []
        base, trained = base_folder(inputs["model"]), inputs["trained"]
        with self.opener.tuned(base, trained.path / TRAINED, trained.json(OUTCOME)["digest"]) as subject:
            golden = subject.complete(prompts, LIMIT, together=False)
            likeliest = subject.likeliest(_said(golden), TOP) if isinstance(subject, Likeliest) else None
            asked = {evaluator: measured(evaluator, subject, tests[evaluator], context) for evaluator in others}
        known = self._graded(inputs["tuned"]) if "tuned" in inputs else {}
        return Answers(golden, likeliest, {**known, **asked})

    def _graded(self, evaluated: Artifact) -> dict[Evaluator, list[Graded]]:
        return {evaluator: read_graded(evaluated, evaluator.name) for evaluator in self.answered}

    def _reopened(
        self, name: str, about: Mapping[str, Any], inputs: Mapping[str, Artifact], context: Context
    ) -> AbstractContextManager[Apart]:
        """The form as its client will open it, without anything of this process."""
        base, files = base_folder(inputs["model"]), inputs[f"{PORT}{name}"].path / FILES
        speaks = files if about["speaks"] else base
        if about["dtype"] is None:
            form = form_of(self.opener, base, files, speaks, self.blocked)
        else:
            opener = replace(self.opener, quantizer=self.plain, dtype=about["dtype"])
            form = form_of(opener, files, None, speaks, self.blocked)
        form["parts"]["engine"] = {"kind": about["engine"], **about["options"]}
        if about["quantizer"] is not None:
            form["parts"]["quantizer"] = dict(about["quantizer"])
        return apart(form, self.opener.loader.tokenizer(base), context.scratch)

    def _asked(
        self,
        subject: Apart,
        name: str,
        about: Mapping[str, Any],
        trained: Answers,
        prompts: Sequence[Text],
        tests: Mapping[Evaluator, list[TestRow]],
        context: Context,
    ) -> Answers:
        """The test rows are asked where anything but the process is another than the trained form's: the trained
        tensors in the same engine have its scores. What an engine cannot do for an evaluation is not measured."""
        golden = subject.complete(prompts, LIMIT, together=False)
        known = trained.likeliest is not None and subject.gives_likeliest
        likeliest = subject.likeliest(_said(trained.golden), TOP) if known else None
        if self._is_trained(about):
            return Answers(golden, likeliest, trained.graded)
        can = [evaluator for evaluator in trained.graded if serves(self.engines[name], evaluator)]
        graded = {evaluator: measured(evaluator, subject, tests[evaluator], context) for evaluator in can}
        return Answers(golden, likeliest, graded)


def _said(golden: Sequence[Completion]) -> list[Continuation]:
    return [Continuation(answer.prompt_ids, answer.ids) for answer in golden]


def _exported(inputs: Mapping[str, Artifact]) -> dict[str, dict[str, Any]]:
    """How each form is reopened, by its name."""
    ports = [port for port in inputs if port.startswith(PORT)]
    return {port.removeprefix(PORT): inputs[port].json(FORM) for port in ports}


def _in_a_line(error: TunewrightError) -> str:
    """What it says; of a process that died, its last words."""
    return " ".join(error.message.split())


def _figures(subject: Apart | None) -> dict[str, Any]:
    """What another machine has others of: it stands in the manifest, where the report reads it."""
    if subject is None:
        return {"tokens_per_second": None, "peak_rss_bytes": None}
    speed = subject.tokens / subject.seconds if subject.seconds else None
    return {"tokens_per_second": speed, "peak_rss_bytes": subject.peak_rss_bytes}


def golden_rows(rows: Sequence[TestRow], seed: int) -> list[TestRow]:
    """A few rows drawn by the seed, in their own order."""
    rng = random.Random(f"golden-{seed}")
    return [rows[place] for place in sorted(rng.sample(range(len(rows)), min(PROMPTS, len(rows))))]


def golden_prompt(row: TestRow) -> Text:
    """What is asked of a row; of a plain text, that it be gone on with."""
    return row.example.asked or row.example.answer[:BEGINNING]


def _golden(row: TestRow, answer: Completion) -> dict[str, Any]:
    prompt = golden_prompt(row)
    return {
        "origin": row.origin,
        "text" if isinstance(prompt, str) else "messages": prompt,
        "prompt_ids": answer.prompt_ids,
        "answer_ids": answer.ids,
        "answer": answer.text,
    }
