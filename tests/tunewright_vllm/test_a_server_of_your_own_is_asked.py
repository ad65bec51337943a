"""`vllm` with `url`: a server that runs already, asked under the names that it lists and never under another."""

from __future__ import annotations

import pytest
from vllm_work import ADAPTS

from endpoint_server import serving
from served_fakes import VOTES, fakes, subject
from tiny import backend
from tunewright.errors import BadInput, WorkFailed
from tunewright.parts.engine import Continuation, Served
from tunewright.parts.several import Asked
from tunewright_vllm.engine import Vllm
from tunewright_vllm.remedies import YOURS

TALK = [{"role": "user", "content": "where is my parcel"}]
PROMPTS = [TALK, "the lamp is dark"]


@pytest.fixture
def served(base):
    return Served(base, fakes.FakeLoader(fakes.KindOnly()), None, "fp32")


@pytest.fixture
def server(monkeypatch):
    """A base under the name of its folder, as vLLM calls it, and two adapters."""
    monkeypatch.setattr("tunewright_endpoint.client.PAUSE", 0.001)
    with serving(acme=subject(), tuned=subject(VOTES), other=subject({"parcel": {"lost": 1.0}})) as made:
        made.parents = {"tuned": "acme", "other": "acme"}
        yield made


def opened(server, served, **options):
    return backend(Vllm, url=server.url, **options).open(served)


def test_the_base_is_the_model_that_adapters_are_put_on(server, served):
    with opened(server, served) as asked:
        assert asked.complete(PROMPTS, 32) == subject().complete(PROMPTS, 32)
        assert asked.identity == "vllm:acme"
        row = Continuation([65, 66], [67])
        assert asked.score([row]) == subject().score([row])
    assert {ask.path for ask in server.completions} == {"/tokenize", "/v1/completions"}


def test_what_was_trained_is_asked_as_it_is_called_there(server, served):
    tuned = served._replace(method=ADAPTS, trained=served.base)
    for options, votes in (({}, VOTES), ({"served_name": "other"}, {"parcel": {"lost": 1.0}})):
        with opened(server, tuned, **options) as asked:
            assert asked.complete(PROMPTS, 32) == subject(votes).complete(PROMPTS, 32)
    with opened(server, served._replace(speaks=served.base)) as asked:
        assert asked.identity == "vllm:tuned", "a whole model that was exported is the tuned one"


def test_a_name_that_is_not_listed_is_an_error_though_the_server_would_answer_it(server, served):
    server.any_name = "acme"
    tuned = served._replace(method=ADAPTS, trained=served.base)
    with pytest.raises(BadInput, match="serves no model `tunde`") as told:
        opened(server, tuned, served_name="tunde").__enter__()
    assert "tuned" in told.value.fix
    with pytest.raises(BadInput, match="serves no model `gone`"):
        backend(Vllm, url=server.url).open_several(served, {"gone": served.base}).__enter__()


def test_several_are_asked_of_it(server, served):
    order = ["other", None, "tuned", None]
    with backend(Vllm, url=server.url).open_several(served, dict.fromkeys(["tuned", "other"], served.base)) as several:
        found = several.complete([Asked(TALK, name) for name in order], 32)
    votes = {"other": {"parcel": {"lost": 1.0}}, None: None, "tuned": VOTES}
    assert found == [subject(votes[name]).complete([TALK], 32)[0] for name in order]


def test_what_it_says_it_reads_is_what_is_asked_of_it_at_the_most(server, served):
    server.contexts = {"acme": 40}  # vLLM tells it of the base alone
    for one in (served, served._replace(method=ADAPTS, trained=served.base)):
        with opened(server, one) as asked, pytest.raises(BadInput, match="longer than the context of 40") as told:
            asked.complete(PROMPTS, 40)
        assert "`--max-model-len`" in told.value.fix
        assert asked.client.remedies == YOURS
    assert not [ask for ask in server.completions if ask.path == "/v1/completions"]


def test_two_bases_are_not_chosen_between(server, served):
    server.parents = {"tuned": "acme"}
    with pytest.raises(BadInput, match=r"\['acme', 'other'\], not one base"):
        opened(server, served).__enter__()


def test_the_key_is_sent_wherever_it_is_asked(server, served, monkeypatch):
    monkeypatch.setenv("ACME_KEY", "s3cret")
    server.key = "s3cret"
    with opened(server, served, api_key="${env:ACME_KEY}") as asked:
        asked.complete(PROMPTS, 8)
    assert {ask.token for ask in server.asked} == {"Bearer s3cret"}
    with pytest.raises(BadInput, match="401"):
        opened(server, served).__enter__()


def test_a_server_that_cuts_no_prompts_is_told(server, served):
    server.tokenizes = False
    with opened(server, served) as asked, pytest.raises((BadInput, WorkFailed), match="404"):
        asked.complete(PROMPTS, 8)
