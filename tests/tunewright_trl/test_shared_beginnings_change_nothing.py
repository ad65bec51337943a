"""What rows begin with is computed once, and loss, scores and gradients are TRL's; where they would not be, it is not
done, and said."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from tiny_training import VOCABULARY, adapted, llama, pair_rows, trainer
from transformers import (
    MistralConfig,
    MistralForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)
from trl.trainer.utils import add_fused_lm_head

from tunewright.errors import BadInput
from tunewright.parts.base import Cap, Facts
from tunewright.parts.trainer import PairRow, TokenRow
from tunewright_transformers import tree_attention
from tunewright_transformers.prefix import tree_of
from tunewright_trl import fused as fused_forward
from tunewright_trl.fused import install
from tunewright_trl.order import ByPrefix
from tunewright_trl.sharing import not_by_model

SHAPE = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.2,
}  # fmt: skip
MIXED = {"use_sliding_window": True, "sliding_window": 100, "max_window_layers": 1}


def made(family: str) -> Any:
    torch.manual_seed(0)
    return {
        "llama": llama,
        "mistral": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=None)),
        "mistral, a wide window": lambda: MistralForCausalLM(MistralConfig(**SHAPE, sliding_window=100)),
        "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE)),
        "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=16)),
        "qwen3, layers of two kinds": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=16, **MIXED)),
    }[family]()


FAMILIES = [
    "llama", "mistral", "mistral, a wide window", "qwen2", "qwen3", "qwen3, layers of two kinds",
]  # fmt: skip


def eager() -> Any:
    model = llama()
    model.set_attn_implementation("eager")
    return model


def deep_rows() -> list[list[int]]:
    """Three documents after one instruction, four questions each; a row twice, one that another begins with, one that
    is its instruction alone, two long ones and a short one that share nothing."""
    draw = random.Random(1)

    def tokens(count: int) -> list[int]:
        return [draw.randrange(3, VOCABULARY) for _ in range(count)]

    instruction, documents = tokens(30), [tokens(20) for _ in range(3)]
    rows = [[*instruction, *documents[number % 3], *tokens(1 + number % 9)] for number in range(12)]
    return [*rows, list(rows[0]), rows[8][:52], list(instruction), tokens(90), tokens(80), tokens(3)]


def padded(rows: list[list[int]], supervised: float = 0.4) -> dict[str, torch.Tensor]:
    """The rows padded on the right; the last share of each is supervised, but for one row of which nothing is."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[2] * (width - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    seen = torch.arange(width) < lengths[:, None]
    late = torch.arange(width) >= (lengths * (1 - supervised)).long()[:, None]
    labels = ids.masked_fill(~(seen & late), -100)
    labels[3] = -100
    return {"input_ids": ids, "attention_mask": seen.long(), "labels": labels}


def prepared(model: Any) -> Any:
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    add_fused_lm_head(base, outputs=("log_probs", "entropy", "is_top1"))
    return model.train()


