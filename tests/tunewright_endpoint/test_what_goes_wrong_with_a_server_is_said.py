"""Dead, slow, broken and busy servers: a bounded number of tries, an error that says what happened, never the key."""

from __future__ import annotations

import re
import socket

import pytest
from pydantic import ValidationError

from endpoint_server import cut, drop, hang, serving, status
from tiny import backend
from tunewright.errors import BadInput, EnvironmentFault, TunewrightError, WorkFailed
from tunewright_endpoint import client
from tunewright_endpoint.engine import Endpoint

KEY = "sk-5e3c4e7-of-nobody"
QUESTION = [[{"role": "user", "content": "my parcel"}]]
BUSY = status(503, {"error": {"message": "loading the model"}})


@pytest.mark.parametrize("fault", [BUSY, status(429), drop, cut], ids=["503", "429", "dropped", "cut"])
def test_passing_trouble_is_waited_out(ask, server, fault):
    server.faults += [fault] * (client.TRIES - 1)
    with ask() as tuned:
        (answer,) = tuned.complete(QUESTION, 32)
    assert answer.text == "delivery"
    assert len(server.completions) == client.TRIES


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (BUSY, "answers 503: loading the model, 5 times in a row"),
        (drop, "was not made or not held"),
        (cut, "IncompleteRead"),
    ],
    ids=["503", "dropped", "cut"],
)
def test_trouble_that_lasts_ends_in_an_error_that_says_what_happened(ask, server, fault, said):
    server.faults += [fault] * 99
    with ask() as tuned, pytest.raises(EnvironmentFault, match=said):  # no verdict on the model: it passes
        tuned.complete(QUESTION, 32)
    assert len(server.completions) == client.TRIES == 5


def test_a_server_is_given_the_time_that_it_asks_for(ask, server, monkeypatch):
    waited = []
    monkeypatch.setattr(client, "sleep", waited.append)
    server.faults += [status(429, Retry_After="7"), status(429, Retry_After="9999"), status(503)]
    with ask() as tuned:
        tuned.complete(QUESTION, 32)
    assert waited == [7.0, client.LONGEST_PAUSE, client.PAUSE * 4]


@pytest.mark.parametrize(
    ("fault", "error", "said"),
    [
        (
            status(500, {"error": {"message": "out of memory\n  at line 7"}}),
            WorkFailed,
            "500: out of memory$",
        ),
        (status(500, b"<html>\nInternal"), WorkFailed, "answers 500: <html>$"),
        (status(500), WorkFailed, "answers 500$"),
        (status(400, {"message": "too long"}), BadInput, "answers 400: too long"),
        (status(404, {"detail": "Not Found"}), BadInput, "answers 404: "),
        (status(200, b"<html>sign in"), WorkFailed, "no JSON object: '<html>sign in'"),
        (status(200, b"[]"), WorkFailed, "no JSON object"),
        (status(200, b"[" * 100_000), WorkFailed, "no JSON object"),
        (status(200, {"choices": [{"token_ids": [-1], "finish_reason": "stop"}]}), WorkFailed, "gave none back"),
        (status(200, {"choices": [{"token_ids": [1 << 40], "finish_reason": "stop"}]}), WorkFailed, "gave none back"),
        (status(200, {"choices": []}), WorkFailed, "gives no answer in `choices`"),
        (status(200, {"choices": [{"token_ids": [65], "finish_reason": "abort"}]}), WorkFailed, "`abort`"),
        (status(200, {"choices": [{"token_ids": [65] * 40, "finish_reason": "stop"}]}), WorkFailed, "40 tokens"),
        (status(302, b"", Location="http://127.0.0.1:9/v1"), BadInput, "answers 302"),
    ],
)
def test_what_is_no_passing_trouble_is_said_at_once(ask, server, fault, error, said):
    server.faults.append(fault)
    with ask() as tuned, pytest.raises(error) as told:
        tuned.complete(QUESTION, 32)
    assert re.search(said, told.value.message)
    assert len(server.completions) == 1


@pytest.mark.parametrize("prompts", ["text", "messages"])
def test_half_a_character_is_read_as_a_tokenizer_reads_it(ask, server, prompts):
    said = "done \ud83d"
    choice = {"text": said, "message": {"content": said}, "finish_reason": "stop"}
    server.faults.append(status(200, {"choices": [choice]}))
    with ask(prompts=prompts) as tuned:
        (answer,) = tuned.complete(QUESTION, 32)
    assert answer.text == "done \ufffd"


