"""What comes over HTTP is what the model says in its own process, token by token; anything else is an error."""

from __future__ import annotations

import threading

import pytest

from served_fakes import VOTES, subject
from tiny import backend
from tunewright.errors import BadInput, Refused, WorkFailed
from tunewright.parts import Cap
from tunewright.parts.engine import Continuation
from tunewright_endpoint.engine import Endpoint

WORDS = ("where is my parcel", "the lamp is dark", "my money", "hello")
QUESTIONS = [[{"role": "system", "content": "Route."}, {"role": "user", "content": word}] for word in WORDS]


@pytest.mark.parametrize("prompts", ["ids", "text", "messages"])
@pytest.mark.parametrize("limit", [3, 32])
def test_answers_are_the_models_own_however_the_prompt_is_sent(ask, prompts, limit):
    at_home = subject(VOTES).complete(QUESTIONS, limit)
    with ask(prompts=prompts) as tuned:
        assert tuned.complete(QUESTIONS, limit) == at_home
        assert tuned.complete(QUESTIONS, limit, together=False) == at_home
    with ask(of="base", prompts=prompts) as base:
        assert base.complete(QUESTIONS, limit) == subject().complete(QUESTIONS, limit)


def test_token_ids_are_sent_as_they_were_trained_on_and_the_likeliest_is_asked_for(ask, server):
    with ask() as tuned:
        (answer,) = tuned.complete(QUESTIONS[:1], 32)
    (sent,) = [ask.body for ask in server.completions]
    assert sent["prompt"] == answer.prompt_ids
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("tuned", 0, 32)
    assert sent["stop_token_ids"] == sorted(tuned.tokenizer.stops)


def test_a_text_is_sent_with_its_special_tokens_and_none_are_to_be_added(ask, server):
    with ask(prompts="text") as tuned:
        tuned.complete(QUESTIONS[:1], 32)
    (sent,) = [ask.body for ask in server.completions]
    assert sent["prompt"] == tuned.tokenizer.render(QUESTIONS[0], generation_prompt=True)
    assert sent["add_special_tokens"] is False


def test_messages_are_sent_with_nothing_that_a_strict_server_would_refuse(ask, server):
    with ask(prompts="messages") as tuned:
        tuned.complete(QUESTIONS[:1], 32)
    (sent,) = [ask.body for ask in server.completions]
    assert sent["messages"] == QUESTIONS[0]
    assert set(sent) == {"model", "messages", "max_tokens", "temperature", "n", "stream"}


def test_scores_are_the_models_own_and_of_the_answer_alone(ask):
    rows = [Continuation(list(map(ord, "my parcel")), list(map(ord, " is")), "test.csv:2"), Continuation([65], [])]
    with ask() as tuned:
        assert tuned.score(rows) == subject(VOTES).score(rows)
        with pytest.raises(BadInput, match=r"test\.csv:2: nothing stands before"):
            tuned.score([Continuation([], [65], "test.csv:2")])


@pytest.mark.parametrize("prompts", ["text", "messages"])
def test_scores_are_not_offered_where_the_server_tokenizes(ask, prompts):
    assert Cap.SCORES in backend(Endpoint, url="http://h", model="a").offers()
    assert Cap.SCORES not in backend(Endpoint, url="http://h", model="a", prompts=prompts).offers()
    with ask(prompts=prompts) as tuned, pytest.raises(Refused, match="token ids alone"):
        tuned.score([Continuation([65], [66])])


def test_answers_keep_the_order_of_the_questions_and_every_one_is_counted(ask, server):
    all_there = threading.Barrier(4)
    server.faults += [lambda request: (all_there.wait(20), request.answer())] * 4
    heard = []
    with ask(concurrency=4) as tuned:
        found = tuned.complete(QUESTIONS * 4, 32, heard.append)
    assert found == subject(VOTES).complete(QUESTIONS * 4, 32)
    assert heard == list(range(1, 17))
    assert server.most_under_way == 4


def test_one_by_one_means_one_at_a_time(ask, server):
    with ask() as tuned:
        tuned.complete(QUESTIONS, 8, together=False)
    assert server.most_under_way == 1


def test_a_name_that_is_not_listed_is_an_error_though_the_server_would_answer_it(ask, server):
    """As servers of one model do: whatever is asked, the base answers."""
    server.any_name = "base"
    with pytest.raises(BadInput, match=r"serves no model `tunde`") as told, ask(model="tunde"):
        pass
    assert "`tuned`" in told.value.fix
    with pytest.raises(BadInput) as told, ask(model="another"):
        pass
    assert told.value.fix == "known: base, tuned"
    assert server.completions == []


def test_a_server_that_says_it_is_another_model_is_not_believed(ask, server):
    server.answers_as = "base"
    with ask() as tuned, pytest.raises(WorkFailed, match="`tuned` was asked, and `base` answers"):
        tuned.complete(QUESTIONS, 8)


@pytest.mark.parametrize("change", [{"begins_twice": True}])
def test_a_prompt_that_the_server_reads_as_other_tokens_is_another_question(ask, server, change):
    vars(server).update(change)
    with ask(prompts="text") as tuned, pytest.raises(WorkFailed, match=r"reads a prompt of \d+ tokens as \d+"):
        tuned.complete(QUESTIONS, 8)
    with ask() as tuned:  # token ids are read as they are
        assert tuned.complete(QUESTIONS, 8) == subject(VOTES).complete(QUESTIONS, 8)


def test_a_server_that_gives_no_token_ids_is_asked_by_text(ask, server):
    server.gives_ids = False
    with ask() as tuned, pytest.raises(WorkFailed, match="gave none back") as told:
        tuned.complete(QUESTIONS, 8)
    assert "`prompts: text`" in told.value.fix


def test_plain_text_is_no_conversation(ask):
    with ask(prompts="messages") as tuned, pytest.raises(BadInput, match="prompt 2 is plain text"):
        tuned.complete([QUESTIONS[0], "my parcel"], 8)
    with ask() as tuned:
        assert tuned.complete(["my parcel"], 32) == subject(VOTES).complete(["my parcel"], 32)


def test_a_subject_claims_no_weights(ask):
    with ask() as tuned, ask(of="base") as base:
        assert (tuned.identity, base.identity) == ("endpoint:tuned", "endpoint:base")
    assert not Endpoint.sees_weights


def test_the_base_is_asked_only_where_its_name_is_told(ask):
    with pytest.raises(BadInput, match="what the server calls the base"), ask(of="base", base_model=None):
        pass
    with ask(base_model=None) as tuned:
        assert tuned.name == "tuned"


def test_what_is_asked_here_is_never_said_to_have_our_tokenizer(ask):
    with pytest.raises(BadInput, match="is of baselines"), ask(same_tokenizer=True):
        pass
