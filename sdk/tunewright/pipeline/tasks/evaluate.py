"""evaluate-base, evaluate-tuned: the same questions to the base and to what was trained, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewright.digest import canonical_json
from tunewright.errors import BadInput, Refused
from tunewright.parts import Backend, Evaluator
from tunewright.parts.engine import Completion, Subject
from tunewright.parts.evaluator import Graded, Item, TestRow
from tunewright.parts.loader import Tokenizer
from tunewright.pipeline.forms import Opener
from tunewright.pipeline.rows import ClaimRows
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.fetch import base_folder
from tunewright.pipeline.tasks.train import OUTCOME, TRAINED
from tunewright.store import disk
from tunewright.store.publish import Artifact

SUBJECT = "subject.json"
Rows = Mapping[Evaluator, list[TestRow]]


class Evaluate(Task):
    """Asks every item of every evaluator; with the port `trained`, of the tuned model, without it, of the base."""

    def __init__(self, opener: Opener, asked: Mapping[Evaluator, ClaimRows]) -> None:
        self.opener, self.asked = opener, asked

    def parts(self) -> tuple[Backend, ...]:
        opener = self.opener
        rows = dict.fromkeys(part for claims in self.asked.values() for part in claims.parts())
        return (opener.loader, opener.engine, opener.quantizer, *rows, *self.asked)

    def settings(self) -> dict[str, Any]:
        rows = {evaluator.name: claims.settings() for evaluator, claims in self.asked.items()}
        return {"dtype": self.opener.dtype, "rows": rows}

    def sources(self) -> Mapping[str, str]:
        return {
            f"{evaluator.name} {place}": digest
            for evaluator, claims in self.asked.items()
            for place, digest in claims.digests().items()
        }

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        rows = {evaluator: claims.examples() for evaluator, claims in self.asked.items()}
        folder = base_folder(inputs["model"])
        self._refuse_what_cannot_be_graded(rows, folder)
        if "trained" not in inputs:
            with self.opener.served(folder, None) as subject:
                return self._measure(subject, rows, out, context)
        trained = inputs["trained"]
        with self.opener.tuned(folder, trained.path / TRAINED, trained.json(OUTCOME)["digest"]) as subject:
            return self._measure(subject, rows, out, context)

    def _refuse_what_cannot_be_graded(self, rows: Rows, base: Path) -> None:
        """Before a model is loaded."""
        tokenizer = self.opener.loader.tokenizer(base)
        for evaluator, data in rows.items():
            items = list(evaluator.items(data))
            if len({item.id for item in items}) != len(items):
                raise Refused(f"evaluator `{evaluator.name}` gives two items one id")
            if evaluator.asks:
                _refuse_long_references(evaluator, items, tokenizer)

    def _measure(self, subject: Subject, rows: Rows, out: Path, context: Context) -> dict[str, Any]:
        scores: dict[str, float] = {}
        items: dict[str, int] = {}
        for evaluator, data in rows.items():
            graded = measured(evaluator, subject, data, context)
            items[evaluator.name] = len(graded)
            disk.write(out / f"{evaluator.name}.jsonl", b"\n".join(map(_line, graded)) + b"\n")
            for metric, summary in evaluator.summaries().items():
                scores[f"{evaluator.name}.{metric}"] = summary(graded)
        disk.write(out / SUBJECT, canonical_json({"identity": subject.identity, "scores": scores, "items": items}))
        return {"identity": subject.identity, "scores": scores}


def asked(inputs: Mapping[str, Artifact]) -> int:
    """Items that were asked, over all evaluators; 0 where nothing was evaluated."""
    return sum(inputs["tuned"].json(SUBJECT)["items"].values()) if "tuned" in inputs else 0


def _refuse_long_references(evaluator: Evaluator, items: Sequence[Item], tokenizer: Tokenizer) -> None:
    """A reference that is longer than any answer may be can never be matched: that is no finding about a model."""
    limit = evaluator.options.max_new_tokens
    for item in items:
        length = len(tokenizer.encode(item.reference))
        if length > limit:
            raise BadInput(
                f"{item.origin}: the reference has {length} tokens, answers may have {limit}",
                fix=f"set `max_new_tokens: {length + 1}` or more in `{evaluator.name}`",
            )


def measured(evaluator: Evaluator, subject: Subject, rows: list[TestRow], context: Context) -> list[Graded]:
    what = f"{'asking' if evaluator.asks else 'scoring'} {evaluator.name}"

    def progress(done: int, of: int) -> None:
        context.emit({"event": "progress", "what": what, "done": done, "of": of})

    graded = evaluator.measure(subject, rows, progress)
    if not graded:
        raise Refused(f"evaluator `{evaluator.name}` graded nothing", fix="give it rows that it can use")
    return graded


def _line(graded: Graded) -> bytes:
    return canonical_json(asdict(graded))


def read_graded(evaluated: Artifact, name: str) -> list[Graded]:
    """What an evaluate step wrote for one evaluator."""
    return [
        Graded(Item(**line["item"]), Completion(**line["answer"]), line["grades"])
        for line in evaluated.lines(f"{name}.jsonl")
    ]
