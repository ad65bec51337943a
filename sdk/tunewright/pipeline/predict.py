"""predict: answers of a run's tuned model to rows of a client's own."""

from __future__ import annotations

import csv
import io
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.errors import BadInput, TunewrightWarning
from tunewright.host import Host
from tunewright.parts import Cap, DataSource, Engine, PromptFormat, Quantizer
from tunewright.parts.data_source import Broken, Row
from tunewright.parts.engine import Completion, Subject
from tunewright.pipeline.certify import LIMIT
from tunewright.pipeline.forms import Opener, refuse_lacking, refuse_unattachable
from tunewright.pipeline.tasks.fetch import base_folder
from tunewright.pipeline.tasks.parity import GOLDEN
from tunewright.pipeline.tasks.quantize import QUANTIZE
from tunewright.pipeline.tasks.train import OUTCOME, TRAINED
from tunewright.spec.suggest import did_you_mean
from tunewright.store.publish import Artifact, read_artifact

ANSWER = "answer"


class Answered(NamedTuple):
    """A client's file with its answers, as csv, and how many of them the token limit cut."""

    text: str
    rows: int
    cut: int
    limit: int


def answer_rows(
    run: Path,
    rows: Sequence[Mapping[str, Any]],
    host: Host,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    engine: Engine | None = None,
) -> list[Completion]:
    """One answer a row, by the tuned model of a run's folder. Raises `BadInput`.

    An answer has at most `limit` tokens: by default what the run's evaluations allowed, or 64 where there are none.
    `engine` as in `open_tuned`.
    """
    lock = lock_of(run)
    limit = limit or limit_of(lock)
    form = host.make("prompt_format", lock["data"]["format"])
    prompts = [form.prompt(row) for row in rows]
    with open_tuned(run, host, engine) as subject:
        return subject.complete(prompts, limit, progress)


@contextmanager
def open_tuned(run: Path, host: Host, engine: Engine | None = None) -> Iterator[Subject]:
    """The tuned model of a run's folder, opened for asking: by `engine`, or by the one that the run's loader names.

    Raises `EnvironmentFault` where the engine is not installed, `BadInput` where it cannot put what was trained on the
    base. Where it never sees the weights that answer, it is asked the run's golden prompts first, and a warning says
    how many it answers as what was trained did.
    """
    lock = lock_of(run)
    opener = opener_of(lock, host)
    base, trained = (step_of(run, name) for name in steps_of(lock, opener.quantizer))
    if engine is not None:
        opener = replace(opener, engine=engine)
        refuse_unattachable(opener)
        refuse_lacking([engine])
    with opener.tuned(base_folder(base), trained.path / TRAINED, trained.json(OUTCOME)["digest"]) as subject:
        if not opener.engine.sees_weights:
            warnings.warn(TunewrightWarning(_evidence(run, subject)), stacklevel=3)
        yield subject


def _evidence(run: Path, subject: Subject) -> str:
    """What can be told of weights that nobody sees, in a sentence."""
    says = f"`{subject.identity}` is served elsewhere: that it holds what this run trained is not proven"
    parity = read_artifact((run / "steps" / "parity").resolve())
    golden = [] if parity is None else json.loads((parity.path / GOLDEN).read_text(encoding="utf-8"))
    if not golden:
        return says
    found = subject.complete([one.get("messages", one.get("text")) for one in golden], LIMIT)
    same = sum(answer.text == one["answer"] for one, answer in zip(golden, found, strict=True))
    told = f"{says}; of {len(golden)} golden prompts it answers {same} as what was trained did"
    return told if same else f"{told}: it is another model, or it is asked otherwise"


def steps_of(lock: Mapping[str, Any], quantizer: Quantizer) -> tuple[str, str]:
    """The steps that made the base which a run serves, and what it trained last."""
    first = QUANTIZE if Cap.MAKES in quantizer.offers() else "fetch"
    stages = lock.get("stages") or [{"name": "", "adapter": "continue"}]
    merged = [f"merge-{stage['name']}" for stage in stages[1:] if stage["adapter"] == "merge"]
    return [first, *merged][-1], f"train-{stages[-1]['name']}".removesuffix("-")


