"""A figure's rows, as a run of Tunewright prepares them: fetched, tokenized, their masks proven. Every side gets these.

Where the folder with the public sets is absent, the quickstart's rows stand in for Banking77's; what needs documents is
left out.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from tunewright.parts.trainer import PairRow, TokenRow

ROOT = Path(__file__).parents[3]
QUICKSTART = ROOT / "specs" / "quickstart" / "quickstart.yaml"
DATA = ROOT.parent / "shared" / "data"
"""Where the public sets lie unless `--data` names another folder."""


class Job(NamedTuple):
    """A spec, and the files of a public set that stand in it, by their key in the spec."""

    spec: Path
    files: Mapping[str, str] = {}
    settings: Sequence[str] = ()
    """What a benchmark sets otherwise, as `--set` takes it."""
    stand_in: bool = False
    """Whether the quickstart may take its place."""
    drawn: bool = True
    """Whether its rows are drawn, as training meets them; else they follow one another as in the file."""


BANKING = {"data.train.0.path": "support-banking77/train.csv", "data.test.0.path": "support-banking77/test.csv"}
JOBS = {
    # a message, and one of ten queues that the system prompt lists: about 114 tokens, 6.4 of them supervised
    "banking77-10": Job(ROOT / "tests/realdata/banking77.yaml", BANKING, ("quantization={kind: none}",), True),
    # the same with all 77 intents in the prompt
    "banking77": Job(ROOT / "specs/real/support-banking77.yaml", BANKING, (), True),
    # questions on documents, in the file's order: about six follow one another on each
    "tatqa": Job(
        ROOT / "specs/real/finance-tatqa.yaml",
        {
            "data.train.0.path": "finance-tatqa/tatqa_dataset_dev.json",
            "data.test.0.path": "finance-tatqa/tatqa_dataset_test_gold.json",
            "evals.1.test.0.path": "finance-tatqa/tatqa_dataset_test_gold.json",
        },
        ("data.train.0.sample=null", "data.train.0.limit=120"),
        drawn=False,
    ),
    # abstracts as plain text, every token supervised, packed into rows of 256 tokens: nothing to share
    "pubmedqa": Job(ROOT / "tests/realdata/pubmedqa-cpt.yaml", {"data.train.0.path": "medical-pubmedqa/ori_pqal.json"}),
}


class Prepared(NamedTuple):
    """Rows of one job, and where the base's weights lie."""

    base: Path
    rows: list[TokenRow]
    spec: str
    """The spec that they come from, by its name: the quickstart's where it stands in."""


def spec_of(name: str, data: Path) -> tuple[Path, list[str]]:
    """A job's spec, and its overrides. Raises `FileNotFoundError` where the set is absent and nothing stands in."""
    job = JOBS[name]
    files = {key: data / file for key, file in job.files.items()}
    absent = [file for file in files.values() if not file.is_file()]
    if not absent:
        return job.spec, [*(f"{key}={file}" for key, file in files.items()), *job.settings]
    if not job.stand_in:
        raise FileNotFoundError(f"{absent[0]} is not there: name the folder of the public sets with --data")
    return QUICKSTART, ["quantization={kind: none}"]


def prepare(name: str, dtype: str, data: Path, work: Path, model: Path | None = None) -> Prepared:
    """The rows that a run's training would get. `work` keeps them, as a project's root does; `model` is a folder with a
    base in place of the embedded one."""
    from tunewright.pipeline.run import Run
    from tunewright.pipeline.tasks.fetch import base_folder
    from tunewright.pipeline.tasks.prepare import read_rows
    from tunewright.project import Project

    spec, overrides = spec_of(name, data)
    base = [] if model is None else [f"model.source={{kind: local, path: {model}}}"]
    plan = Project.from_spec(spec, overrides=[*overrides, *base, f"model.dtype={dtype}"]).plan()
    with Run.open(plan, work / plan.name) as run:
        run.before_training()
        done = plan.hits(run.store)
    rows = [row for row in read_rows(done["prepare"]) if isinstance(row, TokenRow)]
    if JOBS[name].drawn:
        random.Random(0).shuffle(rows)
    return Prepared(base_folder(done["fetch"]), rows, plan.name)


def questions(name: str, count: int, data: Path) -> list[Any]:
    """Prompts of a job's test rows, `count` that lie evenly in the file: it may be sorted by label."""
    from tunewright.pipeline.rows import ClaimRows
    from tunewright.project import Project

    spec, overrides = spec_of(name, data)
    resolved = Project.from_spec(spec, overrides=overrides).resolve()
    rows = ClaimRows(resolved.test, resolved.spec.seed).examples()
    return [
        {"prompt": row.example.prompt, "answer": row.example.answer}
        for row in rows[:: max(1, len(rows) // count)][:count]
    ]


def pairs(rows: Sequence[TokenRow]) -> list[PairRow]:
    """Preferences made of answers: each row's own over that of the next row which has another."""
    made = []
    for place, row in enumerate(rows):
        start = next(at for at, label in enumerate(row.labels) if label != -100)
        own = row.ids[start:]
        others = (other.ids[len(other.ids) - other.supervised :] for other in (*rows[place + 1 :], *rows[:place]))
        worse = next(other for other in others if other != own)
        made.append(PairRow(row.row_id, row.origin, row.ids[:start], own, worse))
    return made


def write(rows: Sequence[TokenRow | PairRow], path: Path) -> None:
    """Rows as JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), "utf-8")


def read(path: Path) -> list[TokenRow] | list[PairRow]:
    """What `write` wrote."""
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    if lines and "chosen" in lines[0]:
        return [PairRow(**line) for line in lines]
    return [TokenRow(**line) for line in lines]
