"""Memory is foretold from a config.json and the options, and what was measured bounds the next forecast."""

from __future__ import annotations

import json

import pytest

from tunewright.data.prefixes import heaviest, segments
from tunewright.errors import BadInput
from tunewright.parts.memory import Batch, Regime, Shape, Trainable
from tunewright.pipeline import forecast
from tunewright.pipeline.fitting import size_of
from tunewright.pipeline.forecast import FLOOR, Base, asking, loading, merging, training
from tunewright.pipeline.measured import BENCHMARK, ENOUGH, bar, bars
from tunewright.pipeline.planner import Lengths
from tunewright.store.publish import Store

SEVEN_B = {
    "model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
}  # fmt: skip
EVERYWHERE = frozenset({"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"})


def base(dtype="bf16", weights=None):
    shape = Shape.of(SEVEN_B)
    whole = shape.parameters * (4 if dtype == "fp32" else 2)
    return Base(shape, dtype, weights or whole, whole, 0)


def regime(**changes):
    given = {"rows": 4, "sequences": 1, "states": 0, "step": 0, "copies": 0, "checkpointing": False,
             "positions_at_once": 512, "bytes_a_logit": 12}  # fmt: skip
    return Regime(**{**given, **changes})


LORA = Trainable({(16, 4096): 224, (4096, 16): 224}, 4, EVERYWHERE)
ROWS = Batch(4, 512, 400, 2048)


def terms(peak):
    return {term.name: term.bytes for term in peak.terms}


def test_a_published_model_has_its_published_size():
    """Touvron et al. 2023, arXiv:2307.09288: Llama 2 has 6.7 thousand million parameters."""
    assert Shape.of(SEVEN_B).parameters == 6_738_415_616


@pytest.mark.parametrize(
    "unlike",
    [
        {"model_type": "gpt2"},
        {"num_local_experts": 8},
        {"hidden_size": None},
        {"num_hidden_layers": "32"},
        {"head_dim": "128"},
        {"num_key_value_heads": -1},
    ],
)
def test_what_is_not_known_is_not_foretold(unlike):
    assert Shape.of({**SEVEN_B, **unlike}) is None
    assert Shape.of(None) is None


def test_a_sum_is_its_terms_and_each_has_a_reason_to_be_there():
    peak = training(base(), LORA, regime(states=LORA.parameters * 8, copies=LORA.bytes), ROWS, "cpu")
    found = terms(peak)
    assert peak.bytes == sum(found.values())
    assert found["adapter"] == found["gradients"] == found["best weights"] == LORA.bytes
    assert found["optimizer"] == 8 * LORA.parameters
    assert found["weights"] == base().weights


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_checkpointing_fewer_tokens_and_shared_beginnings_lower_the_peak(device):
    def most(of=ROWS, **changes):
        return training(base(), LORA, regime(**changes), of, device).bytes

    assert most(checkpointing=True) < most()
    assert most(Batch(2, 512, 200, 1024)) < most()
    assert most(ROWS._replace(computed=512)) < most()
    assert most(ROWS._replace(padded=False)) < most()


def long_and_short():
    """64 rows that begin alike; of eight, what they share is the least part. Batches of like lengths have these."""
    return [[*range(100), *[1000 + number] * (400 if number < 8 else 20)] for number in range(64)]


@pytest.mark.parametrize("rows", [1, 2, 5, 7, 8, 9, 20, 64, 100])
def test_the_longest_rows_in_one_batch_are_no_surprise(rows):
    """The mean over batches by chance is far less."""
    lengths = Lengths(500, 400, 64, "", shared=tuple(heaviest([[row] for row in long_and_short()]).items()))
    together = long_and_short()[:rows]
    tokens = sum(map(len, together)) - sum((one.end - one.begin) * (len(one.rows) - 1) for one in segments(together, 8))
    told = lengths.batch(regime(rows=rows, shares=True))
    assert tokens <= told.computed <= 1.35 * tokens
    assert told.computed <= told.rows * told.longest and not told.padded


def test_more_rows_at_once_never_take_less():
    shared = tuple(heaviest([[row] for row in long_and_short()]).items())
    of = [Lengths(500, 400, 64, "", shared=shared).batch(regime(rows=rows, shares=True)) for rows in range(1, 80)]
    assert [one.computed for one in of] == sorted(one.computed for one in of)
    unknown = [Lengths(500, 400, 64, "").batch(regime(rows=rows, shares=True)).computed for rows in (7, 8)]
    assert unknown == [3500, 4000]  # nothing is known before rows are prepared, nor taken off


