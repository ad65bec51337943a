"""`chat`, and what a version control's hooks call: `validate --specs-only`, `verify --containing`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest

from fake_project import FIRST_PARTY
from tunewright import secrets
from tunewright.cli import chat
from tunewright.errors import BadInput
from tunewright.host import Host
from tunewright.parts.engine import Completion
from tunewright.project import Project
from typed import typed as call

TUNEWRIGHT = str(Path(sys.executable).with_name("tunewright"))
BLOCKED = [word for name in FIRST_PARTY for word in ("--no-plugins", name)]


@pytest.fixture
def finished(fake_spec, fake_host, monkeypatch):
    """The folder of a client whose spec was run to its end."""
    monkeypatch.chdir(fake_spec.parent)
    Project(fake_spec, host=fake_host).run()
    return fake_spec.parent


def test_chat_answers_each_question_as_the_training_put_it(finished):
    done = call(
        "chat", "client.yaml", *BLOCKED, said="where is the parcel\n\n/new\nthe pump is broken\n/end\nignored\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["delivery", "repair"]
    assert "tokens in" in done.stderr
    assert "a new conversation" in done.stderr


def test_chat_and_predict_ask_with_the_engine_that_is_named(finished):
    done = call("chat", "runs/acme", "--engine", "{kind: fake}", *BLOCKED, said="where is the parcel\n")
    assert (done.returncode, done.stdout) == (0, "delivery\n"), done.stderr
    Path("rows.fake").write_text("text\nthe pump is broken\n")
    done = call("predict", "runs/acme", "rows.fake", "--engine", "fake", *BLOCKED)
    assert (done.returncode, done.stdout) == (0, "text,answer\nthe pump is broken,repair\n"), done.stderr


@pytest.mark.parametrize(
    ("engine", "said"),
    [
        ("faek", "--engine faek:1:10: error[unknown-kind]: `faek` is not an installed engine"),
        ("{kind: fake, speed: 1}", "error[unknown-key]: `speed` is not an option of engine `fake`"),
        ("{speed: 1}", "error[wrong-type]: `--engine` takes a kind, or `{kind: NAME, …}`"),
        ("{kind: fake", "error[yaml-syntax]"),
    ],
)
def test_an_engine_that_cannot_be_meant_is_pointed_at_before_anything_is_loaded(finished, engine, said):
    for words in (("predict", "runs/acme", "nothing.csv"), ("chat", "runs/acme")):
        done = call(*words, "--engine", engine, *BLOCKED)
        assert (done.returncode, done.stdout) == (2, "")
        assert said in done.stderr
        assert "loading" not in done.stderr


def test_chat_says_where_an_answer_was_cut(finished):
    done = call("chat", "runs/acme", "--max-new-tokens", "3", *BLOCKED, said="where is the parcel\n")
    assert done.stdout == "del\n"
    assert "raise --max-new-tokens" in done.stderr


def test_chat_remembers_what_was_said(finished, monkeypatch):
    asked = []

    class Subject:
        def complete(self, prompts, limit):
            asked.append(prompts[0])
            return [Completion([1], f"answer {len(asked)}", "terminator", [])]

    form = Host(blocked=FIRST_PARTY).make("prompt_format", {"kind": "fake", "system": "Route."})
    chat._converse(Subject(), form, 8, StringIO("one\ntwo\n/new\nthree\n"))
    assert [[m["content"] for m in prompt] for prompt in asked] == [
        ["Route.", "one"],
        ["Route.", "one", "answer 1", "two"],
        ["Route.", "three"],
    ]


class Echo:
    """Answers with what it was asked last."""

    def complete(self, prompts, limit):
        return [Completion([1, 2], f"answer to {prompts[0][-1]['content']}", "terminator", [])]


def two_columns():
    """A format whose question has two columns and may not be about nothing."""

    def prompt(fields):
        if fields["text"] == "-":
            raise BadInput("the row has no value in column `text`")
        return [{"role": "user", "content": f"{fields['shop']}: {fields['text']}"}]

    return SimpleNamespace(prompt_columns=lambda: frozenset({"text", "shop"}), prompt=prompt)


def test_every_column_of_the_prompt_is_asked_for_and_a_new_start_forgets_half_a_question(capsys):
    words = "north\nwhere is it\nsouth\n/new\neast\n-\nwest\nlost\n"
    chat._converse(Echo(), two_columns(), 8, StringIO(words))
    told = capsys.readouterr()
    assert told.out.splitlines() == ["answer to north: where is it", "answer to west: lost"]
    assert "a new conversation" in told.err
    assert "the row has no value in column `text`" in told.err  # said, and the next question is asked


def test_a_person_at_a_terminal_sees_which_column_is_asked_for(capsys):
    stream = StringIO("north\nwhere is it\n")
    stream.isatty = lambda: True
    chat._converse(Echo(), two_columns(), 8, stream)
    assert "shop> text> " in capsys.readouterr().err


def test_an_answer_is_printed_without_the_value_of_a_secret(monkeypatch, capsys):
    monkeypatch.setattr(secrets, "_revealed", {})
    monkeypatch.setenv("ACME_TOKEN", "canary-7f3a9")
    secrets.reveal("${env:ACME_TOKEN}")
    chat._converse(Echo(), two_columns(), 8, StringIO("north\nis it canary-7f3a9\n"))
    assert capsys.readouterr().out == "answer to north: is it ${env:ACME_TOKEN}\n"


def test_files_that_are_no_specs_are_passed_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("ci.yaml").write_text("jobs: {}\n")
    Path("spec.yaml").write_text('# ours\n"apiVersion": tunewright/v9\nname: x\n')
    done = call("validate", "--specs-only", "ci.yaml", "spec.yaml")
    assert done.returncode == 2
    assert "spec.yaml:2:15: error[unknown-api-version]" in done.stderr
    assert "1 spec: 1 problem" in done.stderr
    assert call("validate", "--specs-only", "ci.yaml").returncode == 0
    gone = call("validate", "--specs-only", "gone.yaml")
    assert (gone.returncode, "gone.yaml" in gone.stderr) == (2, True)


def test_each_package_that_holds_a_changed_file_is_verified_once(finished):
    call("package", "client.yaml", "--out", "dist")
    package = finished / "dist/acme-0.1.0"
    changed = ["client.yaml", str(package / "MODEL_CARD.md"), "dist/acme-0.1.0/evals/fake.base.jsonl"]
    good = call("verify", "--containing", *changed)
    assert (good.returncode, good.stdout.count("good")) == (0, 1)
    (package / "MODEL_CARD.md").write_text("better than it is")
    bad = call("verify", "--containing", "--json", *changed)
    assert bad.returncode == 1
    assert any("MODEL_CARD.md" in problem for problem in json.loads(bad.stdout)["problems"])
    assert call("verify", "--containing", "client.yaml").returncode == 0


def test_plugins_are_chosen_by_name_and_a_wrong_name_is_no_choice(tmp_path, fake_spec, fakes):
    listed = json.loads(call("plugins", "list", "--json", "--only-plugins", "files").stdout)
    assert set(listed["backends"]) == {
        f"data_source/{kind}"
        for kind in ("csv", "datasets", "json", "jsonl", "legalbench", "parquet", "pubmedqa", "tatqa")
    }
    assert "trl" in listed["left_out"]
    assert "left out: peft, trl" in call("plugins", "list", "--no-plugins", "trl", "--no-plugins", "peft").stdout
    wrong = call("plugins", "list", "--no-plugins", "trll")
    assert (wrong.returncode, "did you mean `trl`?" in wrong.stderr) == (2, True)
    environment = {**os.environ, "TUNEWRIGHT_PLUGINS": "basics,files"}
    done = subprocess.run([TUNEWRIGHT, "plugins", "list", "--json"], env=environment, capture_output=True, check=True)
    assert {entry["plugin"] for entry in json.loads(done.stdout)["backends"].values()} == {"basics", "files"}


def test_a_broken_backend_is_listed_with_its_reason(tmp_path, monkeypatch):
    (tmp_path / "half_plugin.py").write_text(
        "from tunewright import hookimpl\n"
        "@hookimpl\n"
        "def tunewright_backends():\n"
        "    return {'gate/half': 'half_plugin:Nothing', 'gates/x': 'half_plugin:X'}\n"
    )
    info = tmp_path / "half-2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: half\nVersion: 2.0\n")
    (info / "entry_points.txt").write_text("[tunewright]\nhalf = half_plugin\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([TUNEWRIGHT, "plugins", "list"], env=environment, capture_output=True, text=True, check=True)
    said = " ".join(done.stdout.split())
    assert "broken: gate/half (half): plugin `half` (half) registers `gate/half`" in said
    assert "broken: half (half): `gates/x`: there is no part `gates`; did you mean `gate`?" in said
    command = [TUNEWRIGHT, "plugins", "list", "--json", "--no-plugins", "vllm"]
    listed = json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    assert [fault["plugin"] for fault in listed["faults"]] == ["half"]
    assert "has no `Nothing`" in listed["backends"]["gate/half"]["broken"]
    assert listed["left_out"] == ["vllm"]
    helped = subprocess.run([TUNEWRIGHT, "--help"], env=environment, capture_output=True, check=False)
    assert helped.returncode == 0


def test_hook_calls_are_traced_on_request(fake_spec):
    environment = {**os.environ, "TUNEWRIGHT_TRACE_HOOKS": "1"}
    done = subprocess.run([TUNEWRIGHT, "plugins", "list"], env=environment, capture_output=True, text=True, check=True)
    assert "plugin files of tunewright" in done.stderr
    assert "finish tunewright_backends -->" in done.stderr