def test_scores_that_are_none_are_refused(ask, server):
    from tunewright.parts.engine import Continuation

    row = Continuation([65], [66], "test.csv:9")
    choice = {"finish_reason": "length", "prompt_logprobs": [None, {"66": {"logprob": None}}]}
    server.faults += [status(200, {"choices": [choice]}), status(200, {"choices": [{"finish_reason": "length"}]})]
    with ask() as tuned:
        with pytest.raises(WorkFailed, match=r"test\.csv:9: .*token 66 the log-probability `None`"):
            tuned.score([row])
        with pytest.raises(WorkFailed, match="no log-probability of each token"):
            tuned.score([row])


def test_a_slow_server_is_not_waited_for_longer_than_is_said(ask, server):
    server.faults.append(hang(0.6))
    with ask(timeout=0.2) as tuned, pytest.raises(EnvironmentFault, match=r"gave no answer in 0\.2 s") as told:
        tuned.complete(QUESTION, 32)
    assert "raise `timeout`" in told.value.fix


def test_a_port_that_nobody_listens_at_is_said_before_anything_is_asked(ask):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(EnvironmentFault, match="was not made or not held") as told, ask(url=url):
            pass
    assert "start the server" in told.value.fix


def test_a_server_that_goes_away_is_tried_again_and_then_missed(ask, server):
    with ask() as tuned, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        tuned.client.url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(EnvironmentFault, match=r"Connection refused\), 5 times in a row"):
            tuned.complete(QUESTION, 32)


def test_after_an_error_no_further_question_is_asked(ask, server):
    server.faults.append(status(500))
    with ask(concurrency=1) as tuned, pytest.raises(WorkFailed):
        tuned.complete(QUESTION * 50, 8)
    assert len(server.completions) < 5


FAULTS = [
    status(500, f"Bearer {KEY} is broken".encode()), status(400, {"error": f"{KEY}?"}), status(403, KEY.encode()),
    status(200, f"you sent {KEY}".encode()), status(404, KEY.encode()), drop, cut, hang(0.4),
    status(302, b"", Location="http://127.0.0.1:9/"), status(200, {"model": KEY, "choices": []}),
    status(200, {"choices": [{"token_ids": [65], "finish_reason": KEY}]}),
]  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_the_key_is_sent_and_stands_in_no_error(ask, server, monkeypatch, fault):
    monkeypatch.setenv("ACME_KEY", KEY)
    server.key = KEY
    with ask(api_key="${env:ACME_KEY}", timeout=0.2) as tuned:
        assert tuned.complete(QUESTION, 32)[0].text == "delivery"
        server.faults += [fault] * client.TRIES
        with pytest.raises(TunewrightError) as told:
            tuned.complete(QUESTION, 32)
    assert {ask.token for ask in server.asked} == {f"Bearer {KEY}"}
    seen: BaseException | None = told.value
    while seen is not None:  # a traceback shows the causes too
        assert KEY not in f"{seen} {seen!r} {vars(seen)}"
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)


@pytest.mark.parametrize(("value", "said"), [(None, "wants a key"), ("sk-wrong-one", r"`\$\{env:ACME_KEY\}`")])
def test_a_key_that_is_missing_or_wrong_is_named_by_its_variable(ask, server, monkeypatch, value, said):
    server.key = KEY
    monkeypatch.setenv("ACME_KEY", value or "")
    with pytest.raises(BadInput) as told, ask(**({"api_key": "${env:ACME_KEY}"} if value else {})):
        pass
    assert "401" in told.value.message
    assert told.match(said)
    assert "sk-wrong-one" not in str(told.value)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed_to_where_the_key_would_go_along(ask, server, monkeypatch, code):
    monkeypatch.setenv("ACME_KEY", KEY)
    with serving() as elsewhere, ask(api_key="${env:ACME_KEY}") as tuned:
        server.faults.append(status(code, b"", Location=f"{elsewhere.url}/completions"))
        with pytest.raises(BadInput, match=f"answers {code}"):
            tuned.complete(QUESTION, 32)
        assert elsewhere.asked == []


@pytest.mark.parametrize(
    "options",
    [
        {"url": "http://user:password@host/v1"},
        {"url": "ftp://host/v1"},
        {"api_key": KEY},
        {"model": "base"},
        {"timeout": 0.0},
        {"prompts": "tokens"},
    ],
)
def test_options_that_cannot_be_meant_are_refused(options):
    given = {"url": "http://127.0.0.1:8000/v1", "model": "tuned", "base_model": "base"}
    assert backend(Endpoint, **given)
    with pytest.raises(ValidationError):
        backend(Endpoint, **{**given, **options})
