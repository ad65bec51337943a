"""A spec that names no format is told what its rows look like, by the line to paste; that line makes the spec valid."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tunewright.host import Host, hookimpl
from tunewright.parts import DataSource
from tunewright.parts.data_source import SourceOptions
from tunewright.project import Project

SPEC = """\
apiVersion: tunewright/v1
name: acme
model: {source: {kind: local, path: base}}
adapter: {kind: lora}
data:
  train: [{kind: csv, path: train.csv}]
  test: [{kind: csv, path: train.csv}]
trainer: {kind: sft}
evals: [{kind: heldout}]
"""
ALPACA = "instruction,input,output\nRoute this.,my lamp,repair\n"
PAIR = {"prompt": "the lamp is dark", "chosen": "repair", "rejected": "delivery"}


@pytest.fixture(scope="module")
def host():
    return Host()


@pytest.fixture
def client(tmp_path):
    """A spec without a format, rows in Alpaca's shape, pairs, and a base that has only a config."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 2048}))
    for name in ("tokenizer.json", "model.safetensors"):
        (base / name).touch()
    (tmp_path / "train.csv").write_text(ALPACA)
    (tmp_path / "pairs.jsonl").write_text(json.dumps(PAIR) + "\n")
    (tmp_path / "client.yaml").write_text(SPEC)
    return tmp_path / "client.yaml"


def problems(spec, host, *edits):
    """(line, code, suggestion) of every problem, after edits of the spec's text."""
    text = spec.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    spec.write_text(text)
    return [(found.position.line, found.code, found.suggestion) for found in Project(spec, host=host).validate()]


def pasted(suggestion):
    """The line between the last backticks of a fix."""
    return suggestion.rpartition("write `")[2].rpartition("`")[0]


def test_the_shape_of_the_first_rows_is_told_and_its_line_works(client, host):
    ((line, code, fix),) = problems(client, host)
    assert (line, code) == (5, "missing-key")
    assert fix.startswith("`train.csv` looks like this: write `format: {kind: alpaca}")
    assert problems(client, host, ("data:\n", f"data:\n  {pasted(fix)}\n")) == []


def test_a_format_without_a_value_is_told_alike(client, host):
    ((line, code, fix),) = problems(client, host, ("data:\n", "data:\n  format:\n"))
    assert (line, code) == (6, "wrong-type")
    assert "write `format: {kind: alpaca}" in fix


def test_where_only_a_stage_has_rows_they_are_looked_at(client, host):
    found = problems(
        client, host, ("  train: [{kind: csv, path: train.csv}]\n", ""),
        ("trainer: {kind: sft}", "stages: [{name: taste, trainer: {kind: dpo}, data: {train: [{kind: jsonl, path: "
         "pairs.jsonl}]}}]"),
    )  # fmt: skip
    assert [one[1] for one in found] == ["missing-key"]
    assert "`pairs.jsonl` looks like this: write `format: {kind: preference}" in found[0][2]


def test_a_stage_that_lacks_its_own_format_is_told_the_shape_that_its_trainer_learns(client, host):
    stage = "  - name: taste\n    trainer: {kind: dpo}\n    data:\n      train: [{kind: jsonl, path: pairs.jsonl}]\n"
    found = problems(
        client, host, ("data:\n", "data:\n  format: {kind: alpaca}\n"),
        ("trainer: {kind: sft}\n", f"stages:\n  - {{name: task, trainer: {{kind: sft}}}}\n{stage}"),
    )  # fmt: skip
    (fix,) = (fix for _, code, fix in found if code == "wrong-row-kind")
    assert "`pairs.jsonl` looks like one: write `format: {kind: preference}" in fix
    assert problems(client, host, ("    data:\n", f"    data:\n      {pasted(fix)}\n")) == []


@pytest.mark.parametrize(
    ("rows", "source"),
    [
        ("a,b\n1,2\n", "path: train.csv"),  # like nothing that is known
        (ALPACA, "path: nowhere.csv"),
        (ALPACA, "pth: train.csv"),
        ("", "path: train.csv"),
        ("instruction,output\n\udcff\udcfe", "path: train.csv"),
    ],
)
def test_where_nothing_is_known_of_the_rows_the_key_alone_is_named(client, host, rows, source):
    (client.parent / "train.csv").write_text(rows, "utf-8", errors="surrogateescape")
    found = problems(client, host, ("train: [{kind: csv, path: train.csv}]", f"train: [{{kind: csv, {source}}}]"))
    assert (5, "missing-key", "add `format:`") in found


class Away(DataSource):
    """Rows of a service."""

    kind, Options = "away", SourceOptions

    def head(self):
        raise AssertionError("a service was asked for a hint")

    digest = rows = head


def test_rows_of_a_service_are_not_asked_for_it(client):
    table = {"data_source/away": f"{__name__}:Away"}
    host = Host(extra={"away": SimpleNamespace(tunewright_backends=hookimpl(lambda: table))})
    away = ("train: [{kind: csv, path: train.csv}]", "train: [{kind: away}]")
    assert problems(client, host, away) == [(5, "missing-key", "add `format:`")]


def test_nothing_heavy_is_imported_to_look(client):
    code = (
        "import sys; from pathlib import Path; from tunewright.project import Project\n"
        f"(found,) = Project(Path({str(client)!r})).validate()\n"
        "assert 'alpaca' in found.suggestion\n"
        "sys.exit(str({'torch', 'transformers', 'peft', 'trl', 'numpy'} & set(sys.modules) or '') or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
