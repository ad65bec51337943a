"""parity: the certificate of every form that a client may serve, each reopened in a fresh process."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.errors import BadInput, Refused
from tunewright.parts import Backend, Engine, Evaluator, Quantizer
from tunewright.parts.engine import Completion, Continuation, Likeliest
from tunewright.parts.evaluator import Graded, TestRow, serves
from tunewright.parts.prompt_format import Text
from tunewright.pipeline.apart import Apart, apart, form_of
from tunewright.pipeline.certificate import CHANCE, LOSS, Answers, certificate, unasked
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
PROMPTS = 8
LIMIT = 32  # tokens of a golden answer
BEGINNING = 200  # characters of a plain text that it is asked to go on with
TOP = 32  # likeliest tokens of a place that distributions are compared by


class Parity(Task):
    """Each form against the trained one, on golden prompts and on the test rows.

    A form that should carry the trained tensors, and does not, ends the run. One with weights of its own can only be
    compared by what it answers: where that is worse, its row of the certificate says so, and it is not packaged.
    """

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
        for port, exported in sorted(inputs.items()):
            if port.startswith("export-"):
                name, about = port.removeprefix("export-"), exported.json(FORM)
                context.emit({"event": "progress", "what": f"reopening {name} in a fresh process"})
                with self._reopened(inputs["model"], exported, context) as subject:
                    if about["dtype"] is None:
                        refuse_other(subject.identity, inputs["trained"].json(OUTCOME)["digest"])
                    found = self._certified(subject, name, about, trained, base, prompts, tests, context)
                identity = about["identity"] if about["dtype"] is not None else subject.identity
                table[name] = {**found, "bytes": about["bytes"], "identity": identity}
                figures[name] = _figures(subject)
        disk.write(out / PARITY, canonical_json(table))
        return {"figures": figures}

    def _certified(
        self,
        subject: Apart,
        name: str,
        about: Mapping[str, Any],
        trained: Answers,
        base: Answers | None,
        prompts: Sequence[Text],
        tests: Mapping[Evaluator, list[TestRow]],
        context: Context,
    ) -> dict[str, Any]:
        """A form's row. Where the trained form itself cannot be asked, or is asked otherwise, the run ends: it would be
        packaged. Of another form it is a reason to leave it out."""
        itself = self._is_trained(about)
        try:
            form = self._asked(subject, name, about, trained, prompts, tests, context)
        except (BadInput, Refused) as error:
            if itself:
                raise
            return unasked(error.message)
        found = certificate(trained, form, base, self.seed)
        if itself and found["retokenized"]:
            why = f"`{name}` holds the trained tensors, and {found['refused'][0]}"
            raise Refused(why, fix="nothing is published: look at its tokenizer files and its template")
        return found

    def _is_trained(self, about: Mapping[str, Any]) -> bool:
        """Whether a form is the trained tensors in the engine that answered for them."""
        return about["dtype"] is None and about["engine"] == self.opener.engine.kind

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
        forms = [about for port, about in inputs.items() if port.startswith("export-")]
        others = [one for one in tests if one not in self.answered]
        if all(self._is_trained(about.json(FORM)) for about in forms):
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

    def _reopened(self, model: Artifact, exported: Artifact, context: Context) -> AbstractContextManager[Apart]:
        """The form as its client will open it, without anything of this process."""
        about, base, files = exported.json(FORM), base_folder(model), exported.path / FILES
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


def _figures(subject: Apart) -> dict[str, Any]:
    """What another machine has others of: it stands in the manifest, where the report reads it."""
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
