"""A model of another make is asked over HTTP beside the tuned one: in messages, since it has a tokenizer of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tunewright_endpoint
from endpoint_server import serving
from fake_project import FIRST_PARTY
from served_fakes import VOTES, fakes
from tunewright.host import Host
from tunewright.project import Project


class Pairs(fakes.FakeTokenizer):
    """Two characters a token and a template of its own: it counts the tokens of no prompt as the base does."""

    def __init__(self):
        super().__init__("another")

    def encode(self, text):
        return super().encode(text[::2])


class Another(fakes.FakeSubject):
    def _answer(self, prompt, limit):
        found = super()._answer(prompt, limit)
        return fakes.Completion(self.tokenizer.encode("delivery"), "delivery", found.stopped, prompt)


@pytest.fixture
def host(fakes):
    extra = {} if any(name == "endpoint" for name in Host().plugins) else {"endpoint": tunewright_endpoint}
    return Host(blocked=[name for name in FIRST_PARTY if name != "endpoint"], extra=extra)


@pytest.fixture
def server():
    model = fakes.Model()
    model.table = VOTES
    with serving(large=Another(model, "large", Pairs()), alike=fakes.FakeSubject(model, "alike")) as made:
        yield made


def baseline(server, **more):
    return f"baselines=[{{endpoint: {json.dumps({'url': server.url, 'model': 'large', **more})}}}]"


def test_a_model_with_another_tokenizer_is_asked_in_messages_and_compared(fake_spec, host, server, tmp_path):
    summary = Project(fake_spec, [baseline(server, prompts="messages")], host).run(tmp_path / "root").summary
    against = summary["baselines"]["endpoint"]["fake.right"]
    assert (against["n"], against["base"]) == (3, pytest.approx(1 / 3))
    assert against["tuned"] == summary["scores"]["fake.right"]["tuned"]
    assert {one.path for one in server.completions} == {"/v1/chat/completions"}  # nothing probes its log-probabilities
    assert len(server.completions) == 3
    (line, *_) = (Path(summary["run_dir"]) / "steps" / "evaluate-endpoint" / "fake.jsonl").read_text().splitlines()
    assert json.loads(line)["answer"]["text"] == "delivery"


def test_a_model_that_is_said_to_have_our_tokenizer_is_held_to_it(fake_spec, host, server, tmp_path):
    alike = baseline(server, model="alike", same_tokenizer=True)
    summary = Project(fake_spec, [alike], host).run(tmp_path / "root").summary
    assert summary["baselines"]["endpoint"]["fake.right"]["base"] > 0.5
    assert all("prompt_logprobs" not in one.body for one in server.completions)
    other = baseline(server, prompts="messages", same_tokenizer=True)
    with pytest.raises(Exception, match="other questions"):
        Project(fake_spec, [other], host).run(tmp_path / "root")


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, "foreign-tokenizer"),
        ({"prompts": "text"}, "foreign-tokenizer"),
        ({"prompts": "messages", "base_model": "base"}, "argument-unused"),
        ({"prompts": "messages"}, None),
        ({"prompts": "ids", "same_tokenizer": True}, None),
    ],
)
def test_what_another_tokenizer_reads_otherwise_is_refused_before_anything_runs(fake_spec, host, server, options, code):
    found = [problem.code for problem in Project(fake_spec, [baseline(server, **options)], host).validate()]
    assert found == ([code] if code else [])


def test_our_own_models_have_our_tokenizer_unsaid(fake_spec, host, server, tmp_path):
    engine = {"kind": "endpoint", "url": server.url, "model": "tuned", "base_model": "base", "same_tokenizer": True}
    evals = f"evals=[{{kind: fake, engine: {json.dumps(engine)}}}]"
    assert [problem.code for problem in Project(fake_spec, [evals], host).validate()] == ["argument-unused"]
