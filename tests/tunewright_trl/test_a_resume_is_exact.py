"""A training that was interrupted ends with the bytes of one that was not: weights, losses, the order of the rows."""

from __future__ import annotations

import shutil

import pytest
import torch
from tiny_training import ROWS, adapted, llama

from damages import DAMAGES
from tiny import backend, tiny_model
from tunewright.errors import Refused
from tunewright.store.checkpoints import Checkpoints
from tunewright_bitsandbytes.nf4 import Nf4
from tunewright_peft.lora import Lora
from tunewright_transformers.loader import TransformersLoader
from tunewright_trl import watch as watching


def same(one, two):
    assert one.outcome.row_order == two.outcome.row_order
    assert one.outcome.losses == two.outcome.losses
    assert one.outcome.steps == two.outcome.steps
    assert one.outcome.tokens == two.outcome.tokens
    assert one.weights.keys() == two.weights.keys()
    for name, weight in one.weights.items():
        assert weight.dtype == two.weights[name].dtype
        assert torch.equal(weight, two.weights[name]), name


CASES = [
    ("sft", {}, 1), ("sft", {"accumulation": 2, "epochs": 3}, 3), ("sft", {"neftune_alpha": 5.0}, 4),
    ("sft", {"optimizer": "paged_adamw_8bit", "schedule": "cosine", "warmup_steps": 2}, 4),
    ("sft", {"optimizer": "lion_32bit", "learning_rate": 1e-3}, 2), ("sft", {"loraplus_lr_ratio": 16.0}, 2),
    ("dpo", {}, 1), ("dpo", {"accumulation": 2, "epochs": 3}, 3), ("dpo", {"loss": "ipo"}, 4), ("kto", {}, 4),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "step"), CASES)
def test_a_training_taken_up_again_ends_as_if_nothing_had_been(train, tmp_path, kind, options, step):
    options = {"epochs": 2, **options}
    whole = train(kind, **options)
    stopped = train(kind, **options, stop_after=step)
    assert stopped.outcome.stopped
    assert len(stopped.steps) == step
    resumed = train(kind, **options, resume=True)
    assert [event["optimizer_step"] for event in resumed.steps] == list(range(step + 1, whole.outcome.steps + 1))
    same(whole, resumed)


def test_adapters_in_bf16_come_back_in_bf16(train):
    def model():
        return adapted().to(torch.bfloat16)

    whole = train(model=model(), epochs=2)
    train(model=model(), epochs=2, stop_after=2)
    same(whole, train(model=model(), epochs=2, resume=True))


def test_full_fine_tuning_resumes_as_well(train):
    whole = train(model=llama(), epochs=2)
    train(model=llama(), epochs=2, stop_after=4)
    same(whole, train(model=llama(), epochs=2, resume=True))


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_over_a_base_in_four_bits_as_well(train, tmp_path, kind):
    """Each process packs the base anew, and trains adapters over what it packed."""
    base = tiny_model(tmp_path / "base")

    def model():
        loader = backend(TransformersLoader)
        loader.seed(3)
        packed = loader.model(base, backend(Nf4, compute_dtype="fp32"), "fp32", "train")
        return backend(Lora, r=4, dropout=0.1).wrap(packed, None)

    options = {"epochs": 2, "optimizer": "paged_adamw_8bit"}
    whole = train(kind, model=model(), **options)
    assert train(kind, model=model(), **options, stop_after=2).outcome.stopped
    resumed = train(kind, model=model(), **options, resume=True)
    assert [event["optimizer_step"] for event in resumed.steps] == list(range(3, whole.outcome.steps + 1))
    same(whole, resumed)


def test_dropout_draws_the_same_numbers(train):
    whole = train(model=adapted(dropout=0.3), epochs=2)
    train(model=adapted(dropout=0.3), epochs=2, stop_after=2)
    same(whole, train(model=adapted(dropout=0.3), epochs=2, resume=True))


def test_it_goes_on_with_the_number_of_threads_that_it_had(train, monkeypatch):
    """With another number the sums of a matrix product are added up in another order."""
    whole = train(epochs=2)
    train(epochs=2, stop_after=2)
    torch.set_num_threads(2)
    counts, trained_on = [], watching.Watch.trained_on

    def spy(self, rows, loss):
        counts.append(torch.get_num_threads())
        trained_on(self, rows, loss)

    monkeypatch.setattr(watching.Watch, "trained_on", spy)
    resumed = train(epochs=2, resume=True)
    assert counts == [1] * (whole.outcome.steps - 2)
    same(whole, resumed)


def test_a_training_may_be_interrupted_again_and_again(train):
    whole = train(epochs=3)
    for _ in range(4):
        train(epochs=3, stop_after=2, resume=True)
    resumed = train(epochs=3, resume=True)
    assert len(resumed.steps) == 1
    same(whole, resumed)


def test_the_best_weights_survive_an_interruption(train):
    options = {"epochs": 4, "eval_every": 1, "learning_rate": 0.2, "validation": ROWS["sft"](6, seed=5)}
    whole = train(**options)
    assert whole.outcome.best_step < whole.outcome.steps  # the rate is far too high: later weights are worse
    stopped = train(**options, stop_after=whole.outcome.best_step + 2)
    assert stopped.outcome.stopped
    resumed = train(**options, resume=True)
    assert resumed.outcome.validation == whole.outcome.validation
    assert resumed.outcome.best_step == whole.outcome.best_step
    same(whole, resumed)


