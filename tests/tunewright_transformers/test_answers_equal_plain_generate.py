"""Batches, padding and the shared prefix are for speed: in fp32 every answer equals the library's, asked alone."""

from dataclasses import replace

import pytest
import torch

from tiny import FAMILIES, backend
from tunewright.errors import BadInput
from tunewright.parts.engine import Served
from tunewright_transformers import greedy
from tunewright_transformers.engine import TransformersEngine
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

SYSTEM = {"role": "system", "content": "you are a helpful assistant, answer with one word"}
RAGGED = ["hi", "where is my parcel and when does it arrive", "x", "where is my parcel", "card " * 20, "billing é ü"]
STOPS = frozenset(range(2, 320, 9))
"""A random model rarely says its own terminator: with these, rows of one batch end at different lengths."""


def ask(texts):
    return [[SYSTEM, {"role": "user", "content": text}] for text in texts]


def open_tiny(folder, **options):
    served = Served(folder, backend(TransformersLoader), backend(NoQuantizer), "fp32")
    return backend(TransformersEngine, **options).open(served)


def plainly(subject, prompts, limit):
    """The library alone, one row at a time, from text to tokens."""
    answers = []
    for prompt in prompts:
        ids = subject.tokenizer.native.apply_chat_template(
            prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        eos = sorted(subject.tokenizer.stops)
        made = subject.model.generate(**ids, max_new_tokens=limit, do_sample=False, eos_token_id=eos, pad_token_id=2)
        answers.append(made[0, ids["input_ids"].shape[1] :].tolist())
    return answers


@pytest.mark.parametrize("stops", [None, STOPS], ids=["model's stops", "many stops"])
@pytest.mark.parametrize(("family", "window"), [*((f, None) for f in FAMILIES), ("mistral", 16), ("qwen2", 16)])
def test_ragged_prompts(tiny_folder, family, window, stops):
    with open_tiny(tiny_folder(family, window=window), batch_tokens=300) as subject:
        if stops:
            subject.tokenizer = replace(subject.tokenizer, stops=stops)
        prompts = ask(RAGGED)
        expected = plainly(subject, prompts, 12)
        answers = subject.complete(prompts, 12)
        assert [answer.ids for answer in answers] == expected
        assert [answer.ids for answer in subject.complete(prompts, 12, together=False)] == expected
    assert len({tuple(ids) for ids in expected}) > 3, "a model that always says the same proves nothing"
    if stops:
        assert len({len(ids) for ids in expected}) > 1


@pytest.mark.parametrize(
    "texts", [["hi"], ["hi", "hi", "hi"], []], ids=["only one prompt", "all prompts alike", "no prompt"]
)
def test_degenerate_sets_of_prompts(tiny_folder, texts):
    with open_tiny(tiny_folder()) as subject:
        answers = subject.complete(ask(texts), 6)
        assert [answer.ids for answer in answers] == plainly(subject, ask(texts), 6)


def test_one_prompt_that_another_begins_with(tiny_folder):
    """The shorter row is the shared prefix as a whole: it must keep a token of its own to be answered."""
    with open_tiny(tiny_folder()) as subject:
        long = subject.tokenizer.encode("where is my parcel and when does it arrive at the shop")
        questions = [long[:12], long, long[:-3]]
        alone = greedy.one_by_one(subject.model, questions, 8, {2}, lambda done: None)
        assert greedy.shareable(subject.model, questions, 8) == 11
        assert greedy.in_batches(subject.model, questions, 8, {2}, 4096, lambda done: None) == alone


def test_the_prefix_is_computed_once(tiny_folder, monkeypatch):
    seen = []
    run = greedy._run
    monkeypatch.setattr(greedy, "_run", lambda *given: seen.append(given[1].shape) or run(*given))
    with open_tiny(tiny_folder(), batch_tokens=200) as subject:
        questions = [subject._question(prompt, 0, 4) for prompt in ask(RAGGED)]
        shared = greedy.shareable(subject.model, questions, 4)
        subject.complete(ask(RAGGED), 4)
    assert shared > 20
    assert seen[0] == (1, shared)
    assert all(width < max(map(len, questions)) - shared for _, width in seen[1:])


def test_the_models_own_repetition_penalty_is_kept(tiny_folder):
    with open_tiny(tiny_folder("qwen2")) as subject:
        # rows leave the batch one by one: the penalty must stay with its row
        subject.tokenizer = replace(subject.tokenizer, stops=STOPS)
        before = [answer.ids for answer in subject.complete(ask(RAGGED), 12)]
        subject.model.generation_config.repetition_penalty = 3.0
        expected = plainly(subject, ask(RAGGED), 12)
        assert expected != before
        assert [answer.ids for answer in subject.complete(ask(RAGGED), 12)] == expected


def test_padding_adds_no_token_to_a_row_that_the_penalty_would_see():
    questions = [[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8, 10, 11]]
    ids, mask = greedy._padded(questions, 2, "cpu")
    assert [set(row) for row in ids.tolist()] == [set(question) for question in questions]
    assert [[i for i, m in zip(*row, strict=True) if m] for row in zip(ids, mask, strict=True)] == questions
    assert mask[1].tolist() == [1, 1, 0, 0, 0, 1]


def test_settings_that_only_generate_knows_are_left_to_it(tiny_folder):
    with open_tiny(tiny_folder()) as subject:
        first = {answer.ids[0] for answer in subject.complete(ask(RAGGED), 1)}
        subject.model.generation_config.suppress_tokens = sorted(first)
        answers = subject.complete(ask(RAGGED), 4)
        assert [answer.ids for answer in answers] == plainly(subject, ask(RAGGED), 4)
        assert not first & {answer.ids[0] for answer in answers}


def test_an_answer_says_why_it_stopped(tiny_folder):
    with open_tiny(tiny_folder()) as subject:
        subject.tokenizer = replace(subject.tokenizer, stops=STOPS)
        prompts = ask(RAGGED)
        for prompt, answer in zip(prompts, subject.complete(prompts, 12), strict=True):
            assert answer.prompt_ids == subject.tokenizer.encode(
                subject.tokenizer.render(prompt, generation_prompt=True)
            )
            assert answer.stopped == ("terminator" if answer.ids[-1] in STOPS else "limit")
            assert not STOPS & set(answer.ids[:-1])
            assert (len(answer.ids) == 12) or answer.stopped == "terminator"


def test_text_is_without_special_tokens(tiny_folder):
    with open_tiny(tiny_folder()) as subject:
        said = subject.tokenizer.encode("billing")
        assert subject._completion([1], [*said, 2]).text == "billing"
        assert subject._completion([1], [*said, 2]).stopped == "terminator"


def test_progress_counts_every_answer(tiny_folder):
    with open_tiny(tiny_folder(), batch_tokens=200) as subject:
        for together in (True, False):
            heard = []
            subject.complete(ask(RAGGED), 2, heard.append, together=together)
            assert heard == sorted(heard)
            assert heard[-1] == len(RAGGED)
            assert len(heard) > 1


def test_a_prompt_longer_than_the_context_is_refused_not_answered_badly(tiny_folder):
    with open_tiny(tiny_folder()) as subject, pytest.raises(BadInput, match=r"prompt 2 has .* context of 512"):
        subject.complete(ask(["hi", "word " * 600]), 4)


def test_batches_stay_within_the_budget():
    lengths = [5, 30, 12, 30, 7]
    made = list(greedy.batches(lengths, 10, 80))
    assert made == [[1, 3], [2, 4, 0]]
    assert list(greedy.batches([500], 10, 80)) == [[0]], "a row that is longer than the budget still gets its turn"


def test_weights_are_freed_on_leaving(tiny_folder):
    import weakref

    with open_tiny(tiny_folder()) as subject:
        weights = weakref.ref(subject.model.lm_head.weight)
    assert subject.identity == "base"
    assert weights() is None
    assert torch.is_grad_enabled()
