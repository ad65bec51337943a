"""Batches, padding and a head on some positions are for speed: every score equals that of the model's own forward."""

from itertools import pairwise

import pytest
import torch

from tiny import FAMILIES, backend
from tunewright.data.mask import prompt_ids
from tunewright.errors import BadInput, WorkFailed
from tunewright.parts.engine import Continuation, Served
from tunewright_transformers import score
from tunewright_transformers.engine import TransformersEngine
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

TEXTS = ["where is my parcel and when does it arrive", "hi", "the card was declined " * 9, "billing é ü", "x y"]
EXACT = {"rel": 0, "abs": 1e-5}  # nats


def open_tiny(folder, dtype="fp32", **options):
    served = Served(folder, backend(TransformersLoader), backend(NoQuantizer), dtype)
    return backend(TransformersEngine, **options).open(served)


def ragged(tokenizer):
    """Answers to questions, whole texts, an answer of one token and one of none."""
    rows = []
    for question, answer in pairwise(TEXTS):
        prompt = prompt_ids([{"role": "user", "content": question}], tokenizer)
        rows.append(Continuation(prompt, [*tokenizer.encode(answer), min(tokenizer.stops)]))
        ids = tokenizer.encode(question)
        rows.append(Continuation(ids[:1], ids[1:]))
    return [*rows, Continuation(ids[:5], ids[5:6]), Continuation(ids[:7], []), Continuation(ids[:1], [])]


def plainly(model, row):
    """The library alone: all logits of one row, in fp32, then what the answer's tokens have of them."""
    ids = torch.tensor([[*row.prompt, *row.answer]], device=model.device)
    with torch.no_grad():
        chances = model(input_ids=ids).logits[0].float().log_softmax(-1)
    return [chances[len(row.prompt) - 1 + at, token].item() for at, token in enumerate(row.answer)]


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "a head of its own"])
@pytest.mark.parametrize(("family", "window"), [*((f, None) for f in FAMILIES), ("mistral", 16), ("qwen2", 16)])
def test_ragged_rows(tiny_folder, family, window, tied):
    with open_tiny(tiny_folder(family, window=window, tied=tied), batch_tokens=300) as subject:
        rows = ragged(subject.tokenizer)
        expected = [plainly(subject.model, row) for row in rows]
        together, alone = subject.score(rows), subject.score(rows, together=False)
        assert score.plain_head(subject.model, rows[0]) is not None, "this tries the fast way"
    assert sum(map(len, expected)) > 200
    for want, *both in zip(expected, together, alone, strict=True):
        for got in both:
            assert got == pytest.approx(want, **EXACT)


def alike(tokenizer):
    """Two answers to each question, all under one instruction; an answer of one token and one of none."""
    system = {"role": "system", "content": "you are a helpful assistant, answer with one word"}
    rows = []
    for question, answer in pairwise(TEXTS):
        prompt = prompt_ids([system, {"role": "user", "content": question}], tokenizer)
        rows += [Continuation(prompt, tokenizer.encode(said)) for said in (answer, question)]
    return [*rows, Continuation(prompt, [5]), Continuation(prompt, [])]


def choices(tokenizer):
    """Questions on two documents; of each the same choices, of one token and of several, some of which begin alike."""
    rows = []
    for told in ("the card was declined at the shop " * 3, "where is my parcel and when does it arrive"):
        for question in TEXTS[:3]:
            said = [{"role": "system", "content": told}, {"role": "user", "content": question}]
            prompt = prompt_ids(said, tokenizer)
            answers = ("billing", "delivery_status", "delivery_status and when does it arrive", "delivery_status and")
            rows += [Continuation(prompt, tokenizer.encode(answer)) for answer in answers]
            rows += [Continuation(prompt, [token]) for token in range(20, 40)]
    return rows[::-1]


