"""Batches, padding and shared beginnings are for speed: in fp32 every answer equals the library's, asked alone."""

from dataclasses import replace

import pytest
import torch

from tiny import FAMILIES, backend
from tunewright.errors import BadInput
from tunewright.parts.engine import Served
from tunewright_transformers import branches, greedy, passes
from tunewright_transformers.beginnings import Tree
from tunewright_transformers.engine import TransformersEngine
from tunewright_transformers.grown import Grown
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.row_batch import Batch
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


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_one_prompt_that_another_begins_with(tiny_folder, attention):
    """The shorter row is shared as a whole: it must keep a token of its own to be answered."""
    with open_tiny(tiny_folder()) as subject:
        subject.model.set_attn_implementation(attention)
        long = subject.tokenizer.encode("where is my parcel and when does it arrive at the shop")
        questions = [long[:12], long, long[:-3]]
        alone = greedy.one_by_one(subject.model, questions, [8] * len(questions), {2}, lambda done: None)
        assert [segment.end for segment in Tree([each[:-1] for each in questions]).segments] == [11, 22]
        assert greedy.in_batches(subject.model, questions, [8] * len(questions), {2}, 4096, lambda done: None) == alone


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_each_prompt_has_its_own_limit(tiny_folder, attention):
    """A row that has its limit leaves the batch, and the others go on as if it had never been there."""
    with open_tiny(tiny_folder()) as subject:
        subject.model.set_attn_implementation(attention)
        prompts = ask(["where is my parcel", "hi", "the card was declined", "where is my order", "why"])
        most = [3, 9, 1, 6, 9]
        answers = subject.complete(prompts, most)
        alone = [plainly(subject, [prompt], limit)[0] for prompt, limit in zip(prompts, most, strict=True)]
        assert [answer.ids for answer in answers] == alone
        assert [len(answer.ids) for answer in answers] == most, "they end by themselves: this proves nothing"
        with pytest.raises(ValueError, match="2 limits for 5 prompts"):
            subject.complete(prompts, [1, 2])


def test_waiting_rows_take_the_places_of_those_that_have_ended(tiny_folder, monkeypatch):
    """Long and short answers take turns: no batch waits for its last row, and nobody's answer changes."""
    joined = []
    join = Batch.join

    def noted(batch, pieces, room):
        joined.append((len(batch.paths), len(pieces)))
        join(batch, pieces, room)

    with open_tiny(tiny_folder(), batch_tokens=500) as subject:
        subject.complete(deep(), 1)  # tries the model, once
        most = [1 + 5 * place % 12 for place in range(len(deep()))]
        alone = [plainly(subject, [prompt], limit)[0] for prompt, limit in zip(deep(), most, strict=True)]
        monkeypatch.setattr(Batch, "join", noted)
        assert [answer.ids for answer in subject.complete(deep(), most)] == alone
    assert len({tuple(ids) for ids in alone}) > 8
    assert sum(new for _, new in joined) == len(deep())
    assert any(going for going, _ in joined), joined
    assert all(new >= going for going, new in joined[:-1]), f"copied again for a few: {joined}"


def deep():
    """Two instructions, under each two documents, of each some questions, one of them twice; and a stray."""
    long = {"returns": "the card was declined at the shop " * 3, "billing": "where is my parcel and when " * 2}
    found = [
        [
            {"role": "system", "content": told},
            {"role": "user", "content": f"{kind}: {long[kind]}"},
            {"role": "user", "content": text},
        ]
        for told in (SYSTEM["content"], "say which queue it is, billing or delivery_status " * 2)
        for kind in long
        for text in ("does it arrive", "does it arrive at the shop and when", "why", "why", "billing é ü " * 4)
    ]
    return [*found, [{"role": "user", "content": "x y"}]][::-1]


def fed(subject):
    """Shapes of what the backbone is given from now on."""
    seen = []
    embed = subject.model.base_model.embed_tokens
    embed.register_forward_pre_hook(lambda layer, given: seen.append(tuple(given[0].shape)))
    return seen


CASES = [*((family, None) for family in (*FAMILIES, "qwen3")), ("mistral", 512), ("qwen2", 512)]


