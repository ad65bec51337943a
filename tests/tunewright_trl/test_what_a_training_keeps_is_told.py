"""What the trainer, the adapter and the quantizer tell of their memory is what torch, PEFT and bitsandbytes take."""

from __future__ import annotations

import pytest
import torch
from tiny_training import llama

import tunewright_trl.logprob as logprob
from tunewright.parts.base import Cap, Facts
from tunewright.parts.memory import Harm, Shape
from tunewright.pipeline.forecast import kept_per_token
from tunewright_peft.lora import Lora, LoraOptions
from tunewright_transformers.full import FullTuning, FullTuningOptions
from tunewright_trl import memory
from tunewright_trl.dpo import Dpo, DpoOptions
from tunewright_trl.kto import Kto, KtoOptions
from tunewright_trl.lean import LeanLayers
from tunewright_trl.low_rank import LowRankLayers
from tunewright_trl.referring import batches
from tunewright_trl.sft import Sft, SftOptions

TOKENS = 24


def shape_of(model):
    return Shape.of({**model.config.to_dict(), "model_type": model.config.model_type})


def kept(model, padded):
    """Bytes, a token, of the tensors that the backward pass of the decoder keeps, weights aside."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    seen, alive = {}, []

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights and storage.nbytes() > 1000:
            seen[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    ids = torch.arange(2 * TOKENS).remainder(90).reshape(2, TOKENS)
    mask = torch.ones_like(ids)
    if padded:
        mask[1, -3:] = 0
    inner = model.get_base_model().model if hasattr(model, "get_base_model") else model.model
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = inner(input_ids=ids, attention_mask=mask).last_hidden_state
    assert out.requires_grad
    return sum(seen.values()) / (2 * TOKENS)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"targets": "attention"}, {"targets": ["down_proj", "q_proj"], "r": 4}, {"dtype": "bf16"}, {"dropout": 0.5}],
)
def test_activations_are_those_that_torch_keeps(options, padded):
    model = llama(hidden_size=64, intermediate_size=192, num_hidden_layers=6)
    method = Lora(LoraOptions.model_validate({"kind": "lora", **options}))
    shape = shape_of(model)
    told = method.trainable(shape, "fp32", packed=False)
    wrapped = method.wrap(model, None).train()
    assert told.bytes == sum(p.nbytes for p in wrapped.parameters() if p.requires_grad)
    assert kept_per_token(shape, told, 4, padded) == pytest.approx(kept(wrapped, padded), rel=0.08)


@pytest.mark.parametrize("options", [{}, {"targets": "attention"}, {"dtype": "bf16"}])
def test_lean_layers_keep_what_is_told_of_them(options):
    model = llama(hidden_size=64, intermediate_size=192, num_hidden_layers=6)
    method = Lora(LoraOptions.model_validate({"kind": "lora", **options}))
    shape = shape_of(model)
    told, wrapped = method.trainable(shape, "fp32", packed=False), method.wrap(model, None).train()
    lighter = LowRankLayers(wrapped), LeanLayers(wrapped)
    assert kept_per_token(shape, told, 4, False, lean=True) == pytest.approx(kept(wrapped, False), rel=0.08)
    for layers in lighter:
        layers.stop()


def test_layers_are_lean_and_rows_share_where_each_token_is_for_itself():
    shape, by_token = shape_of(llama()), Facts(offers={"adapter": frozenset({Cap.BY_TOKEN})})
    told = Lora(LoraOptions(kind="lora")).trainable(shape, "fp32", packed=False)
    ours, plain = (Sft(SftOptions()).regime(shape, told, "cpu", facts) for facts in
                   (by_token, Facts(offers={"adapter": frozenset()})))  # fmt: skip
    assert ours.lean and ours.shares and not plain.lean and not plain.shares
    assert not Sft(SftOptions(prefix_sharing="off")).regime(shape, told, "cpu", by_token).shares
    assert not Sft(SftOptions()).regime(shape, told, "cuda", by_token).lean
    smoothed = Sft(SftOptions(args={"label_smoothing_factor": 0.1})).regime(shape, told, "cpu", by_token)
    assert smoothed.every_logit and not smoothed.lean and not smoothed.shares and not ours.every_logit


def test_full_tuning_tells_every_weight_and_what_its_norms_keep():
    model = llama(hidden_size=64, intermediate_size=192, num_hidden_layers=6)
    method, shape = FullTuning(FullTuningOptions()), shape_of(model)
    told = method.trainable(shape, "fp32", packed=False)
    assert told.parameters == sum(p.numel() for p in method.wrap(model, None).parameters()) == shape.parameters
    assert kept_per_token(shape, told, 4, False) == pytest.approx(kept(model.train(), False), rel=0.08)


@pytest.mark.parametrize("options", [{"dora": True}, {"rank_pattern": {"q_proj": 2}}, {"targets": ["lm_head"]},
                                     {"args": {"lora_bias": True}}, {"modules_to_save": ["lm_head"]}])  # fmt: skip
def test_an_adapter_that_cannot_tell_says_nothing(options):
    method = Lora(LoraOptions.model_validate({"kind": "lora", **options}))
    assert method.trainable(shape_of(llama()), "fp32", packed=False) is None


@pytest.mark.parametrize("optimizer", sorted({*memory.STATES, "adafactor"}))
@pytest.mark.parametrize("shape", [(16, 512), (16, 16)])
def test_states_are_those_that_the_optimizer_keeps(optimizer, shape):
    from transformers import Trainer, TrainingArguments

    weight = torch.nn.Parameter(torch.randn(shape))
    weight.grad = torch.randn(shape)
    arguments = TrainingArguments(output_dir="unused", optim=optimizer, use_cpu=True, report_to=[])
    made, settings = Trainer.get_optimizer_cls_and_kwargs(arguments)
    running = made([weight], **settings)
    running.step()
    tables = ("qmap1", "qmap2")  # 256 values, shared by all tensors
    kept = sum(value.nbytes for name, value in running.state[weight].items()
               if torch.is_tensor(value) and value.numel() > 1 and name not in tables)  # fmt: skip
    assert memory.states(optimizer, shape, 4) == pytest.approx(kept, rel=0.02)


def test_every_optimizer_of_the_options_is_known():
    from typing import get_args

    from tunewright_trl.options import Optimizer

    assert {*memory.STATES, "adafactor"} == set(get_args(Optimizer))


def test_the_head_holds_as_many_logits_as_the_forecast_says():
    assert memory.LOGITS_AT_ONCE == logprob.LOGITS_AT_ONCE


def levers(backend, options, **given):
    return {lever.harm: lever for lever in backend(options.model_validate(given)).levers()}


def test_smaller_batches_keep_the_rows_of_a_step():
    found = levers(Sft, SftOptions, batch_size=12, accumulation=2)[Harm.NOTHING]
    assert [step["batch_size"] * step["accumulation"] for step in found.steps] == [24] * 5
    assert [step["batch_size"] for step in found.steps] == [6, 4, 3, 2, 1]
    for step in found.steps:
        assert SftOptions.model_validate(step)


def test_a_trainer_proposes_no_option_that_it_refuses_and_none_that_is_set():
    assert [step["batch_size"] for step in levers(Kto, KtoOptions, batch_size=4)[Harm.LOSS].steps] == [2]
    done = levers(Sft, SftOptions, batch_size=1, checkpointing=True, optimizer="paged_adamw_8bit")
    assert done == {}
    assert levers(Sft, SftOptions, optimizer="lion_32bit")[Harm.STATES].steps == ({"optimizer": "lion_8bit"},)


def test_rows_that_lend_each_other_answers_are_not_parted_for_nothing():
    """KTO's KL term is the mean over the rows of one pass."""
    lent = levers(Kto, KtoOptions, batch_size=8)
    assert Harm.NOTHING not in lent and "KL term" in lent[Harm.LOSS].costs
    assert Harm.TIME < Harm.LOSS < Harm.TYPE
    alone = levers(Kto, KtoOptions, batch_size=8, loss="apo_zero_unpaired")
    assert Harm.LOSS not in alone and Harm.NOTHING in alone


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("packed", [False, True])
def test_an_adapter_is_told_in_the_type_that_it_gets(dtype, packed):
    model = llama().to({"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[dtype])
    model.is_loaded_in_4bit = packed
    method = Lora(LoraOptions(kind="lora"))
    assert method.trainable(shape_of(model), dtype, packed).bytes_each == method._dtype(model).itemsize


def test_a_pair_is_two_sequences_and_its_step_may_weigh_otherwise():
    shape = shape_of(llama())
    told = FullTuning(FullTuningOptions()).trainable(shape, "fp32", packed=False)
    of = {backend: backend(options()).regime(shape, told, "cpu", Facts()) for backend, options in
          ((Sft, SftOptions), (Dpo, DpoOptions))}  # fmt: skip
    assert (of[Sft].sequences, of[Dpo].sequences) == (1, 2)
    assert "unequal" in levers(Dpo, DpoOptions)[Harm.NOTHING].costs
    assert "unequal" not in levers(Sft, SftOptions)[Harm.NOTHING].costs


@pytest.mark.parametrize(("backend", "options"), [(Dpo, DpoOptions), (Kto, KtoOptions)])
@pytest.mark.parametrize("size", [None, 1, 3])
def test_a_reference_is_asked_in_batches_as_large_as_is_told(backend, options, size):
    args = {} if size is None else {"precompute_ref_batch_size": size}
    made = backend(options(args=args))
    completions = ("chosen_ids", "rejected_ids") if backend is Dpo else ("completion_ids", "KL_completion_ids")
    for longest in (90, 6000):
        row = {"prompt_ids": [1] * (longest - 1), **{name: [1] for name in completions}}
        rows = [{**row, "row_id": str(number)} for number in range(200)]
        largest = max(len(batch) for batch in batches(rows, size)) * longest * len(completions)
        assert largest <= made.asks_at_once(longest) < 1.05 * largest
    assert bool(made.lighter_reference()) == (size != 1)


def test_the_best_weights_are_a_copy_where_validation_chooses():
    shape = shape_of(llama())
    told = Lora(LoraOptions(kind="lora")).trainable(shape, "fp32", packed=False)
    assert Sft(SftOptions()).regime(shape, told, "cpu", Facts(validation=True)).copies == told.bytes
    assert Sft(SftOptions()).regime(shape, told, "cpu", Facts()).copies == 0
    assert Sft(SftOptions(keep="last")).regime(shape, told, "cpu", Facts(validation=True)).copies == 0