def limit_of(lock: Mapping[str, Any]) -> int:
    """Tokens of an answer that a run's evaluations allowed, so that an answer here is the answer there."""
    return max((evaluation["max_new_tokens"] for evaluation in lock["evals"]), default=64)


def lock_of(run: Path) -> dict[str, Any]:
    """What `spec.lock.yaml` of a run's folder holds."""
    found: dict[str, Any] = json.loads((run / "plan.json").read_text(encoding="utf-8"))["lock"]
    return found


def opener_of(lock: Mapping[str, Any], host: Host) -> Opener:
    """The backends that a run's lock names for opening its model."""
    loader = host.make("loader", lock["model"]["loader"])
    return Opener(
        loader,
        host.make("engine", {"kind": loader.engine}),
        host.make("quantizer", lock["quantization"]),
        host.make("adapter", lock["adapter"]),
        lock["model"]["dtype"],
    )


def step_of(run: Path, name: str) -> Artifact:
    """The output of a run's step. Raises `BadInput` where it was not finished."""
    found = read_artifact((run / "steps" / name).resolve())
    if found is None:
        raise BadInput(f"the run in {run} has no finished step `{name}`", fix="run the spec to its end first")
    return found


def source_of(path: Path, host: Host) -> DataSource:
    """The source that reads a file, by its ending. Raises `BadInput` where none that is installed does."""
    kind = path.suffix.lstrip(".").lower()
    if f"data_source/{kind}" not in host.table:
        fix = f"save it as one of: {', '.join(host.kinds('data_source'))}"
        raise BadInput(f"`{path.name}`: files ending in `.{kind}` cannot be read", fix=fix)
    source: DataSource = host.make("data_source", {"kind": kind, "path": str(path.absolute())})
    return source


def read_file(path: Path, form: PromptFormat, host: Host) -> list[dict[str, Any]]:
    """A client's file as rows, by the source that its ending names. Raises `BadInput` naming the row or the column."""
    source = source_of(path, host)
    columns = source.head().columns
    for column in sorted(form.prompt_columns() - set(columns)):
        raise BadInput(f"`{path.name}` has no column `{column}`", fix=did_you_mean(column, columns))
    if ANSWER in columns:
        raise BadInput(f"`{path.name}` has a column `{ANSWER}` already", fix="rename it")
    return [_asked(row, form) for row in source.rows()]


def _asked(row: Row | Broken, form: PromptFormat) -> dict[str, Any]:
    """A row's fields, once a prompt can be made of them."""
    if isinstance(row, Broken):
        raise BadInput(f"{row.origin}: {row.why}", fix="mend the row")
    try:
        form.prompt(row.fields)
    except BadInput as error:
        raise BadInput(f"{row.origin}: {error.message}", fix=error.fix) from error
    return dict(row.fields)


def answer_file(
    run: Path,
    path: Path,
    host: Host,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
    engine: Engine | None = None,
) -> Answered:
    """A client's file as csv with one more column, `answer`. Raises `BadInput` before the model is loaded.

    `engine` as in `open_tuned`.
    """
    lock = lock_of(run)
    rows = read_file(path, host.make("prompt_format", lock["data"]["format"]), host)
    limit = limit or limit_of(lock)
    answers = answer_rows(run, rows, host, limit, progress, engine) if rows else []
    columns = list(dict.fromkeys(column for row in rows for column in row))
    out = io.StringIO()
    writer = csv.DictWriter(out, [*columns, ANSWER], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, ANSWER: answer.text} for row, answer in zip(rows, answers, strict=True))
    return Answered(out.getvalue(), len(rows), sum(answer.stopped == "limit" for answer in answers), limit)
