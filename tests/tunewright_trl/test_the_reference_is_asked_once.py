"""The reference is asked apart from the training; what it said serves each that agrees in what it reads."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from test_dpo_trains_on_proven_pairs import said
from tiny_training import ROWS, adapted, llama, pair_rows, tokenizer, trainer, what_is_read

from tiny import backend, tiny_model
from tunewright.errors import Refused
from tunewright.parts.base import Cap
from tunewright.parts.trainer import Reference, TrainJob
from tunewright_bitsandbytes.nf4 import Nf4
from tunewright_peft.lora import Lora
from tunewright_transformers.full import FullTuning
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer
from tunewright_trl.referring import ARGS_OF_TRAINING, AT_ONCE, OF_TRAINING, batches


def asked(kind: str, model: Any, rows: Any = None, validation: Any = (), seed: int = 0, **options: Any) -> Reference:
    """What `reference` gives, by the options of the other tests."""
    made = trainer(kind, {"batch_size": 4, "learning_rate": 1e-2, **options})
    rows = ROWS[kind]() if rows is None else rows
    job = TrainJob(model, tokenizer(), rows, validation, seed, Path(), emit=lambda event: None)
    return made.reference(job)


def test_the_numbers_are_the_models_own(tmp_path: Path) -> None:
    model, rows, held = adapted(), pair_rows(), pair_rows(5, seed=9)
    found = asked("dpo", model, rows, held)
    for said_of, given in ((rows, found.train), (held, found.validation)):
        numbers = torch.tensor([[one["ref_chosen_logps"], one["ref_rejected_logps"]] for one in given])
        torch.testing.assert_close(numbers, said(model, said_of), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("make", [adapted, llama], ids=["adapter", "full"])
@pytest.mark.parametrize("kind", ["dpo", "kto"])
def test_a_training_that_is_given_them_ends_as_one_that_asks(
    train: Any, monkeypatch: pytest.MonkeyPatch, kind: str, make: Any
) -> None:
    held = ROWS[kind](5, seed=9)
    options = {"epochs": 2, "eval_every": 2, "learning_rate": 1e-3, "validation": held}
    alone = train(kind, model=make(), **options)
    reference, model, seen = asked(kind, make(), validation=held), make(), None
    if make is adapted:
        seen = what_is_read(model, monkeypatch)
    given = train(kind, model=model, reference=reference, **options)
    assert given.outcome.losses == alone.outcome.losses
    assert given.outcome.validation == alone.outcome.validation
    assert all(torch.equal(weight, given.weights[name]) for name, weight in alone.weights.items())
    assert "asking the reference" not in {event.get("what") for event in given.events}
    if seen is not None and kind == "dpo":
        learnt = {repr(row.prompt + side) for row in pair_rows() for side in (row.chosen, row.rejected)}
        times = Counter(repr(ids) for ids, _ in seen)
        assert {times[one] for one in learnt} == {2}  # an epoch each, and nothing before


def test_it_is_trained_against_what_is_given(train: Any) -> None:
    reference = asked("dpo", adapted())
    moved = [{**one, "ref_chosen_logps": one["ref_chosen_logps"] - 5.0} for one in reference.train]
    plain, other = (train("dpo", reference=Reference(given)).outcome.losses for given in (reference.train, moved))
    assert other[0][1] < plain[0][1]  # the chosen have gained already


OTHERWISE = {
    "epochs": 3.0, "max_steps": 2, "batch_size": 3, "accumulation": 2, "learning_rate": 0.5, "loraplus_lr_ratio": 4.0,
    "schedule": "cosine", "warmup_steps": 1, "optimizer": "sgd", "weight_decay": 0.1, "max_grad_norm": 0.0,
    "neftune_alpha": 5.0, "checkpointing": True, "eval_every": 1, "patience": 3, "keep": "last", "beta": 0.7,
    "order": "by_prefix", "loss": ["ipo", "robust"], "loss_weights": [0.5, 2.0], "label_smoothing": 0.2,
    "max_length": 7,
}  # fmt: skip
"""Another value of every option of DPO that only the training reads."""
FURTHER = {
    "adam_beta1": 0.5, "adam_beta2": 0.5, "adam_epsilon": 1e-3, "discopop_tau": 0.9,
    "f_divergence_type": "js_divergence",
    "f_alpha_divergence_coef": 0.7, "lr_scheduler_kwargs": {"num_cycles": 2}, "optim_args": "momentum=0.5",
    "activation_checkpointing_kwargs": {"use_reentrant": False},
}  # fmt: skip


def test_what_only_the_training_reads_changes_no_bit_and_no_key() -> None:
    of_kto = {"desirable_weight", "undesirable_weight"}
    assert {"kind", "args", *OTHERWISE, *of_kto} == OF_TRAINING  # an option that is added there must be shown here
    assert FURTHER.keys() == ARGS_OF_TRAINING
    plain, key = asked("dpo", adapted()), trainer("dpo", {}).refers(0)
    for change in (OTHERWISE, {"args": FURTHER}):
        assert trainer("dpo", change).refers(0) == key
        assert asked("dpo", adapted(), seed=3, **change) == plain
    weights = {"desirable_weight": 2.0, "undesirable_weight": 3.0, "beta": 0.7}
    assert asked("kto", adapted(), **weights) == asked("kto", adapted())
    assert trainer("kto", weights).refers(0) == trainer("kto", {}).refers(0)


@pytest.mark.parametrize(
    "options",
    [{"args": {"ld_alpha": 0.5}}, {"args": {"precompute_ref_batch_size": 1}}, {"args": {"use_weighting": True}},
     {"prefix_sharing": "off"}],
    ids=str,
)  # fmt: skip
def test_what_the_reference_reads_is_in_its_key(options: dict[str, Any]) -> None:
    assert trainer("dpo", options).refers(0) != trainer("dpo", {}).refers(0)


def test_neighbours_of_kto_are_the_seeds_and_the_batch_sizes() -> None:
    def key(seed: int = 0, **options: Any) -> Any:
        return trainer("kto", options).refers(seed)

    assert len({repr(one) for one in (key(), key(seed=1), key(batch_size=4), key(loss="apo_zero_unpaired"))}) == 4
    alone = {"loss": "apo_zero_unpaired", "args": {"precompute_ref_batch_size": 4}}  # which has no such term
    assert key(**alone) == key(seed=1, **alone) == key(batch_size=4, **alone)
    numbers = [asked("kto", adapted(), seed=seed, batch_size=size, **alone) for seed, size in ((0, 4), (1, 4), (0, 3))]
    assert numbers[0] == numbers[1] == numbers[2]
    assert asked("kto", adapted(), seed=1) != asked("kto", adapted())


@pytest.mark.parametrize("quantizer", [NoQuantizer, Nf4])
@pytest.mark.parametrize("options", [{}, {"init": "gaussian", "rslora": True, "r": 3}], ids=str)
def test_a_fresh_adapter_says_what_its_base_says(tmp_path: Path, quantizer: Any, options: dict[str, Any]) -> None:
    """To the bit: the run asks the bare base, and any adapter without effect is trained against that."""

    def base() -> Any:
        return backend(TransformersLoader).model(folder, backend(quantizer), "fp32", "train")

    folder, method = tiny_model(tmp_path / "base"), backend(Lora, **options)
    assert Cap.NEUTRAL in method.offers()
    bare = base()
    wanted = {name: parameter.requires_grad for name, parameter in bare.named_parameters()}
    attributes = set(vars(bare))
    found = asked("dpo", bare)
    assert found == asked("dpo", method.wrap(base(), None))
    assert {name: parameter.requires_grad for name, parameter in bare.named_parameters()} == wanted
    assert set(vars(bare)) == attributes


def test_a_base_that_wants_gradients_is_scored_as_one_that_wants_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """TRL's kernel, for a head that is trained, would be slower and might round otherwise."""
    model = llama()
    frozen = asked("dpo", llama().requires_grad_(False))
    monkeypatch.setattr("tunewright_trl.fused._ChunkedLogProbFunction", None)
    assert asked("dpo", model) == frozen
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(
    "options",
    [{"init": "pissa"}, {"init": "olora"}, {"init": "loftq"}, {"init": "orthogonal"}, {"dora": True},
     {"modules_to_save": ["lm_head"]}, {"args": {"trainable_token_indices": [1]}}, {"args": {"lora_bias": True}}],
    ids=str,
)  # fmt: skip
def test_a_start_that_may_change_an_answer_is_asked_itself(options: dict[str, Any]) -> None:
    assert Cap.NEUTRAL not in backend(Lora, **options).offers()
    assert Cap.NEUTRAL not in backend(FullTuning).offers()


