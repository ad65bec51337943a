"""`vllm` with `url` as a baseline: another model, whose tokens are read by our tokenizer, so it must be the base's."""

from __future__ import annotations

import json

import pytest

import tunewright_endpoint
import tunewright_vllm
from endpoint_server import serving
from fake_project import FIRST_PARTY
from served_fakes import VOTES, fakes, subject
from tiny import backend
from tunewright.errors import BadInput
from tunewright.host import Host
from tunewright.parts.engine import Served
from tunewright.project import Project
from tunewright_vllm.engine import Vllm

ADDRESS = "http://127.0.0.1:9/v1"


@pytest.fixture
def host(fakes):
    known = {"endpoint": tunewright_endpoint, "vllm": tunewright_vllm}
    extra = {name: plugin for name, plugin in known.items() if name not in Host().plugins}
    return Host(blocked=[name for name in FIRST_PARTY if name not in known], extra=extra)


def found(spec, host, setting):
    return [(one.code, one.suggestion) for one in Project(spec, [setting], host).validate()]


def test_another_model_is_asked_only_where_its_tokenizer_is_said_to_be_ours(fake_spec, host):
    def baseline(**more):
        options = {"kind": "vllm", "url": ADDRESS, "served_name": "large", **more}
        return found(fake_spec, host, f"baselines=[{{name: large, engine: {json.dumps(options)}}}]")

    ((code, fix),) = baseline()
    assert code == "foreign-tokenizer"
    assert "`endpoint`" in fix and "`same_tokenizer: true`" in fix
    assert baseline(same_tokenizer=True) == []


def test_of_what_is_started_here_and_of_our_own_models_nothing_is_said(fake_spec, host):
    def evaluated(**more):
        return found(fake_spec, host, f"evals=[{{kind: fake, engine: {json.dumps({'kind': 'vllm', **more})}}}]")

    assert evaluated(url=ADDRESS) == []
    assert evaluated(url=ADDRESS, same_tokenizer=True) == [("argument-unused", "remove it")]
    assert [code for code, _ in evaluated(same_tokenizer=True)] == ["bad-value"]
    assert found(fake_spec, host, "baselines=[{name: here, engine: {kind: vllm}}]") == []


def test_the_baseline_is_the_model_of_its_name_and_ours_are_not_so_called(base):
    ours = Served(base, fakes.FakeLoader(fakes.KindOnly()), None, "fp32")
    talk = [{"role": "user", "content": "where is my parcel"}]
    with serving(acme=subject(), large=subject(VOTES)) as server:
        engine = backend(Vllm, url=server.url, served_name="large", same_tokenizer=True)
        with engine.open(ours._replace(speaks=base, foreign=True)) as asked:
            assert (asked.identity, asked.complete([talk], 32)) == ("vllm:large", subject(VOTES).complete([talk], 32))
        with pytest.raises(BadInput, match="is of baselines"):
            engine.open(ours).__enter__()
