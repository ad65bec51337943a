"""evaluate-base, evaluate-tuned: the same questions to the base and to what was trained, row by row."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from tunewright.data.mask import prompt_ids
from tunewright.digest import canonical_json
from tunewright.errors import BadInput, Refused, TunewrightWarning
from tunewright.parts import Backend, Cap, Engine, Evaluator
from tunewright.parts.engine import Completion, Continuation, Subject
from tunewright.parts.evaluator import Graded, Item, Summary, TestRow
from tunewright.parts.loader import Tokenizer
from tunewright.pipeline.certificate import alike
from tunewright.pipeline.forms import Opener
from tunewright.pipeline.rows import ClaimRows
from tunewright.pipeline.step import Context, Task
from tunewright.pipeline.tasks.fetch import base_folder
from tunewright.pipeline.tasks.train import OUTCOME, TRAINED
from tunewright.store import disk
from tunewright.store.publish import Artifact

SUBJECT = "subject.json"
GOLDEN = "golden.json"
PROBED = 8  # items of an engine whose references are scored to tell tuned weights from the base's, about
ROUNDING = 1e-6
"""Nats by which the log-probability of a token may differ without any training: a few units in the last place of fp32,
as sums in another order make them."""
Rows = Mapping[Evaluator, list[TestRow]]
Measured = dict[Evaluator, list[Graded]]
Probe = list[list[float]]


class Evaluate(Task):
    """Asks every item of every evaluator; with the port `trained`, of the tuned model, without it, of the base.

    What the model thinks of a few references is kept, so that a base in the tuned model's place is found by it.

    `asked_by` is the engine of each evaluator, by its name. With the port `base`, what was answered without training.
    With a `foreign` opener, the engines answer with the model that they have, which need not be the base.
    """

    version = 2

    def __init__(
        self,
        opener: Opener,
        asked: Mapping[Evaluator, ClaimRows],
        asked_by: Mapping[str, Engine],
    ) -> None:
        self.opener, self.asked, self.asked_by = opener, asked, asked_by

    def parts(self) -> tuple[Backend, ...]:
        opener, engines = self.opener, [opener.engine for opener, _ in self._openers()]
        rows = dict.fromkeys(part for claims in self.asked.values() for part in claims.parts())
        return (opener.loader, *engines, opener.quantizer, *rows, *self.asked)

    def lighter(self) -> str:
        return ", or ".join(dict.fromkeys(filter(None, (engine.lighter() for engine in self.asked_by.values()))))

    def settings(self) -> dict[str, Any]:
        rows = {evaluator.name: claims.settings() for evaluator, claims in self.asked.items()}
        engines = {evaluator.name: self.asked_by[evaluator.name].settings() for evaluator in self.asked}
        own = {"its_own": True} if self.opener.foreign else {}
        return {"dtype": self.opener.dtype, "rows": rows, "asked_by": engines, **own}

    def sources(self) -> Mapping[str, str]:
        return {
            f"{evaluator.name} {place}": digest
            for evaluator, claims in self.asked.items()
            for place, digest in claims.digests().items()
        }

    def run(self, inputs: Mapping[str, Artifact], out: Path, context: Context) -> dict[str, Any]:
        rows = {evaluator: claims.examples() for evaluator, claims in self.asked.items()}
        self._refuse_what_cannot_be_graded(rows, base_folder(inputs["model"]))
        answered, about, golden = Measured(), dict[str, Any](), dict[str, Probe]()
        before = inputs["base"].json(GOLDEN) if "base" in inputs else {}
        for opener, evaluators in self._openers():
            seen = opener.engine.sees_weights
            with self._subject(opener, inputs) as subject:
                probes = (
                    {} if opener.foreign else _probed(opener.engine, subject, {one: rows[one] for one in evaluators})
                )
                moved = _moved(probes, before) if seen else None
                golden |= probes
                found = {evaluator: measured(evaluator, subject, rows[evaluator], context) for evaluator in evaluators}
                told = {"engine": opener.engine.kind, "identity": subject.identity, "proven": seen, "moved": moved}
            if "trained" in inputs and not seen:
                _refuse_the_base(found, inputs["base"], subject.identity)
                for evaluator in evaluators:
                    context.warn(TunewrightWarning(_unproven(evaluator.name, told)))
            answered |= found
            about |= {evaluator.name: told for evaluator in evaluators}
        disk.write(out / GOLDEN, canonical_json(golden))
        return self._write(answered, about, out)

    def _openers(self) -> list[tuple[Opener, list[Evaluator]]]:
        """Each engine once, with the evaluators that ask with it; two of equal options are one, and open one model."""
        found: dict[bytes, tuple[Opener, list[Evaluator]]] = {}
        for evaluator in self.asked:
            engine = self.asked_by[evaluator.name]
            options = canonical_json(engine.options.model_dump(mode="json"))
            found.setdefault(options, (replace(self.opener, engine=engine), []))[1].append(evaluator)
        return list(found.values())

    def _subject(self, opener: Opener, inputs: Mapping[str, Artifact]) -> AbstractContextManager[Subject]:
        folder, trained = base_folder(inputs["model"]), inputs.get("trained")
        if trained is None:
            # a whole model of the engine's own is opened by what a whole exported one would be
            return opener.served(folder, None, folder if opener.foreign else None)
        return opener.tuned(folder, trained.path / TRAINED, trained.json(OUTCOME)["digest"])

    def _refuse_what_cannot_be_graded(self, rows: Rows, base: Path) -> None:
        """Before a model is loaded."""
        tokenizer = self.opener.loader.tokenizer(base)
        for evaluator, data in rows.items():
            items = list(evaluator.items(data))
            if len({item.id for item in items}) != len(items):
                raise Refused(f"evaluator `{evaluator.name}` gives two items one id")
            if evaluator.asks:
                refuse_long_references(evaluator, items, tokenizer)

    def _write(self, answered: Measured, about: Mapping[str, Any], out: Path) -> dict[str, Any]:
        scores: dict[str, float] = {}
        for evaluator in self.asked:
            graded = answered[evaluator]
            disk.write(out / f"{evaluator.name}.jsonl", b"\n".join(map(_line, graded)) + b"\n")
            for metric, summary in evaluator.summaries().items():
                scores[f"{evaluator.name}.{metric}"] = _score(evaluator, metric, summary, graded)
        items = {evaluator.name: len(answered[evaluator]) for evaluator in self.asked}
        disk.write(out / SUBJECT, canonical_json({"asked": about, "scores": scores, "items": items}))
        return {"asked": about, "scores": scores}


def _score(evaluator: Evaluator, metric: str, summary: Summary, graded: Sequence[Graded]) -> float:
    try:
        return summary(graded)
    except ZeroDivisionError as error:
        raise BadInput(
            f"the metric `{metric}` of `{evaluator.name}` concerns none of its {len(graded)} items",
            fix="leave the metric out, or give rows that it concerns",
        ) from error


def _probed(engine: Engine, subject: Subject, rows: Rows) -> dict[str, Probe]:
    """What the model thinks of the references of a few items of each evaluation: log-probabilities in nats, token by
    token."""
    if Cap.SCORES not in engine.offers():
        return {}
    return {
        evaluator.name: subject.score(found, together=False)
        for evaluator, data in rows.items()
        if (found := list(_references(subject, islice(evaluator.items(data), max(2, PROBED // len(rows))))))
    }


def _references(subject: Subject, items: Iterable[Item]) -> Iterator[Continuation]:
    for item in items:
        prompt, answer = prompt_ids(item.prompt, subject.tokenizer), subject.tokenizer.encode(item.reference)
        if prompt and answer:
            yield Continuation(prompt, answer, item.origin)


def _moved(probes: Mapping[str, Probe], before: Mapping[str, Probe]) -> float | None:
    """By how much tuned and base differ there, in nats a token in the mean; None where there is nothing to compare.

    Raises `Refused` where no token differs by more than `ROUNDING`: then it is the base that was asked, whatever its
    digest says.
    """
    texts = [pair for name in probes.keys() & before.keys() for pair in zip(probes[name], before[name], strict=True)]
    pairs = [pair for both in texts for pair in zip(*both, strict=True)]
    if not pairs:
        return None
    if all(abs(one - other) <= ROUNDING for one, other in pairs):
        raise Refused(
            f"what was opened as the tuned model gives the {len(pairs)} tokens of {len(texts)} references the "
            f"probabilities that the base gives them, to {ROUNDING:g} nats: what was trained does not take part",
            fix="ask with another engine, or leave `engine` out; and where the training changed next to nothing, train "
            "on: `learning_rate`, `epochs`",
        )
    return math.fsum(abs(one - other) for one, other in pairs) / len(pairs)


def asked(inputs: Mapping[str, Artifact]) -> int:
    """Items that were asked, over all evaluators; 0 where nothing was evaluated."""
    return sum(inputs["tuned"].json(SUBJECT)["items"].values()) if "tuned" in inputs else 0


def unproven(inputs: Mapping[str, Artifact]) -> list[str]:
    """A sentence for each evaluation whose answers came from weights that nothing here has seen."""
    found = inputs["tuned"].json(SUBJECT)["asked"] if "tuned" in inputs else {}
    return [_unproven(name, told) for name, told in sorted(found.items()) if not told["proven"]]


def proofs(inputs: Mapping[str, Artifact]) -> list[str]:
    """A sentence for all that were asked of the same weights: which they are, and that they are not the base's."""
    found = inputs["tuned"].json(SUBJECT)["asked"] if "tuned" in inputs else {}
    said = dict[str, list[str]]()
    for name, told in sorted(found.items()):
        if told["proven"]:
            said.setdefault(_proof(told), []).append(f"`{name}`")
    return [f"{', '.join(names)}: {sentence}" for sentence, names in said.items()]


