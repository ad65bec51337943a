"""predict: answers of a run's tuned model to rows of a client's own."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.errors import BadInput
from tunewright.host import Host
from tunewright.parts import DataSource, PromptFormat
from tunewright.parts.data_source import Broken
from tunewright.parts.engine import Completion
from tunewright.pipeline.forms import Opener
from tunewright.pipeline.tasks.fetch import base_folder
from tunewright.pipeline.tasks.train import OUTCOME, TRAINED
from tunewright.spec.suggest import did_you_mean
from tunewright.store.publish import Artifact, read_artifact

ANSWER = "answer"


def answer_rows(
    run: Path,
    rows: Sequence[Mapping[str, Any]],
    host: Host,
    limit: int = 64,
    progress: Callable[[int], None] | None = None,
) -> list[Completion]:
    """One answer a row, by the tuned model of a run's folder; at most `limit` tokens each. Raises `BadInput`."""
    lock = json.loads((run / "plan.json").read_text(encoding="utf-8"))["lock"]
    form = _backend(host, "prompt_format", lock["data"]["format"])
    fetched, trained = _step(run, "fetch"), _step(run, "train")
    prompts = [form.prompt(row) for row in rows]
    with opener_of(lock, host).tuned(
        base_folder(fetched), trained.path / TRAINED, trained.json(OUTCOME)["digest"]
    ) as subject:
        return subject.complete(prompts, limit, progress)


def opener_of(lock: Mapping[str, Any], host: Host) -> Opener:
    """The backends that a run's lock names for opening its model."""
    loader = _backend(host, "loader", lock["model"]["loader"])
    return Opener(
        loader,
        _backend(host, "engine", {"kind": loader.engine}),
        _backend(host, "quantizer", lock["quantization"]),
        _backend(host, "adapter", lock["adapter"]),
        lock["model"]["dtype"],
    )


def _backend(host: Host, part: str, options: Mapping[str, Any]) -> Any:
    backend = host.backend(part, options["kind"])
    return backend(backend.Options.model_validate(options))


def _step(run: Path, name: str) -> Artifact:
    found = read_artifact((run / "steps" / name).resolve())
    if found is None:
        raise BadInput(f"the run in {run} has no finished step `{name}`", fix="run the spec to its end first")
    return found


def read_file(path: Path, host: Host) -> list[dict[str, Any]]:
    """A client's file as rows, by the source that its ending names. Raises `BadInput`."""
    kind = path.suffix.lstrip(".").lower()
    if f"data_source/{kind}" not in host.table:
        raise BadInput(
            f"`{path.name}`: files ending in `.{kind}` cannot be read", fix=did_you_mean(kind, ["csv", "jsonl"])
        )
    source: DataSource = _backend(host, "data_source", {"kind": kind, "path": str(path.absolute())})
    rows = []
    for row in source.rows():
        if isinstance(row, Broken):
            raise BadInput(f"{row.origin}: {row.why}", fix="mend the row")
        rows.append(dict(row.fields))
    return rows


def check_columns(form: PromptFormat, rows: Sequence[Mapping[str, Any]], name: str) -> None:
    """Refuse a file that lacks a column of the prompt. Raises `BadInput`."""
    columns = list(rows[0]) if rows else []
    for column in sorted(form.prompt_columns()):
        if column not in columns:
            raise BadInput(f"`{name}` has no column `{column}`", fix=did_you_mean(column, columns))


def answer_file(run: Path, path: Path, host: Host, progress: Callable[[int], None] | None = None) -> str:
    """A client's file as csv with one more column, `answer`. Raises `BadInput`."""
    rows = read_file(path, host)
    lock = json.loads((run / "plan.json").read_text(encoding="utf-8"))["lock"]
    check_columns(_backend(host, "prompt_format", lock["data"]["format"]), rows, path.name)
    if rows and ANSWER in rows[0]:
        raise BadInput(f"`{path.name}` has a column `{ANSWER}` already", fix="rename it")
    answers = answer_rows(run, rows, host, progress=progress)
    out = io.StringIO()
    writer = csv.DictWriter(out, [*(rows[0] if rows else []), ANSWER], lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, ANSWER: answer.text} for row, answer in zip(rows, answers, strict=True))
    return out.getvalue()
