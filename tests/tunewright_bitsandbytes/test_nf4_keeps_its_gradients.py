"""4-bit bases: packed as the library packs them, and right to train, merge and unpack whatever was done before."""

import pytest
import torch
from transformers import BitsAndBytesConfig

from tiny import backend
from tunewright.parts import Cap, Facts
from tunewright.parts.base import BadOption
from tunewright_bitsandbytes.fp4 import Fp4
from tunewright_bitsandbytes.nf4 import Nf4
from tunewright_peft.lora import Lora
from tunewright_transformers.loader import TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

IDS = torch.arange(3, 60)[None]
FOUR = pytest.mark.parametrize("four", [Nf4, Fp4])


def load(folder, quantizer, use="train"):
    return backend(TransformersLoader).model(folder, quantizer, "bf16", use)


def adapted(model):
    """The model with an adapter that already does something."""
    torch.manual_seed(0)
    wrapped = backend(Lora).wrap(model, None)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter.data, std=0.05)
    return wrapped


@torch.no_grad()
def evaluate(model):
    return model.eval()(IDS).logits


def gradients(model):
    model.train()
    model(input_ids=IDS, labels=IDS).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", [NoQuantizer, Nf4, Fp4])
@pytest.mark.parametrize("use", ["train", "infer"])
def test_gradients_do_not_depend_on_an_evaluation_before(tiny_folder, kind, use):
    """On CPUs with AVX512-BF16 this is what `prepare` is for; elsewhere it holds by itself."""
    folder = tiny_folder(dtype="bfloat16")
    expected = gradients(adapted(load(folder, backend(kind), use)))
    model = adapted(load(folder, backend(kind), use))
    evaluate(model)
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0
        assert torch.equal(found[name], gradient), name


@FOUR
@pytest.mark.filterwarnings("ignore:Merge lora module to 4-bit")
def test_merging_after_an_evaluation_gives_what_it_gives_without(tiny_folder, four):
    merged = []
    for evaluates in (False, True):
        model = adapted(load(tiny_folder(dtype="bfloat16"), backend(four), "infer"))
        if evaluates:
            evaluate(model)
        merged.append(model.merge_and_unload().state_dict())
    assert all(torch.equal(tensor, merged[1][name]) for name, tensor in merged[0].items())


@FOUR
def test_the_weights_unpack_to_the_same_after_an_evaluation(tiny_folder, four):
    from bitsandbytes.functional import dequantize_4bit

    model = load(tiny_folder(dtype="bfloat16"), backend(four), "infer")
    weight = model.model.layers[0].mlp.up_proj.weight
    before = dequantize_4bit(weight.data, weight.quant_state)
    evaluate(model)
    weight = model.model.layers[0].mlp.up_proj.weight
    assert torch.equal(dequantize_4bit(weight.data, weight.quant_state), before)


@FOUR
def test_it_loads_as_the_library_alone_does(tiny_folder, four):
    """What the model card tells a person to write gives the same weights and answers."""
    from transformers import AutoModelForCausalLM

    folder, quantizer = tiny_folder(dtype="bfloat16"), backend(four, compute_dtype="fp32")
    ours = load(folder, quantizer, "infer")
    theirs = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, quantization_config=BitsAndBytesConfig(**quantizer.describe())
    )
    state = theirs.state_dict()
    assert state.keys() == ours.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())


@FOUR
def test_the_options_reach_the_librarys_config(four):
    config = backend(four, double_quant=False, compute_dtype="fp16", skip=["down_proj"]).config()
    assert (config.load_in_4bit, config.bnb_4bit_quant_type) == (True, four.kind)
    assert config.bnb_4bit_use_double_quant is False
    assert config.bnb_4bit_compute_dtype is torch.float16
    assert config.llm_int8_skip_modules == ["lm_head", "down_proj"]
    assert backend(four).describe() == {
        "bnb_4bit_compute_dtype": "bfloat16",
        "bnb_4bit_quant_type": four.kind,
        "bnb_4bit_use_double_quant": True,
        "load_in_4bit": True,
    }


def test_what_is_skipped_stays_as_it_is_and_the_head_always_does(tiny_folder):
    folder = tiny_folder(dtype="bfloat16", tied=False)
    for quantizer in (backend(Nf4), backend(Nf4, skip=["down_proj"])):
        model = load(folder, quantizer)
        packed = {name.rpartition(".")[2] for name, m in model.named_modules() if type(m).__name__ == "Linear4bit"}
        expected = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
        assert packed == expected - set(quantizer.options.skip)


@pytest.mark.parametrize("skip", [["no_such"], ["layers"], ["proj"], ["model.layers"]])
def test_a_skip_of_nothing_or_of_everything_is_refused(tiny_folder, skip):
    with pytest.raises(BadOption) as error:
        load(tiny_folder(dtype="bfloat16"), backend(Nf4, skip=skip))
    assert (error.value.finding.code, error.value.finding.field) == ("unknown-module", "skip")


@FOUR
def test_packed_weights_carry_gradients_and_take_none(four):
    assert backend(four).offers() == {Cap.TRAINABLE, Cap.TAKES_MERGES, Cap.FOUR_BIT, Cap.UNPACKS}


def test_a_base_that_is_quantized_already_is_refused():
    facts = Facts(model_config={"model_type": "llama", "quantization_config": {"quant_method": "gptq"}})
    for kind in (Nf4, Fp4, NoQuantizer):
        assert [finding.code for finding in backend(kind).check(facts)] == ["base-already-quantized"]
        assert not list(backend(kind).check(Facts(model_config={"model_type": "llama"})))


def test_a_packed_weight_counts_as_the_two_that_it_holds(tiny_folder):
    folder = tiny_folder(dtype="bfloat16")
    counts = {backend(Lora).count(adapted(load(folder, backend(kind)))) for kind in (NoQuantizer, Nf4, Fp4)}
    assert len(counts) == 1


def test_the_two_schemes_differ_in_the_values_of_a_weight_and_in_nothing_else(tiny_folder):
    from bitsandbytes.functional import dequantize_4bit

    held = []
    for four in (Nf4, Fp4):
        weight = load(tiny_folder(dtype="bfloat16"), backend(four)).model.layers[0].mlp.up_proj.weight
        held.append((weight.quant_state.blocksize, weight.quant_state.nested, weight.data.shape))
        values = dequantize_4bit(weight.data, weight.quant_state).float().reshape(-1, 64)
        shares = {round(value, 2) for value in (values / values.abs().amax(1, keepdim=True)).flatten().tolist()}
        assert (0.67 in shares) is (four is Fp4)
        assert (0.72 in shares) is (four is Nf4)
    assert held[0] == held[1]
