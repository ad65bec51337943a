"""What a benchmark claims is worked out right: the limit, ratios, whether two sides did the same, the page's table."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from bench.training import data, limit, profile, table, work
from bench.training.figures import FIGURES
from tunewright.parts.trainer import TokenRow

MACHINE = {
    "device": "cpu", "flags": ["avx2"], "cores": 2, "threads": 2, "gemm": 1024, "flops": {"fp32": 1e11},
    "versions": {"trl": "1.16.0"},
}  # fmt: skip


def record(**changes):
    """Tunewright at 8 and 12 rows/s in 1 and 2 GB, TRL at 2 rows/s in 4 GB."""
    ours = [{"rows": 8, "seconds": 1.0, "peak_bytes": 1e9}, {"rows": 24, "seconds": 2.0, "peak_bytes": 2e9}]
    theirs = [{"rows": 8, "seconds": 4.0, "peak_bytes": 4e9}] * 2
    return {
        "figure": "sft-8", "about": "SFT, batch 8", "dtype": "fp32", "machine": MACHINE, "spec": "banking77",
        "count": 8, "quick": False, "rounds": {"tunewright": ours, "trl": theirs}, "unlike": {"trl": []},
        "flops": 1e10, "tokens_per_row": 100.0, **changes,
    }  # fmt: skip


# --- the limit


def nodes(batch):
    """Every beginning of any sequence, once."""
    return {tuple(ids[: end + 1]) for ids in batch for end in range(len(ids))}


def test_what_rows_share_is_needed_once_however_deep_and_in_whatever_order():
    draw = random.Random(0)
    for _ in range(50):
        batch = [[draw.randrange(3) for _ in range(draw.randint(1, 9))] for _ in range(draw.randint(1, 8))]
        need = limit.tokens(batch)
        assert need.computed == len(nodes(batch))
        assert need.attended == sum(len(beginning) for beginning in nodes(batch))


def test_the_flops_are_those_that_torch_counts():
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attn_implementation="eager",
    )  # fmt: skip
    adapted = get_peft_model(LlamaForCausalLM(config), LoraConfig(r=4, target_modules="all-linear"))
    adapted.enable_input_require_grads()  # the lowest layer's gradient towards its input is in the limit
    ids = torch.arange(9)[None]
    need = limit.Tokens(computed=9, attended=9 * 9, scored=9)  # the library attends to what is masked as well
    shape = limit.Shape.of(config.to_dict())
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        adapted(input_ids=ids)
    assert forward.get_total_flops() == pytest.approx(limit.asking(shape, need, rank=4), rel=1e-3)
    with FlopCounterMode(display=False) as both:
        adapted(input_ids=ids).logits.sum().backward()
    assert both.get_total_flops() == pytest.approx(limit.training(shape, need, rank=4), rel=1e-3)


def test_a_share_is_of_the_speed_of_the_machine():
    rounds = [{"seconds": 2.0}, {"seconds": 4.0}, {"seconds": 5.0}]
    assert table.share(rounds, flops=1e11, speed=1e11) == 0.25


# --- the same work

DONE = {
    "rows": 8, "tokens": 900, "supervised": 50, "referenced": 0, "check": {"loss": 2.0, "norm": 10.0},
    "answers": [[1, 2], [3]],
}  # fmt: skip


def test_sides_that_agree_within_rounding_did_the_same():
    assert work.unlike(DONE, {**DONE, "check": {"loss": 2.0001, "norm": 10.0005}}, "fp32") == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tokens": 899}, "tokens: 900 and 899"),
        ({"supervised": 58}, "supervised: 50 and 58"),
        ({"referenced": 16}, "referenced: 0 and 16"),
        ({"check": {"loss": 2.001, "norm": 10.0}}, "loss of the first step"),
        ({"check": {"loss": 2.0, "norm": 10.01}}, "norm of the first step"),
        ({"check": {"loss": float("nan"), "norm": 10.0}}, "loss of the first step"),
        ({"answers": [[1, 2], [4]]}, "1 of 2 answers"),
    ],
)
def test_what_differs_is_said(change, said):
    (found,) = work.unlike(DONE, {**DONE, **change}, "fp32")
    assert said in found


def test_a_side_that_never_arrives_is_not_compared_in_silence():
    assert work.unlike({"reached": True}, {"reached": False}, "fp32") == ["one side never got there"]


# --- the table


def test_a_row_names_both_sides_their_medians_spread_and_ratio():
    speed, memory = table.rows("sft-8", record())
    assert speed == (
        "| SFT, batch 8 | 10 rows/s (8–12), 1,000 tokens/s | TRL, defaults | 2 rows/s (2–2), 200 tokens/s "
        "| **5×** (4×–6×) | 8× | 15× | yes |"
    )
    assert memory == (
        "| SFT, batch 8, peak memory | 1.50 GB | TRL, defaults | 4.00 GB | **0.33×** (0.25×–0.50×) |  |  | yes |"
    )


def test_less_is_better_of_seconds_and_the_row_says_how_many_times():
    rounds = {
        "tunewright": [{"seconds": 10.0, "steps": [1.0] * 40}],
        "trl": [{"seconds": 200.0, "steps": [1.0] * 48}],
    }
    (row,) = table.rows("time-80", record(figure="time-80", about="time", rounds=rounds))
    assert row == "| time | 10 s, 40 steps | TRL, defaults | 200 s, 48 steps | **20×** | 8× | 20× | yes |"


def test_work_that_differed_stands_in_the_row():
    speed, _ = table.rows("sft-8", record(unlike={"trl": ["tokens: 1 and 2"]}))
    assert speed.endswith("| no: tokens: 1 and 2 |")


def test_the_page_is_written_anew_between_its_marks_alone():
    before = f"# Ours\n{table.BEGIN}\nold\n{table.END}\nafter\n"
    once = table.page(
        before, {"sft-8": record(), "validate": {"imports": 0.5, "validate": 0.6, "runs": 20, "cores": 2}}
    )
    assert once.startswith("# Ours\n")
    assert once.endswith("after\n")
    assert "old" not in once
    assert "| `validate`, one spec | 600 ms | the imports of such a command | 500 ms | **1.20×** | at most 1.8×" in once
    assert "a product of 1024³ in fp32 0.10 TFLOP/s" in once
    assert "| SFT, batch 8 | 0.01 TFLOP | 0.10 s | Tunewright 7.5 % · TRL, defaults 2.5 % |" in once
    assert "trl 1.16.0" in once
    assert table.page(once, {"sft-8": record()}) == table.page(before, {"sft-8": record()})


def test_a_try_of_one_step_claims_nothing():
    assert "not enough to claim anything" in table.page(f"{table.BEGIN}{table.END}", {"sft-8": record(quick=True)})


def test_a_page_without_marks_is_left_alone():
    with pytest.raises(ValueError, match="the page has no"):
        table.page("# Ours\n", {})


def test_the_page_of_the_project_has_the_marks():
    page = (data.ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    assert table.page(page, {"sft-8": record()}) != page


# --- the profile


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("aten::mm", "matrix products"),
        ("aten::addmm", "matrix products"),
        ("aten::bmm", "attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::mul", "elementwise, copies"),
        ("aten::_fused_adamw_", "optimizer, clipping"),
        ("FrozenHeadLogProbBackward", "Python"),
    ],
)
def test_operations_are_told_apart(name, group):
    assert profile.group(name) == group


def test_what_no_operation_took_is_pythons():
    found = profile.grouped([("aten::mm", 2.0), ("aten::bmm", 1.0), ("LoraBackward", 0.5)], wall=5.0)
    assert found["Python"] == 2.0
    assert sum(found.values()) == 5.0


def test_a_profile_fits_80_columns():
    groups = dict.fromkeys(profile.GROUPS, 1.0)
    lines = profile.lines({"wall": 5.0, "groups": groups, "longest": [("aten::" + "x" * 90, 1.0, 123456)]})
    assert max(map(len, lines)) <= 80


# --- the rows


def row(number, answer, prompt=(5, 6)):
    return TokenRow(f"r{number}", f"rows.csv:{number}", [*prompt, *answer], [-100] * len(prompt) + answer)


def test_a_pair_prefers_a_rows_own_answer_to_the_next_other_one(tmp_path):
    rows = [row(0, [7, 2]), row(1, [7, 2]), row(2, [8, 9, 2])]
    made = data.pairs(rows)
    assert [(one.prompt, one.chosen, one.rejected) for one in made] == [
        ([5, 6], [7, 2], [8, 9, 2]), ([5, 6], [7, 2], [8, 9, 2]), ([5, 6], [8, 9, 2], [7, 2])
    ]  # fmt: skip
    data.write(made, tmp_path / "pairs.jsonl")
    assert data.read(tmp_path / "pairs.jsonl") == made


def test_the_quickstart_stands_in_for_messages_and_nothing_for_documents(tmp_path):
    assert data.spec_of("banking77-10", tmp_path)[0] == data.QUICKSTART
    with pytest.raises(FileNotFoundError, match="--data"):
        data.spec_of("tatqa", tmp_path)


def test_every_figure_has_rows_and_aims_at_a_side_that_it_measures():
    for name, figure in FIGURES.items():
        assert figure.job in data.JOBS, name
        assert {side for _, side, *_ in figure.aims} <= set(figure.others), name


# --- the sides


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_every_side_of_a_training_does_the_same_work_and_is_timed_by_one_clock(tmp_path, kind):
    from bench.training.side import train
    from tiny import tiny_model

    answers = [[7, 2], [8, 9, 2], [10, 2], [11, 12, 2], [7, 2]]
    rows = [row(number, answer, prompt=[5, 6, 20 + number]) for number, answer in enumerate(answers)]
    data.write(data.pairs(rows) if kind == "dpo" else rows, tmp_path / "rows.jsonl")
    job = {
        "base": str(tiny_model(tmp_path / "base")), "file": str(tmp_path / "rows.jsonl"), "quantizer": "none",
        "dtype": "fp32", "settings": {"kind": kind, "batch": 2},
    }  # fmt: skip
    sides = ("tunewright", "trl", "trl-tuned", *(["peft"] if kind == "sft" else []))
    ours, *others = (train({**job, "side": side}, tmp_path / side) for side in sides)
    assert len(ours["steps"]) == 3
    assert (ours["reference_seconds"] > 0) == (kind == "dpo")
    assert ours["referenced"] == (2 * len(rows) if kind == "dpo" else 0)
    assert ours["seconds"] == pytest.approx(sum(ours["steps"]) + ours["reference_seconds"])
    for other in others:
        assert work.unlike(ours, other, "fp32") == []
        assert len(other["steps"]) == 3


def test_seconds_of_a_look_are_not_counted(monkeypatch):
    from bench.training import clock

    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(clock, "_now", lambda: now.seconds)

    def look(model, step):
        now.seconds += 100.0
        return step == 2

    timed = clock.Clock(look)
    timed.begin()
    for step in (1, 2):
        now.seconds += 3.0
        assert timed.step(None, step) == (step == 2)
    assert timed.seconds == [3.0, 3.0]