@pytest.mark.parametrize(
    ("family", "window", "budget"),
    [*((*case, 8192) for case in CASES), ("llama", None, 60), ("llama", None, 700), ("qwen3", None, 700)],
)
def test_prompts_that_share_in_groups(tiny_folder, family, window, budget):
    with open_tiny(tiny_folder(family, window=window), batch_tokens=budget) as subject:
        subject.tokenizer = replace(subject.tokenizer, stops=STOPS)
        expected = plainly(subject, deep(), 10)
        tree = Tree([subject._question(prompt, 0, 10)[:-1] for prompt in deep()])
        subject.complete(deep(), 1)  # tries the model, once
        seen = fed(subject)
        assert [answer.ids for answer in subject.complete(deep(), 10)] == expected
    assert max(len(tree.path(row)) for row in tree.order) > 2
    assert len({tuple(ids) for ids in expected}) > 8
    assert len({len(ids) for ids in expected}) > 3
    together = sum(end - begin for begin, end, _, _ in tree.segments)
    own = sum(len(tree.rows[row]) - tree.depth(row) for row in tree.order)
    steps = sum(map(len, expected))
    assert sum(rows * width for rows, width in seen) == together + own + steps, "each token once, and no padding"
    assert (len(seen) < 30) == (budget == 8192)


@pytest.mark.parametrize("sizes", [(1, 1), (40, 25), (2048, 256)])
def test_however_passes_and_blocks_are_cut(tiny_folder, monkeypatch, sizes):
    with open_tiny(tiny_folder()) as subject:
        expected = plainly(subject, deep(), 6)
        for name, tokens in zip(("AT_ONCE", "ONE_MASK"), sizes, strict=True):
            monkeypatch.setattr(passes, name, tokens)
        assert [answer.ids for answer in subject.complete(deep(), 6)] == expected


def test_segments_are_let_go_of_when_the_last_row_below_is_done(tiny_folder):
    with open_tiny(tiny_folder()) as subject:
        questions = [subject._question(prompt, 0, 4)[:-1] for prompt in deep()]
        grown = Grown(subject.model, Tree(questions))
        held, computed = [], []
        with torch.no_grad():
            for rows in grown.tree.batches(1, 60):
                computed += [place for places, _ in grown.grow(rows) for place in places]
                held.append(len(grown.kept))
    assert sorted(computed) == list(range(len(grown.tree.segments)))
    assert max(held) < len(computed) / 2


KEEPS = "keeps its attention to itself"


@pytest.mark.parametrize("model", ["another attention", KEEPS, "takes no argument more"])
def test_a_model_that_does_not_share_is_asked_in_padded_batches(tiny_folder, model, monkeypatch):
    with open_tiny(tiny_folder(), batch_tokens=2000) as subject:
        expected = plainly(subject, deep(), 8)
        if model == "another attention":
            subject.model.set_attn_implementation("eager")
        else:
            forward = subject.model.base_model.forward

            def own(input_ids, attention_mask=None, position_ids=None, use_cache=None, cache=None, **others):
                if others.pop("branches", None) and model != KEEPS:
                    raise TypeError("got an unexpected keyword argument 'branches'")
                return forward(input_ids, attention_mask, position_ids, use_cache=use_cache, cache=cache)

            monkeypatch.setattr(subject.model.base_model, "forward", own)
        assert not branches.sharing(subject.model, 100, list(range(5, 30)))
        assert [answer.ids for answer in subject.complete(deep(), 8)] == expected


