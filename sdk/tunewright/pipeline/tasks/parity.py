"""parity: golden prompts, asked of the trained form and of every exported form reopened in a fresh process."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.parts import Backend
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
    """Token agreement of each form with the trained one; a form that carries other weights is refused."""

    def __init__(
        self,
        opener: Opener,
        rows: ClaimRows,
        seed: int,
        blocked: Sequence[str],
    ) -> None:
        self.opener, self.rows, self.seed = opener, rows, seed
        self.blocked = blocked  # of this process's host: the fresh one leaves out the same plugins

    def parts(self) -> tuple[Backend, ...]:
        return (*self.opener.parts(), *self.rows.parts())

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
                form = form_of(self.opener, base, exported.path / FILES, self.blocked)
                identity, answers = ask_apart(form, prompts, LIMIT, context.scratch)
                refuse_other(identity, digest)
                table[name] = {
                    "agreement": agreement(reference, answers),
                    "prompts": len(prompts),
                    "bytes": exported.json(FORM)["bytes"],
                    "identity": identity,
                }
        disk.write(out / PARITY, canonical_json(table))
        return {"parity": table}


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


def agreement(reference: Sequence[Completion], other: Sequence[Completion]) -> float:
    """Share of the reference's answer tokens that the other gives at the same place; 0 for a prompt of other ids."""
    total = sum(len(answer.ids) for answer in reference)
    same = sum(
        sum(a == b for a, b in zip(one.ids, two.ids, strict=False))
        for one, two in zip(reference, other, strict=True)
        if one.prompt_ids == two.prompt_ids
    )
    return same / total if total else 1.0