def test_checkpoints_are_committed_as_often_as_asked(train):
    trained = train(epochs=3, checkpoint_every=2)
    committed = [event["optimizer_step"] for event in trained.events if event["event"] == "checkpoint"]
    assert committed == [2, 4, 6, 8]  # the ninth is the last: what was trained is kept by the run itself


class Clock:
    """The watch's time, in which every optimizer step takes half a minute: it is asked where one begins and ends."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now

    def perf_counter(self):
        self.now += 15.0
        return self.now


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"checkpoint_minutes": 1}, [2, 4, 6, 8]),
        ({"checkpoint_minutes": 2}, [4, 8]),
        ({"checkpoint_minutes": 1, "checkpoint_every": 3}, [2, 3, 5, 6, 8]),  # the minutes count from the last one
        ({}, []),
    ],
)
def test_a_checkpoint_is_committed_when_the_last_one_is_so_many_minutes_old(train, monkeypatch, options, expected):
    monkeypatch.setattr(watching, "time", Clock())
    trained = train(epochs=3, **options)
    assert [event["optimizer_step"] for event in trained.events if event["event"] == "checkpoint"] == expected


FILES = {"trained.safetensors", "best.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth",
         "trainer_state.json", "watch.json", "manifest.json"}  # fmt: skip


@pytest.fixture
def torn(train, tmp_path):
    """(the uninterrupted training, what goes on with one that was stopped after step 5, its damages).

    The last gives (file's name, damage) of every file of the newest checkpoint while it has that damage and no other.
    """
    options = {"epochs": 2, "eval_every": 1, "checkpoint_every": 2, "validation": ROWS["sft"](6, seed=5)}
    whole = train(**options)
    shutil.rmtree(tmp_path / "scratch")
    train(**options, stop_after=5)
    newest = Checkpoints(tmp_path / "scratch", "key").newest().folder
    kept = shutil.copytree(newest.parent, tmp_path / "kept")

    def damages():
        for name in sorted(path.relative_to(newest).as_posix() for path in newest.rglob("*") if path.is_file()):
            for damage, harm in DAMAGES.items():
                shutil.rmtree(newest.parent)
                shutil.copytree(kept, newest.parent)
                harm(newest / name)
                yield name, damage

    return whole, lambda: train(**options, resume=True), damages


def test_with_any_of_a_trainers_own_files_damaged_the_checkpoint_before_is_taken(torn, tmp_path):
    _, _, damages = torn
    seen = set()
    for name, damage in damages():
        found = Checkpoints(tmp_path / "scratch", "key").newest()
        assert found.step == 4, (name, damage)
        (why,) = found.damaged
        assert why.startswith("checkpoint step-00000005 is damaged (")
        assert name in why or (name, damage) == ("manifest.json", "flipped")  # then a file is not what it should be
        seen.add(name)
    assert seen == FILES


@pytest.mark.slow
def test_from_the_checkpoint_before_a_torn_one_a_training_ends_the_same(torn):
    whole, resume, damages = torn
    turns = dict(zip(sorted(FILES), [*DAMAGES] * 2, strict=True))  # of each file one damage, of each damage two files
    seen = set()
    for name, damage in damages():
        if turns[name] == damage:
            resumed = resume()
            assert resumed.steps[0]["optimizer_step"] == 5, name
            same(whole, resumed)
            assert resumed.outcome.best_step == whole.outcome.best_step
            seen.add(name)
    assert seen == FILES


def test_a_checkpoint_of_another_model_is_refused(train):
    train(epochs=2, stop_after=2)
    with pytest.raises(Refused, match="of another model"):
        train(model=adapted(llama(hidden_size=64)), epochs=2, resume=True)


def test_an_interruption_in_the_last_step_is_none(train):
    trained = train(epochs=1, stop_after=3)
    assert not trained.outcome.stopped
    assert trained.outcome.steps == 3


def test_the_look_that_ends_an_epoch_is_not_left_out(train):
    options = {"epochs": 3, "validation": ROWS["sft"](6, seed=5)}
    whole = train(**options)
    stopped = train(**options, stop_after=3)  # the last step of the first epoch
    known = [event["event"] for event in stopped.events]
    assert known[known.index("checkpoint") - 1] == "validation"
    resumed = train(**options, resume=True)
    assert resumed.outcome.validation == whole.outcome.validation
    same(whole, resumed)


def test_a_training_stopped_within_an_epoch_does_not_look_first(train):
    stopped = train(epochs=2, stop_after=2, validation=ROWS["sft"](6, seed=5))
    assert "validation" not in {event["event"] for event in stopped.events}


@pytest.mark.parametrize("looks", [{}, {"eval_every": 1}])
def test_a_training_that_patience_ends_is_not_taken_up_past_its_end(train, looks):
    """No checkpoint is kept of the step at which it ends: the decision to stop would not be in it."""
    options = {"epochs": 6, "learning_rate": 0.5, "patience": 2, "keep": "last", "checkpoint_every": 1, **looks}
    whole = train(**options, validation=ROWS["sft"](6, seed=5))
    assert whole.outcome.steps < 18
    assert (
        max(event["optimizer_step"] for event in whole.events if event["event"] == "checkpoint") < whole.outcome.steps
    )
    same(whole, train(**options, validation=ROWS["sft"](6, seed=5), resume=True))


def test_an_interruption_at_the_step_where_patience_ends_is_none(train):
    options = {"epochs": 6, "learning_rate": 0.5, "patience": 1, "eval_every": 1, "keep": "last"}
    whole = train(**options, validation=ROWS["sft"](6, seed=5))
    stopped = train(**options, validation=ROWS["sft"](6, seed=5), stop_after=whole.outcome.steps)
    assert not stopped.outcome.stopped
    same(whole, stopped)