def test_what_a_cpu_keeps_unpacked_while_it_asks_is_told_in_place_of_one_layer():
    packed = base()._replace(unpacked=7_000, kept=500_000)
    told = {device: {term.name: term.bytes for term in asking(packed, None, 10, device).terms} for device in FLOOR}
    assert told["cpu"]["weights, unpacked"] == 500_000
    assert "weights, unpacked" not in told["cuda"]
    assert told["cuda"]["a layer at work"] - told["cpu"]["a layer at work"] == 7_000


def test_a_mask_grows_with_the_square_of_the_longest_row():
    assert forecast.attention_mask(Batch(4, 1000, 0, 0), 4) == 4 * forecast.attention_mask(Batch(4, 500, 0, 0), 4)


def test_logits_are_held_in_chunks():
    shape = Shape.of(SEVEN_B)
    few, many = (forecast.logits(shape, regime(), ROWS._replace(supervised=n), 0) for n in (512, 100_000))
    assert few == many == 512 * 32000 * 12


def test_a_loss_of_every_logit_holds_those_of_every_position():
    shape = Shape.of(SEVEN_B)
    held = forecast.logits(shape, regime(every_logit=True), ROWS, 0)
    assert held == ROWS.rows * ROWS.longest * 32000 * 12


def test_an_optimizer_whose_step_outweighs_the_activations_is_the_peak():
    whole = Trainable({(4096, 4096): 400}, 4, EVERYWHERE, whole=True, head=True)
    heavy = regime(step=10**12)
    found = terms(training(base("fp32"), whole, heavy, ROWS, "cpu"))
    assert found["optimizer's step"] == 10**12 and "activations" not in found
    assert "weights" not in found and found["trained weights"] == whole.bytes  # once, not twice


def test_pages_of_a_file_are_seen_and_give_way():
    packed = base("bf16", weights=4 * 10**9)
    peak = loading(packed, "cpu")
    assert peak.resident - peak.bytes == packed.stored
    assert loading(base(), "cpu").resident < loading(packed._replace(weights=packed.stored + 1), "cpu").resident


def test_a_merge_never_holds_a_whole_base():
    small, large = base(), base()._replace(stored=140 * 10**9)
    assert merging(large).bytes < large.stored / 10
    assert merging(small).bytes <= merging(large).bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [("16GB", 16 * 10**9), ("16 GiB", 16 * 2**30), ("1.5g", 1_500_000_000), ("500MB", 5 * 10**8), ("7", 7)],
)
def test_a_size_is_read_as_people_write_it(text, size):
    assert size_of(text) == size


@pytest.mark.parametrize("text", ["", "much", "16 XB", "-1GB", "0GB", "1e3GB"])
def test_no_size_is_said_with_one_that_is(text):
    with pytest.raises(BadInput, match="16GB"):
        size_of(text)


def manifest(folder, name, **told):
    (folder / name).mkdir(parents=True)
    (folder / name / "manifest.json").write_text(json.dumps({"step": name.rpartition("-")[0], **told}))


def test_the_bar_is_made_of_what_was_measured(tmp_path):
    store = Store(tmp_path)
    for number in range(ENOUGH):
        manifest(store.folder, f"train-dpo-{number}", forecast_bytes=1000, peak_rss_bytes=950 + 10 * number)
    manifest(store.folder, "evaluate-base-0", forecast_bytes=1000, peak_rss_bytes=700, peak_device_bytes=1200)
    manifest(store.folder, "fetch-0", peak_rss_bytes=1)
    (store.folder / "torn-0").mkdir()
    (store.folder / "torn-0" / "manifest.json").write_text("{")
    found = bars(store)
    assert found["train"] == (0.95, 0.99, ENOUGH)  # stages are alike, and the benchmark has no say any more
    assert found["train"].around(2000) == (1900, 1980)
    assert found["evaluate"] == (min(BENCHMARK[0], 1.2), 1.2, 1)  # where the model lay: on the device
    assert "fetch" not in found


def test_without_a_measurement_the_bar_is_the_benchmarks():
    assert bar([]) == (*BENCHMARK, 0)