def test_the_start_of_loftq_is_not_what_its_base_says(tmp_path: Path) -> None:
    def base() -> Any:
        return backend(TransformersLoader).model(folder, backend(Nf4), "fp32", "train")

    folder = tiny_model(tmp_path / "base")
    assert asked("dpo", base()) != asked("dpo", backend(Lora, init="loftq").wrap(base(), None))


def test_the_order_of_the_rows_changes_no_bit() -> None:
    rows, by_four = pair_rows(30), {"precompute_ref_batch_size": 4}
    mixed = random.Random(1).sample(rows, len(rows))
    found, other = (
        dict(zip((row.row_id for row in some), asked("dpo", adapted(), some, args=by_four).train, strict=True))
        for some in (rows, mixed)
    )
    assert found == other


def test_batches_hold_so_many_tokens_and_every_row_once() -> None:
    def row(number: int, length: int) -> dict[str, Any]:
        return {"row_id": f"{number}", "prompt_ids": [0] * length, "chosen_ids": [0] * 10, "rejected_ids": [0] * 4}

    rows = [row(number, 90 + 200 * (number % 5)) for number in range(100)] + [row(100, AT_ONCE)]
    made = list(batches(rows, None))
    assert sorted(place for batch in made for place in batch) == list(range(101))
    assert made[0] == [100]  # too long for any batch, and so one by itself
    for batch in made[1:]:
        assert 2 * len(batch) * max(10 + len(rows[place]["prompt_ids"]) for place in batch) <= AT_ONCE
    assert len(made) < 20
    assert {len(batch) for batch in batches(rows[:100], 25)} == {25}


@pytest.mark.parametrize(
    "given",
    [Reference(asked_of) for asked_of in ([], [{"ref_logps": 0.0}] * 12)],
    ids=["other rows", "another trainer"],
)
def test_a_reference_of_others_is_refused(train: Any, given: Reference) -> None:
    with pytest.raises(Refused, match="of other rows, or of another trainer"):
        train("dpo", reference=given)
