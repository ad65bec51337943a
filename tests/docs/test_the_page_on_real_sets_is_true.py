"""The page on real sets: its specs are valid, its tables say what the sources and the ready specs are."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tunewright.host import Host
from tunewright.project import Project
from tunewright.spec.load import load

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/real-sets.md").read_text("utf-8")
SPECS = ROOT / "specs/real"
PUBLISHED = ("pubmedqa", "legalbench", "tatqa")
SHARED = {"kind", "path", "where", "sample", "limit", "epochs", "weight", "on_error"}


@pytest.fixture
def folder(tmp_path):
    """Small invented files of each set's form, beside a base."""
    (tmp_path / "base").mkdir()
    config = {"model_type": "llama", "max_position_embeddings": 2048}
    (tmp_path / "base/config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "model.safetensors"):
        (tmp_path / "base" / name).touch()
    entries = {
        key: {
            "QUESTION": f"Does {key} help?", "CONTEXTS": ["Forty drank."], "LONG_ANSWER": "Yes.",
            "final_decision": label,
        }
        for key, label in (("1", "yes"), ("2", "no"))
    }  # fmt: skip
    tasks = [
        {"task": task, "text": f"A clause on {task}.", "answer": "Yes"} for task in ("cuad_insurance", "cuad_other")
    ]
    documents = {
        name: [{
            "table": {"uid": name, "table": [["lamps", "2"]]},
            "paragraphs": [],
            "questions": [{
                "question": f"How many of {name}?", "answer": "2", "answer_type": "count", "answer_from": "table",
                "scale": "", "derivation": "",
            }],
        }]
        for name in ("dev", "gold")
    }  # fmt: skip
    (tmp_path / "ori_pqal.json").write_text(json.dumps(entries))
    (tmp_path / "test_ground_truth.json").write_text(json.dumps({"2": "no"}))
    (tmp_path / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in tasks))
    for name, found in documents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    return tmp_path


def blocks(language):
    return re.findall(rf"^```{language} ?(.*)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)


def table(first):
    """The cells of each row of the table that begins so."""
    lines = PAGE.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split(" | ")]


def test_each_spec_of_the_page_is_valid_and_reads_its_rows(folder):
    host = Host()
    for info, text in blocks("yaml"):
        name = info or "changed.yaml"
        (folder / name).write_text(text if info else f"extends: client.yaml\n{text}")
        project = Project(folder / name, host=host)
        assert project.validate() == [], text
        assert project.plan().keys, text


def test_each_source_is_listed_with_its_columns_and_every_option_that_is_its_own():
    host = Host()
    rows = {cells[0].strip("`"): cells[1:] for cells in table("kind")}
    assert sorted(rows) == sorted(PUBLISHED)
    for kind, (columns, options, together) in rows.items():
        backend = host.backend("data_source", kind)
        named = set(re.findall(r"`(\w+)`", options)) | set(re.findall(r"`(\w+)`:", together))
        assert named == backend.Options.model_fields.keys() - SHARED
        if hasattr(backend, "columns"):
            assert tuple(re.findall(r"`(\w+)`", columns)) == backend.columns


def test_each_ready_spec_is_listed():
    listed = [match[1] for cells in table("spec") if (match := re.match(r"\[([\w-]+)\]", cells[0]))]
    assert sorted(listed) == sorted(path.stem for path in SPECS.glob("*.yaml"))
    for name in listed:
        assert load(SPECS / f"{name}.yaml").data["name"] == name