@pytest.mark.parametrize("make", [alike, choices])
@pytest.mark.parametrize(
    ("family", "window"), [*((f, None) for f in (*FAMILIES, "qwen3")), ("mistral", 512), ("qwen2", 512)]
)
def test_each_beginning_is_read_once_and_the_head_once_a_place(tiny_folder, family, window, make):
    with open_tiny(tiny_folder(family, window=window), batch_tokens=600) as subject:
        rows = make(subject.tokenizer)
        expected = [plainly(subject.model, row) for row in rows]
        subject.score(rows[:2])  # tries the model, once
        read, asked = [], []
        subject.model.base_model.embed_tokens.register_forward_hook(lambda layer, given, made: read.append(made.shape))
        subject.model.lm_head.register_forward_hook(lambda head, given, made: asked.append(made.shape[:-1].numel()))
        found = subject.score(rows)
    for want, got in zip(expected, found, strict=True):
        assert got == pytest.approx(want, **EXACT)
    fed = [[*row.prompt, *row.answer][:-1] for row in rows if row.answer]
    beginnings = {tuple(row[:end]) for row in fed for end in range(1, len(row) + 1)}
    tokens = sum(shape[1] for shape in read[2:])  # after the two that try the head
    assert {shape[0] for shape in read} == {1}, "no padding"
    # up to 7 tokens in common are read again
    assert len(beginnings) <= tokens <= len(beginnings) + 7 * len(rows) // 4
    assert tokens < sum(map(len, fed)) / (2 if make is alike else 10)
    places = {(*row.prompt, *row.answer[:at]) for row in rows for at in range(len(row.answer))}
    assert len(places) <= sum(asked[2:]) < sum(len(row.answer) for row in rows)


def test_a_choice_of_one_token_costs_nothing_of_its_own(tiny_folder):
    with open_tiny(tiny_folder()) as subject:
        prompt = subject.tokenizer.encode("where is my parcel and when does it arrive")
        subject.score([Continuation(prompt, [5])])
        read = []
        subject.model.base_model.embed_tokens.register_forward_hook(lambda layer, given, made: read.append(made.shape))
        found = subject.score([Continuation(prompt, [token]) for token in range(320)])
        assert [tuple(shape[:2]) for shape in read[2:]] == [(1, len(prompt))]
        assert [value for row in found for value in row] == pytest.approx(
            [plainly(subject.model, Continuation(prompt, [token]))[0] for token in range(320)], **EXACT
        )


def test_where_rows_do_not_branch_what_all_prompts_begin_with_is_read_once(tiny_folder):
    with open_tiny(tiny_folder(), batch_tokens=300) as subject:
        subject.model.set_attn_implementation("eager")
        rows = alike(subject.tokenizer)
        expected = [plainly(subject.model, row) for row in rows]
        read = []
        subject.model.base_model.embed_tokens.register_forward_hook(lambda layer, given, made: read.append(made.shape))
        assert subject.score(rows) == [pytest.approx(want, **EXACT) for want in expected]
    (one, shared), *batches = (shape[:2] for shape in read[2:])  # after the two that try the head
    assert (one, sum(count for count, _ in batches)) == (1, len(rows))
    assert shared > 30
    assert all(width < max(len(row.prompt) + len(row.answer) for row in rows) - shared for _, width in batches)


def test_rows_beyond_a_window_share_nothing(tiny_folder):
    with open_tiny(tiny_folder("mistral", window=16), batch_tokens=300) as subject:
        rows = alike(subject.tokenizer)
        expected = [plainly(subject.model, row) for row in rows]
        assert subject.score(rows) == [pytest.approx(want, **EXACT) for want in expected]


def test_the_head_runs_where_an_answer_is_predicted_and_in_bounded_pieces(tiny_folder, monkeypatch):
    monkeypatch.setattr(score, "LOGITS_AT_ONCE", 320 * 7)
    with open_tiny(tiny_folder()) as subject:
        rows = ragged(subject.tokenizer)
        expected = [plainly(subject.model, row) for row in rows]
        subject.score(rows)  # tries the model, once
        seen = []
        subject.model.lm_head.register_forward_hook(lambda head, given, made: seen.append(made.shape[:-1].numel()))
        found = subject.score(rows)
    probe = min(score.PROBE, len(rows[0].prompt) + len(rows[0].answer))
    assert seen[:2] == [probe, probe]
    assert max(seen[2:]) == 7
    assert sum(seen[2:]) <= sum(len(row.answer) for row in rows)
    assert [value for row in found for value in row] == pytest.approx([v for row in expected for v in row], **EXACT)


