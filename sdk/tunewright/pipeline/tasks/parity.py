"""parity: golden prompts, asked of the trained form and of every exported form reopened in a fresh process."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.parts import Backend, Engine, Quantizer
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import TestRow
from tunewright.parts.prompt_format import Text
from tunewright.pipeline.ask import ask_apart, form_of
from tunewright.pipeline.forms import Opener, refuse_other
from tunewright.pipeline.rows import ClaimRows
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.export import FILES, FORM
from tunewright.pipeline.tasks.fetch import base_folder
from tunewright.pipeline.tasks.train import OUTCOME, TRAINED
from tunewright.store import disk
from tunewright.store.publish import Artifact

GOLDEN, PARITY = "golden.json", "parity.json"
PROMPTS = 8
LIMIT = 32  # tokens of a golden answer
BEGINNING = 200  # characters of a plain text that it is asked to go on with


class Parity(Task):
    """Token agreement of each form with the trained one; one that should carry the trained weights, and does not, is
    refused."""

    def __init__(
        self,
        opener: Opener,
        plain: Quantizer,
        engines: Mapping[str, Engine],
        rows: ClaimRows,
        seed: int,
        blocked: Sequence[str],
    ) -> None:
        self.opener, self.plain, self.engines, self.rows, self.seed = opener, plain, engines, rows, seed
        self.blocked = blocked  # of this process's host: the fresh one leaves out the same plugins

    def parts(self) -> tuple[Backend, ...]:
        parts = (self.plain, *self.engines.values(), *self.opener.parts(), *self.rows.parts())
        return tuple(dict.fromkeys(parts))

    def settings(self) -> dict[str, Any]:
        asked = {"rows": self.rows.settings(), "seed": self.seed, "prompts": PROMPTS, "limit": LIMIT}
        return {"dtype": self.opener.dtype, **asked}

    def sources(self) -> Mapping[str, str]:
        return self.rows.digests()

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        base, trained = base_folder(inputs["model"]), inputs["trained"]
        digest = trained.json(OUTCOME)["digest"]
        rows = golden_rows(self.rows.examples(), self.seed)
        prompts = [golden_prompt(row) for row in rows]
        with self.opener.tuned(base, trained.path / TRAINED, digest) as subject:
            reference = subject.complete(prompts, LIMIT, together=False)
        disk.write(out / GOLDEN, canonical_json([_golden(r, a) for r, a in zip(rows, reference, strict=True)]))
        table = {}
        for port, exported in sorted(inputs.items()):
            if port.startswith("export-"):
                name = port.removeprefix("export-")
                context.emit({"event": "progress", "what": f"reopening {name} in a fresh process"})
                about = exported.json(FORM)
                identity, answers = self._asked(about, base, exported.path / FILES, prompts, digest, context.scratch)
                table[name] = {**compared(reference, answers), "bytes": about["bytes"], "identity": identity}
        disk.write(out / PARITY, canonical_json(table))
        return {"parity": table}

    def _asked(
        self, about: Mapping[str, Any], base: Path, files: Path, prompts: Sequence[Text], digest: str, scratch: Path
    ) -> tuple[str, list[Completion]]:
        """(identity, answers) of an exported form. Raises `Refused` where it should hold the trained tensors and does
        not; weights that were computed anew can only be compared by what they answer."""
        if about["dtype"] is None:
            form = form_of(self.opener, base, files, self.blocked)
            identity, answers = ask_apart(form, prompts, LIMIT, scratch)
            refuse_other(identity, digest)
            return identity, answers
        form = form_of(replace(self.opener, quantizer=self.plain, dtype=about["dtype"]), files, None, self.blocked)
        form |= {"speaks": str(base)} if about["engine"] != self.opener.engine.kind else {}
        form["parts"]["engine"] = {"kind": about["engine"], **about["options"]}
        if about["quantizer"] is not None:
            form["parts"]["quantizer"] = dict(about["quantizer"])
        return about["identity"], ask_apart(form, prompts, LIMIT, scratch)[1]


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


def compared(reference: Sequence[Completion], other: Sequence[Completion]) -> dict[str, Any]:
    """How near a form's answers are to the trained form's, as numbers.

    `agreement`: share of tokens; `prompts`: how many were asked; `diverged`: of how many the answer is another, or the
    prompt's token ids are; `first_divergence`: the earliest token, counted from 0, at which an answer is another one,
    None where none is.
    """
    places = [place for one, two in zip(reference, other, strict=True) if (place := divergence(one, two)) is not None]
    return {
        "agreement": agreement(reference, other),
        "prompts": len(reference),
        "diverged": len(places),
        "first_divergence": min(places, default=None),
    }


def divergence(one: Completion, two: Completion) -> int | None:
    """The first token, counted from 0, that two answers differ in; 0 for prompts of other ids, None for equal ones."""
    if one.prompt_ids != two.prompt_ids:
        return 0
    pairs = zip_longest(one.ids, two.ids)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), None)


def agreement(reference: Sequence[Completion], other: Sequence[Completion]) -> float:
    """Share of the reference's answer tokens that the other gives at the same place; 0 for a prompt of other ids."""
    total = sum(len(answer.ids) for answer in reference)
    same = sum(
        sum(a == b for a, b in zip(one.ids, two.ids, strict=False))
        for one, two in zip(reference, other, strict=True)
        if one.prompt_ids == two.prompt_ids
    )
    return same / total if total else 1.0