def gemma2():
    """Its attention caps scores: so low that one which does not would answer otherwise."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    sizes = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2, "pad_token_id": 2}
    torch.manual_seed(0)
    attention = {"attn_logit_softcapping": 1.0, "sliding_window": 512, "tie_word_embeddings": False}
    return Gemma2ForCausalLM(Gemma2Config(**sizes, **heads, **attention)).eval()


@pytest.mark.parametrize("capped", [False, True], ids=["eager", "gemma2"])
def test_where_rows_do_not_branch_what_all_begin_with_is_computed_once(tiny_folder, capped):
    with open_tiny(tiny_folder(), batch_tokens=200) as subject:
        subject.tokenizer = replace(subject.tokenizer, stops=STOPS)
        if capped:
            subject.model = gemma2()
        else:
            subject.model.set_attn_implementation("eager")
        expected = plainly(subject, ask(RAGGED), 12)
        questions = [subject._question(prompt, 0, 12) for prompt in ask(RAGGED)]
        shared = Tree(questions).segments[0].end
        seen = fed(subject)
        assert [answer.ids for answer in subject.complete(ask(RAGGED), 12)] == expected
    assert len({tuple(ids) for ids in expected}) > 3
    assert shared > 20
    assert seen[0] == (1, shared)
    assert all(width < max(map(len, questions)) - shared for _, width in seen[1:])


def test_a_batch_has_room_for_its_segments_and_each_rows_longest():
    stem, deeper = list(range(100, 120)), list(range(200, 230))
    rows = [[*stem, 1], [*stem, 2, 3], [*stem, *deeper, 4], [*stem, *deeper, 5, 6, 7], [9] * 40]
    tree = Tree(rows)
    assert tree.order == [4, 0, 1, 2, 3]
    assert list(tree.batches(10, 10_000)) == [[4, 0, 1, 2, 3]]
    assert list(tree.batches(10, 20 + 2 * 12)) == [[4], [0, 1], [2], [3]]
    assert list(tree.batches(10, 50 + 2 * 13)) == [[4], [0, 1], [2, 3]]
    assert list(tree.batches(10, 5)) == [[4], [0], [1], [2], [3]], "a row longer than the budget still gets its turn"


def test_room_is_kept_for_what_the_rows_of_a_batch_may_still_say():
    """One long answer makes no batch smaller that it is not in."""
    tree = Tree([[n] * 10 for n in range(6)])
    further = [100, 2, 2, 2, 2, 2]
    assert tree.order == list(range(6))
    assert tree.fitting(0, further, 200) == 1
    assert tree.fitting(1, further, 48) == 4
    assert tree.fitting(1, further, 3 * 110 - 1, {0: 0}) == 1
    assert tree.fitting(1, further, 3 * 110, {0: 90}) == 2, "100 of its own by now, and 10 to come"
    assert tree.fitting(1, further, 3 * 110 - 1, {0: 90}) == 1


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_what_one_row_needs_is_not_done_to_others(tiny_folder, attention):
    """A row that a window cuts is asked apart, and the others still share what they begin with."""
    with open_tiny(tiny_folder("mistral", window=80), batch_tokens=4096) as subject:
        subject.tokenizer = replace(subject.tokenizer, stops=STOPS)
        subject.model.set_attn_implementation(attention)
        prompts = [*ask(RAGGED[:4]), *ask(["where is my parcel " * 8])]
        most = [8, 3, 8, 3, 5]
        questions = [subject._question(prompt, 0, 8) for prompt in prompts]
        assert max(map(len, questions[:4])) + 8 < 80 < len(questions[4])
        shared = Tree([question[:-1] for question in questions[:4]]).segments[0].end
        expected = [plainly(subject, [prompt], limit)[0] for prompt, limit in zip(prompts, most, strict=True)]
        subject.complete(prompts[:2], 1)  # tries the model, once
        seen, done = fed(subject), []
        assert [answer.ids for answer in subject.complete(prompts, most, done.append)] == expected
    assert seen[0] == (1, shared) if attention == "sdpa" else seen[0][0] == 1
    assert done == sorted(set(done))
    assert done[-1] == 5


def test_the_models_own_repetition_penalty_is_kept(tiny_folder):
    with open_tiny(tiny_folder("qwen2")) as subject:
        # rows leave the batch one by one: the penalty must stay with its row
        subject.tokenizer = replace(subject.tokenizer, stops=STOPS)
        before = [answer.ids for answer in subject.complete(ask(RAGGED), 12)]
        subject.model.generation_config.repetition_penalty = 3.0
        expected = plainly(subject, ask(RAGGED), 12)
        assert expected != before
        assert [answer.ids for answer in subject.complete(ask(RAGGED), 12)] == expected


@pytest.mark.parametrize("shared", [0, 2])
def test_padding_adds_no_token_to_a_row_that_the_penalty_would_see(shared):
    questions = [[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8, 10, 11]]
    ids, mask = greedy.padded(questions, "cpu", shared)
    assert [set(row) for row in ids.tolist()] == [set(question) for question in questions]
    assert [[i for i, m in zip(*row, strict=True) if m] for row in zip(ids, mask, strict=True)] == questions
    assert mask[1].tolist() == ([1, 1, 0, 0, 0, 1] if shared else [0, 0, 0, 1, 1, 1])


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