def test_logits_of_bf16_are_made_fp32_before_the_softmax(tiny_folder):
    """A softmax in bf16 has steps of 1/256 and more: rows that differ would read the same."""
    with open_tiny(tiny_folder(dtype="bfloat16"), "bf16") as subject:
        rows = ragged(subject.tokenizer)
        expected = [plainly(subject.model, row) for row in rows]
        assert subject.score(rows, together=False) == [pytest.approx(want, **EXACT) for want in expected]
        for want, got in zip(expected, subject.score(rows), strict=True):
            assert got == pytest.approx(want, abs=0.1)  # a batch rounds otherwise
    values = [value for row in expected for value in row]
    assert len(set(values)) > len(values) / 2


@pytest.mark.parametrize("change", ["final_logit_softcapping", "scaled"])
def test_a_model_that_changes_its_logits_afterwards_goes_through_its_own_forward(tmp_path, tiny_folder, change):
    from transformers import AutoConfig, AutoModelForCausalLM

    family = {"final_logit_softcapping": "gemma2", "scaled": "granite"}[change]
    sizes = {"vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2, "pad_token_id": 2}
    after = {"final_logit_softcapping": 2.0} if family == "gemma2" else {"logits_scaling": 4.0}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes, **heads, **after)).eval()
    with open_tiny(tiny_folder()) as subject:
        subject.model = model
        rows = ragged(subject.tokenizer)
        assert score.plain_head(model, rows[0]) is None
        expected = [plainly(model, row) for row in rows]
        assert subject.score(rows) == [pytest.approx(want, **EXACT) for want in expected]


def test_an_adapter_is_part_of_what_is_scored(tiny_folder):
    from peft import LoraConfig, get_peft_model

    with open_tiny(tiny_folder(tied=False), batch_tokens=300) as subject:
        rows = ragged(subject.tokenizer)
        before = subject.score(rows)
        adapted = get_peft_model(subject.model, LoraConfig(r=4, target_modules=["q_proj", "lm_head"]))
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight.data, std=0.2)
        subject.model = adapted.eval().get_base_model()
        expected = [plainly(subject.model, row) for row in rows]
        found = subject.score(rows)
    assert found == [pytest.approx(want, **EXACT) for want in expected]
    assert found != before


def test_progress_counts_every_row(tiny_folder):
    with open_tiny(tiny_folder(), batch_tokens=200) as subject:
        rows = ragged(subject.tokenizer)
        for together in (True, False):
            heard = []
            subject.score(rows, heard.append, together=together)
            assert heard == sorted(heard)
            assert heard[-1] == len(rows)
            assert len(heard) > 1
        assert subject.score([]) == []


def test_a_token_before_which_nothing_stands_has_no_score(tiny_folder):
    with open_tiny(tiny_folder()) as subject, pytest.raises(BadInput, match=r"rows.csv:3: nothing stands before"):
        subject.score([Continuation([5], [6]), Continuation([], [6], "rows.csv:3")])


def test_a_row_longer_than_the_context_is_refused_not_scored_badly(tiny_folder):
    with open_tiny(tiny_folder()) as subject:
        assert len(subject.score([Continuation([5], [6] * 511)])[0]) == 511
        with pytest.raises(BadInput, match=r"row 2: 513 tokens are longer than the model's context of 512"):
            subject.score([Continuation([5], [6]), Continuation([5], [6] * 512)])


@pytest.mark.parametrize("together", [True, False])
def test_a_damaged_model_is_named_not_averaged(tiny_folder, together):
    with open_tiny(tiny_folder()) as subject:
        subject.model.model.norm.weight.data.fill_(float("nan"))
        with pytest.raises(WorkFailed, match=r"rows.csv:2: .* no finite numbers"):
            subject.score([Continuation([5], [6], "rows.csv:2")], together=together)


def test_plain_text_is_asked_without_a_template(tiny_folder):
    with open_tiny(tiny_folder()) as subject:
        tokenizer = subject.tokenizer
        answer = subject.complete(["where is my"], 6)[0]
        assert answer.prompt_ids == [*tokenizer.begin, *tokenizer.encode("where is my")]
        ids = torch.tensor([answer.prompt_ids])
        mask = torch.ones_like(ids)
        made = subject.model.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=2)
        assert answer.ids == made[0, ids.shape[1] :].tolist()
        if not tokenizer.begin:
            with pytest.raises(BadInput, match="prompt 1 is empty"):
                subject.complete([""], 6)