def _proof(told: Mapping[str, Any]) -> str:
    which = f"asked of weights {told['identity'][:12]}, which are those of the training"
    if told["moved"] is None:
        return f"{which}; that they think otherwise than the base was not looked at: the engine scores no given texts"
    return f"{which}, and think otherwise than the base: by {told['moved']:.2g} nats a token of the references"


def _unproven(name: str, told: Mapping[str, Any]) -> str:
    which = f"`{told['identity']}`, a model that is served elsewhere"
    return f"the scores of `{name}` are those of {which}: that it holds what was trained here is not proven"


def _refuse_the_base(found: Measured, base: Artifact, identity: str) -> None:
    """What answers every item as the base did is the base, for all that can be known of weights that nobody sees."""
    pairs = [(evaluator, graded, read_graded(base, evaluator.name)) for evaluator, graded in found.items()]
    if all(alike(evaluator, *both) for evaluator, *sides in pairs for both in zip(*sides, strict=True)):
        count = sum(len(graded) for graded in found.values())
        raise Refused(
            f"`{identity}` answers all {count} items just as the base does: what was trained is not applied there",
            fix="load it into the server under the name that is asked; if the training did change no answer, leave "
            "`engine` out: the loader's own proves the weights",
        )


def refuse_long_references(evaluator: Evaluator, items: Sequence[Item], tokenizer: Tokenizer) -> None:
    """A reference that is longer than any answer may be can never be matched: that is no finding about a model.

    Raises `BadInput` with the one that is furthest beyond.
    """
    lengths = ((len(tokenizer.encode(item.reference)), evaluator.limit(item), item) for item in items)
    beyond = [(length - limit, length, item) for length, limit, item in lengths if length > limit]
    if beyond:
        over, length, item = max(beyond, key=itemgetter(0))
        one = f"{item.origin}: the reference has {length} tokens, answers may have {length - over}"
        more = "" if len(beyond) == 1 else f"; it is the longest of {len(beyond)} that are too long"
        raise BadInput(one + more, fix=f"set `max_new_tokens: {length + 1}` or more in `{evaluator.name}`")


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