def scored(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[Any, dict[str, torch.Tensor]]:
    """TRL's output, and every gradient by its weight's name; each token's score has a weight of its own."""
    model.zero_grad()
    out = model(**inputs, fused_lm_head=True, use_cache=False)
    weights = torch.linspace(-1, 1, out.log_probs.numel()).view_as(out.log_probs)
    (out.log_probs * weights).sum().backward()
    return out, {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def in_one(slopes: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([slope.flatten().float() for slope in slopes.values()])


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def assert_same(model: Any, inputs: dict[str, torch.Tensor], near: float = 1e-5) -> Any:
    theirs, their_slope = scored(model, inputs)
    fused = install(model, unshared="")
    ours, our_slope = scored(model, inputs)
    fused.uninstall()
    assert fused.left_alone == ""
    assert apart(ours.log_probs, theirs.log_probs) < near
    assert apart(ours.entropy, theirs.entropy) < near
    assert our_slope.keys() == their_slope.keys()
    for name, slope in their_slope.items():
        assert apart(our_slope[name], slope) < 1e-4, name
    assert ours.loss.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
    assert torch.equal(ours.is_top1, theirs.is_top1)
    return fused


@pytest.mark.parametrize("family", FAMILIES)
def test_deep_trees_score_and_learn_as_trl(family: str) -> None:
    fused = assert_same(prepared(adapted(made(family))), padded(deep_rows()))
    assert fused.computed < fused.given / 2


def test_in_bf16_they_are_as_near_to_fp32_as_trls() -> None:
    """Gradients in bf16 differ by its own noise; that of the tree is no larger, over several draws of the weights."""
    inputs, ours, theirs = padded(deep_rows()), 0.0, 0.0
    for seed in range(8):
        model = llama()
        torch.manual_seed(seed)
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
        model = prepared(adapted(model).bfloat16())
        exact = in_one(scored(copy.deepcopy(model).float(), inputs)[1])
        theirs += apart(in_one(scored(model, inputs)[1]), exact)
        fused = install(model, unshared="")
        ours += apart(in_one(scored(model, inputs)[1]), exact)
        fused.uninstall()
    assert ours <= 1.05 * theirs


@pytest.mark.parametrize("wrap", [adapted, lambda model: model], ids=["adapter", "full"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_also_with_checkpointing_and_in_full_tuning(wrap: Any, checkpointing: bool) -> None:
    model = prepared(wrap(llama()))
    if checkpointing:
        model.gradient_checkpointing_enable()
        model.enable_input_require_grads()
    assert_same(model, padded(deep_rows()))


def test_also_with_attention_in_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long segments, and more of them than fit into memory at once."""
    monkeypatch.setattr(tree_attention, "WIDE", 8)
    monkeypatch.setattr(tree_attention, "STEP", 5)
    monkeypatch.setattr(tree_attention, "SCORES_AT_ONCE", 1000)
    assert_same(prepared(adapted()), padded(deep_rows()))


def test_rows_without_a_common_beginning_are_computed_without_padding() -> None:
    draw = torch.Generator().manual_seed(0)
    rows = [torch.randint(3, VOCABULARY, (length,), generator=draw).tolist() for length in (60, 59, 31, 9, 2)]
    fused = assert_same(prepared(adapted()), padded(rows))
    # nothing is asked of a row's last token, nor of the fourth row, of which nothing is supervised
    assert (fused.computed, fused.given) == (59 + 58 + 30 + 1, 60 + 59 + 31 + 9 + 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pair_shares_its_prompt(family: str) -> None:
    """As DPO's batch has it: the chosen completions first, then the rejected ones."""
    pairs = [PairRow(str(n), "", row[:50], row[50:] or [5], [7, 8, 9]) for n, row in enumerate(deep_rows()[:6])]
    rows = [[*p.prompt, *p.chosen] for p in pairs] + [[*p.prompt, *p.rejected] for p in pairs]
    fused = assert_same(prepared(adapted(made(family))), padded(rows, 0.1))
    assert fused.computed < fused.given / 4


def leaking(parts: Any) -> Any:
    """Parts of which each token sees what comes after it, too."""
    return lambda *args: (part._replace(hidden=torch.zeros_like(part.hidden)) for part in parts(*args))


def test_a_leaking_mask_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial before a training: a model that answers otherwise over a tree is not given one."""
    model = adapted()
    assert not_by_model(model, 90) == ""
    monkeypatch.setattr(tree_attention, "_parts", leaking(tree_attention._parts))
    assert "answers otherwise over a tree" in not_by_model(model, 90)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("wrong", ["a leak", "positions", "labels", "a row twice"])
def test_a_fault_of_the_tree_would_be_seen(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    """Each makes scores or gradients others than TRL's: what these tests hold is not held by chance."""
    score, grown = fused_forward._score, fused_forward.tree_of

    def twice(where: torch.Tensor) -> torch.Tensor:
        return torch.cat([where[:1], where[:1], where[2:]])

    def spoilt(*args: Any) -> Any:
        tree = grown(*args)
        if wrong == "positions":
            return replace(tree, positions=tree.positions + (tree.positions > 40).long())
        return replace(tree, where=twice(tree.where)) if wrong == "a row twice" else tree

    if wrong == "a leak":
        monkeypatch.setattr(tree_attention, "_parts", leaking(tree_attention._parts))
    elif wrong == "labels":
        monkeypatch.setattr(fused_forward, "_score", lambda h, head, targets, s: score(h, head, targets.roll(1), s))
    monkeypatch.setattr(fused_forward, "tree_of", spoilt)
    with pytest.raises(AssertionError):
        assert_same(prepared(adapted()), padded(deep_rows()))


@pytest.mark.parametrize(
    ("model", "longest", "why"),
    [
        (lambda: adapted(dropout=0.1), 90, "dropout of 0.1"),
        (lambda: adapted(llama(attention_dropout=0.1)).eval(), 90, "drops scores"),
        (lambda: adapted(made("mistral, a wide window")), 101, "exceed the model's window of 100"),
        (lambda: adapted(eager()), 90, "`eager`"),
        (lambda: adapted(rotating("longrope")), 65, "rotary positions depend on the longest row"),
        (lambda: adapted(rotating("dynamic")), 65, "rotary positions depend on the longest row"),
    ],
    ids=["dropout", "attention dropout", "window", "eager", "longrope", "dynamic"],
)
def test_a_model_says_why_it_cannot(model: Any, longest: int, why: str) -> None:
    assert why in not_by_model(model(), longest)


def rotating(kind: str) -> Any:
    """Its rotary positions change beyond 64 tokens."""
    if kind == "dynamic":
        return llama(rope_parameters={"rope_type": kind, "factor": 4.0, "rope_theta": 1e4}, max_position_embeddings=64)
    factors = {"short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "original_max_position_embeddings": 64}
    return llama(rope_parameters={"rope_type": kind, "rope_theta": 1e4, "factor": 2.0, **factors})


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_up_to_the_length_where_rotation_changes_rows_share(kind: str) -> None:
    model = adapted(rotating(kind))
    assert not_by_model(model, 64) == ""
    assert "rotary" in not_by_model(model, 63, multiple=10), "what is padded is rotated as well"


def test_rows_that_are_rotated_by_the_longest_learn_as_trl(train: Any) -> None:
    """A row that is supervised early only, beside short ones: a tree would be shorter than the batch is."""
    rows = shared_rows()
    long = TokenRow("long", "rows.csv:99", [5] * 90, [-100] * 20 + [5] * 3 + [-100] * 67)
    some = {"rows": [*rows, long], "epochs": 1, "batch_size": 13}
    ours, off = (
        train("sft", model=adapted(rotating("longrope")), prefix_sharing=wanted, **some) for wanted in ("auto", "off")
    )
    assert [step["loss"] for step in ours.steps] == [step["loss"] for step in off.steps]
    (told,) = (event for event in ours.events if event["event"] == "prefixes")
    assert told["unshared"] == "its rotary positions depend on the longest row"


def test_a_model_that_drops_attention_scores_trains_and_says_why_it_does_not_share(train: Any) -> None:
    """As a loader gives it: in eval mode."""
    done = train("sft", model=adapted(llama(attention_dropout=0.1)).eval(), rows=shared_rows())
    (told,) = (event for event in done.events if event["event"] == "prefixes")
    assert told["unshared"] == "the model's attention drops scores in training"
    assert told["computed"] >= told["of"] == done.outcome.tokens, "each row is computed whole"


def test_the_trial_leaves_each_module_in_its_mode() -> None:
    model = adapted().eval()
    model.get_base_model().model.layers[0].train()
    before = [module.training for module in model.modules()]
    assert not_by_model(model, 90) == ""
    assert [module.training for module in model.modules()] == before


def shared_rows(count: int = 12) -> list[TokenRow]:
    rows = deep_rows()[:count]
    return [TokenRow(f"row-{n}", f"rows.csv:{n}", row, [-100] * 50 + row[50:]) for n, row in enumerate(rows)]


def test_a_training_says_what_it_saved(train: Any) -> None:
    done = train("sft", rows=shared_rows(), batch_size=4)
    (told,) = (event for event in done.events if event["event"] == "prefixes")
    assert told["unshared"] == ""
    assert told["of"] == done.outcome.tokens
    assert told["computed"] < told["of"] * 0.6


@pytest.mark.parametrize(("kind", "rows"), [("sft", shared_rows()), ("dpo", pair_rows(8))], ids=["sft", "dpo"])
def test_it_ends_where_it_ends_without(train: Any, kind: str, rows: Any) -> None:
    some = {"rows": rows, "epochs": 2, "learning_rate": 1e-2, "accumulation": 2, "batch_size": 2}
    one, other = (train(kind, prefix_sharing=wanted, **some) for wanted in ("require", "off"))
    assert one.outcome.row_order == other.outcome.row_order
    for name, weight in other.weights.items():
        assert apart(one.weights[name], weight) < 1e-4, name


def test_one_that_has_to_and_cannot_is_refused(train: Any) -> None:
    with pytest.raises(BadInput, match=r"cannot share what they begin with: dropout of 0\.1") as found:
        train("sft", model=adapted(dropout=0.1), prefix_sharing="require")
    assert "auto" in str(found.value.fix)


def experts() -> Any:
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=97, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=2, num_experts_per_tok=1, output_router_logits=True,
    )  # fmt: skip
    return MixtralForCausalLM(config)


def test_one_that_has_to_is_refused_for_what_only_the_forward_knows(train: Any) -> None:
    """Else it would go on without a word, each row computed whole."""
    model = experts()
    before = model.forward
    with pytest.raises(BadInput, match="cannot share what they begin with: a mixture of experts has a loss of its own"):
        train("sft", model=model, prefix_sharing="require")
    assert model.forward == before


def test_what_is_left_to_trl_says_so_of_beginnings_too(train: Any) -> None:
    done = train("sft", rows=shared_rows(), args={"label_smoothing_factor": 0.1})
    told = {event["event"]: event for event in done.events}
    assert "every logit" in told["prefixes"]["unshared"]
    assert "every logit" in told["lm_head"]["left_alone"]
    assert told["lm_head"]["scored"] == told["prefixes"]["computed"] == 0


@pytest.mark.parametrize(
    ("options", "offers", "why"),
    [
        ({"neftune_alpha": 5.0}, {Cap.ADAPTS, Cap.BY_TOKEN}, "NEFTune"),
        ({"args": {"label_smoothing_factor": 0.1}}, {Cap.ADAPTS, Cap.BY_TOKEN}, "every logit"),
        ({}, {Cap.ADAPTS}, "by chance"),
    ],
)
def test_the_plan_says_why_not(options: dict[str, Any], offers: set[Cap], why: str) -> None:
    facts = Facts(offers={"adapter": frozenset(offers)})
    decided = trainer("sft", options).decide(facts)["prefix_sharing"]
    assert (decided.value, decided.set_by) == ("off", "tunewright")
    assert why in decided.why
    (found,) = trainer("sft", {**options, "prefix_sharing": "require"}).check(facts)
    assert (found.code, found.field) == ("cannot-share", "prefix_sharing")


@pytest.mark.parametrize(
    ("options", "offers", "says"),
    [
        ({}, {Cap.BY_TOKEN}, "`order: by_prefix`"),
        ({"order": "by_prefix"}, {Cap.BY_TOKEN}, ""),
        ({"prefix_sharing": "off"}, {Cap.BY_TOKEN}, None),
        ({}, {Cap.ADAPTS}, None),
    ],
)
def test_a_trainer_says_what_brings_such_rows_together(options: Any, offers: set[Cap], says: str | None) -> None:
    assert trainer("sft", options).shares(Facts(offers={"adapter": frozenset(offers)})) == says


def test_an_order_for_what_is_not_shared_is_no_use() -> None:
    facts = Facts(offers={"adapter": frozenset({Cap.ADAPTS, Cap.BY_TOKEN})})
    assert not list(trainer("sft", {"order": "by_prefix"}).check(facts))
    (found,) = trainer("sft", {"order": "by_prefix", "prefix_sharing": "off"}).check(facts)
    assert (found.code, found.field) == ("argument-unused", "order")


def test_long_rows_need_no_memory_that_grows_with_their_square() -> None:
    """Elements of what a layout keeps for masks, and of the largest matrix of scores."""
    rows = torch.arange(2 * 4096).view(2, 4096)
    layout = tree_attention.Layout(tree_of(rows, torch.tensor([4096, 4096])), 32, "cpu")
    assert max(part.hidden.numel() for part in layout.parts) <= tree_attention.STEP**2
    assert len({part.hidden.untyped_storage().data_ptr() for part in layout.parts}) == 1
    for part in layout.parts:
        assert 32 * part.rows * part.hidden.shape[0] * 4096 <= tree_attention.SCORES_AT_ONCE


def test_what_the_plan_decided_is_done(train: Any) -> None:
    done = train("sft", rows=shared_rows(), neftune_alpha=5.0)
    (told,) = (event for event in done.events if event["event"] == "prefixes")
    assert "NEFTune" in told["unshared"]


def test_by_prefix_keeps_documents_together_and_every_row() -> None:
    rows = deep_rows()[:12]
    order = ByPrefix(rows, 4, seed=0)
    epochs = []
    for epoch in range(2):
        order.set_epoch(epoch)
        epochs.append(list(order))
        assert sorted(epochs[-1]) == list(range(12))
        documents = [[row % 3 for row in epochs[-1][start : start + 4]] for start in range(0, 12, 4)]
        assert all(len(set(batch)) == 1 for batch in documents)
    assert epochs[0] != epochs[1]
    order.set_epoch(0)
    assert list(order) == epochs[0]


def test_by_prefix_computes_less(train: Any) -> None:
    some = {"rows": shared_rows(), "batch_size": 4, "epochs": 1}
    computed = {
        order: next(e["computed"] for e in train("sft", order=order, **some).events if e["event"] == "prefixes")
        for order in ("shuffle", "by_prefix")
    }
    assert computed["by_prefix"] < computed["shuffle"]
