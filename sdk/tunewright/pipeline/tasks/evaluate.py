"""evaluate-base, evaluate-tuned: the same questions to the base and to what was trained, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewright.data.rows import draws, realise_all
from tunewright.digest import canonical_json
from tunewright.errors import BadInput, Refused
from tunewright.parts import Backend, DataSource, Evaluator, PromptFormat
from tunewright.parts.engine import Completion, Subject
from tunewright.parts.evaluator import Graded, Item, TestRow
from tunewright.pipeline.forms import Opener
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.fetch import base_folder
from tunewright.pipeline.tasks.prepare import example_of
from tunewright.pipeline.tasks.train import OUTCOME, TRAINED
from tunewright.store import disk
from tunewright.store.publish import Artifact

SUBJECT = "subject.json"


class Evaluate(Task):
    """Asks every item of every evaluator; with the port `trained`, of the tuned model, without it, of the base."""

    def __init__(
        self,
        opener: Opener,
        form: PromptFormat,
        test: Sequence[DataSource],
        evaluators: Sequence[Evaluator],
        seed: int,
    ) -> None:
        self.opener, self.format, self.test, self.evaluators = opener, form, tuple(test), tuple(evaluators)
        self.seed = seed

    def parts(self) -> tuple[Backend, ...]:
        opener = self.opener
        return (opener.loader, opener.engine, opener.quantizer, self.format, *self.test, *self.evaluators)

    def settings(self) -> dict[str, Any]:
        seed = self.seed if any(draws(source) for source in self.test) else None
        return {"dtype": self.opener.dtype, "seed": seed}

    def sources(self) -> Mapping[str, str]:
        return {f"test.{place} {source.name}": source.digest() for place, source in enumerate(self.test)}

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        rows = held_out(self.format, self.test, self.seed)
        folder = base_folder(inputs["model"])
        self._refuse_long_references(rows, folder)
        if "trained" not in inputs:
            with self.opener.served(folder, None) as subject:
                return self._measure(subject, rows, out, context)
        trained = inputs["trained"]
        with self.opener.tuned(folder, trained.path / TRAINED, trained.json(OUTCOME)["digest"]) as subject:
            return self._measure(subject, rows, out, context)

    def _refuse_long_references(self, rows: list[TestRow], base: Path) -> None:
        """A reference that is longer than any answer may be can never be matched: that is no finding about a model."""
        tokenizer = self.opener.loader.tokenizer(base)
        for evaluator in self.evaluators:
            limit = evaluator.options.max_new_tokens
            for item in evaluator.items(rows):
                length = len(tokenizer.encode(item.reference))
                if length > limit:
                    raise BadInput(
                        f"{item.origin}: the reference has {length} tokens, answers may have {limit}",
                        fix=f"set `max_new_tokens: {length + 1}` or more in `{evaluator.name}`",
                    )

    def _measure(self, subject: Subject, rows: list[TestRow], out: Path, context: Context) -> dict[str, Any]:
        scores: dict[str, float] = {}
        items: dict[str, int] = {}
        for evaluator in self.evaluators:
            graded = _ask(subject, evaluator, rows, context)
            items[evaluator.name] = len(graded)
            disk.write(out / f"{evaluator.name}.jsonl", b"\n".join(map(_line, graded)) + b"\n")
            for metric, summary in evaluator.summaries().items():
                scores[f"{evaluator.name}.{metric}"] = summary(graded)
        disk.write(out / SUBJECT, canonical_json({"identity": subject.identity, "scores": scores, "items": items}))
        return {"identity": subject.identity, "scores": scores}


def held_out(form: PromptFormat, test: Sequence[DataSource], seed: int) -> list[TestRow]:
    """The spec's test rows as examples."""
    return [
        TestRow(row.id, row.origin, example_of(form, row), row.group, row.fields)
        for one in realise_all(test, seed)
        for row in one.rows
    ]


def asked(inputs: Mapping[str, Artifact]) -> int:
    """Items that were asked, over all evaluators; 0 where nothing was evaluated."""
    return sum(inputs["tuned"].json(SUBJECT)["items"].values()) if "tuned" in inputs else 0


def _ask(subject: Subject, evaluator: Evaluator, rows: list[TestRow], context: Context) -> list[Graded]:
    items = list(evaluator.items(rows))
    if len({item.id for item in items}) != len(items):
        raise Refused(f"evaluator `{evaluator.name}` gives two items one id")

    def progress(done: int) -> None:
        context.emit({"event": "progress", "what": f"asking {evaluator.name}", "done": done, "of": len(items)})

    answers = subject.complete([item.prompt for item in items], evaluator.options.max_new_tokens, progress)
    return [Graded(item, answer, evaluator.grade(item, answer)) for item, answer in zip(items, answers, strict=True)]


def _line(graded: Graded) -> bytes:
    return canonical_json(asdict(graded))


def read_graded(evaluated: Artifact, name: str) -> list[Graded]:
    """What an evaluate step wrote for one evaluator."""
    return [
        Graded(Item(**line["item"]), Completion(**line["answer"]), line["grades"])
        for line in evaluated.lines(f"{name}.jsonl")
    ]
