"""8-bit bases: what is trained is one function, with its gradients; what is asked answers as the library alone does."""

import copy

import pytest
import torch
from bitsandbytes.functional import int8_vectorwise_dequant
from bitsandbytes.nn import Linear8bitLt
from peft.utils.integrations import dequantize_module_weight
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from tiny import FAMILIES, backend
from tunewright.parts import Cap, Facts
from tunewright.parts.base import BadOption
from tunewright_bitsandbytes.int8 import Int8
from tunewright_peft.lora import Lora
from tunewright_transformers.loader import DTYPES, TransformersLoader
from tunewright_transformers.unquantized import NoQuantizer

IDS = torch.arange(3, 60)[None]
CLOSE = {"fp32": 1e-5, "bf16": 0.0, "fp16": 0.0}
"""How far an answer may be from that of the unpacked weights: in fp32 they are rounded in another order."""


def load(folder, dtype="bf16", use="train", quantizer=None):
    return backend(TransformersLoader).model(folder, quantizer or backend(Int8), dtype, use)


def packed(model):
    return {path: module for path, module in model.named_modules() if isinstance(module, Linear8bitLt)}


def unpacked(model, folder, dtype):
    """The plain base with the packed base's weights in the place of its own."""
    plain = load(folder, dtype, quantizer=backend(NoQuantizer))
    for path, module in packed(model).items():
        scales = module.weight.SCB if module.state.SCB is None else module.state.SCB
        weight = int8_vectorwise_dequant(module.weight.data, scales)
        plain.get_submodule(path).weight.data = weight.to(plain.dtype)
    return plain


def adapted(model, **options):
    """The model with an adapter that already does something."""
    torch.manual_seed(0)
    wrapped = backend(Lora, **options).wrap(model, None)
    for name, parameter in wrapped.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter.data, std=0.05)
    return wrapped


@torch.no_grad()
def logits(model, ids=IDS):
    return model.eval()(ids).logits.float()


def apart(one, other):
    return ((one - other).norm() / other.norm()).item()


def gradients(model):
    model.train()
    model.zero_grad()
    model(input_ids=IDS, labels=IDS).loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", CLOSE)
def test_a_training_sees_the_unpacked_weights_in_either_mode(tiny_folder, family, dtype):
    folder = tiny_folder(family, dtype="bfloat16")
    model = load(folder, dtype)
    expected = logits(unpacked(model, folder, dtype))
    assert apart(logits(model), expected) <= CLOSE[dtype]
    with torch.no_grad():
        assert apart(model.train()(IDS).logits.float(), expected) <= CLOSE[dtype]


@pytest.mark.parametrize("use", ["train", "infer"])
@pytest.mark.parametrize(
    ("dtype", "adapter", "close"), [("fp32", "fp32", 1e-5), ("bf16", "bf16", 0), ("fp16", "fp32", 0.01)]
)
def test_gradients_are_those_of_the_unpacked_weights_whatever_was_asked_before(tiny_folder, dtype, adapter, close, use):
    folder = tiny_folder(dtype="bfloat16")
    expected = gradients(adapted(unpacked(load(folder, dtype, use), folder, dtype), dtype=adapter))
    model = adapted(load(folder, dtype, use), dtype=adapter)
    found = gradients(model)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0
        assert apart(found[name].float(), gradient.float()) <= close, name
    logits(model)
    assert all(torch.equal(gradient, found[name]) for name, gradient in gradients(model).items())


def test_what_is_asked_answers_as_the_library_alone_does(tiny_folder):
    """What the model card tells a person to write gives the same weights and answers."""
    folder, quantizer = tiny_folder(dtype="bfloat16"), backend(Int8, threshold=3.0, skip=["v_proj"])
    ours = load(folder, "bf16", "infer", quantizer)
    theirs = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, quantization_config=BitsAndBytesConfig(**quantizer.describe())
    )
    assert torch.equal(logits(ours), logits(theirs.eval()))
    state = theirs.state_dict()
    assert state.keys() == ours.state_dict().keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.state_dict().items())


def test_an_answer_depends_on_the_batch_unless_the_threshold_is_zero(tiny_folder):
    """The caveat says so; were it to hold no longer, the caveat would have to go."""
    folder = tiny_folder(dtype="bfloat16")
    rows = torch.stack([IDS[0, :8], IDS[0, 20:28], IDS[0, 40:48]])
    for threshold, same in ((6.0, False), (0.0, True)):
        model = load(folder, "fp32", "infer", backend(Int8, threshold=threshold))
        assert (apart(logits(model, rows)[:1], logits(model, rows[:1])) < 1e-5) is same
    trained = load(folder, "fp32")
    assert apart(logits(trained, rows)[:1], logits(trained, rows[:1])) < 1e-5


@pytest.mark.parametrize("use", ["train", "infer"])
@pytest.mark.parametrize("asked", [False, True])
def test_a_layer_that_was_unpacked_answers_as_before(tiny_folder, use, asked):
    """PEFT's DoRA unpacks every layer in every step; the library's layer would lose its scales by it."""
    model = load(tiny_folder(dtype="bfloat16"), "bf16", use)
    expected = logits(load(tiny_folder(dtype="bfloat16"), "bf16", use))
    if asked:
        logits(model)
    weights = [[dequantize_module_weight(layer) for layer in packed(model).values()] for _ in range(2)]
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    assert torch.equal(logits(model), expected)
    assert torch.equal(logits(copy.deepcopy(model)), expected)


def test_dora_trains_step_after_step(tiny_folder):
    model = adapted(load(tiny_folder(dtype="bfloat16")), dora=True)
    first = gradients(model)
    again = gradients(model)
    assert any("magnitude" in name for name in first)
    assert all(torch.equal(gradient, again[name]) for name, gradient in first.items())


@pytest.mark.filterwarnings("ignore:Merge lora module to 8-bit")
@pytest.mark.parametrize("asked", [False, True])
def test_an_adapter_merged_into_packed_weights_is_their_sum_rounded_anew(tiny_folder, asked):
    folder = tiny_folder(dtype="bfloat16")
    model = adapted(load(folder, "fp32", "infer"), dtype="fp32")
    if asked:
        logits(model)
    path, layer = next((path, m) for path, m in model.named_modules() if hasattr(m, "lora_A"))
    held = dequantize_module_weight(layer.get_base_layer())
    expected = held + layer.get_delta_weight("default").float()
    merged = model.merge_and_unload()
    module = merged.get_submodule(path.removeprefix("base_model.model."))
    found = dequantize_module_weight(module)
    steps = expected.abs().amax(1, keepdim=True) / 127
    assert ((found - expected).abs() <= 0.51 * steps + 1e-3 * expected.abs()).all()
    assert logits(merged).isfinite().all()


def test_the_library_unpacks_the_whole_model_after_an_answer(tiny_folder):
    folder = tiny_folder(dtype="bfloat16")
    model = load(folder, "bf16", "infer")
    expected = logits(unpacked(model, folder, "bf16"))
    logits(model)
    assert torch.equal(logits(model.dequantize()), expected)


def test_the_options_reach_the_librarys_config():
    config = backend(Int8, threshold=4, skip=["down_proj"]).config()
    assert (config.load_in_8bit, config.load_in_4bit, config.llm_int8_threshold) == (True, False, 4.0)
    assert (config.llm_int8_has_fp16_weight, config.llm_int8_enable_fp32_cpu_offload) == (False, False)
    assert config.llm_int8_skip_modules == ["lm_head", "down_proj"]
    assert backend(Int8).describe() == {"llm_int8_threshold": 6.0, "load_in_8bit": True}


@pytest.mark.parametrize("wrong", [{"threshold": -1.0}, {"threshold": float("inf")}, {"double_quant": True},
                                   {"llm_int8_has_fp16_weight": True}])  # fmt: skip
def test_what_it_does_not_take_is_refused(wrong):
    with pytest.raises(ValidationError):
        backend(Int8, **wrong)


def test_what_is_skipped_stays_as_it_is_and_the_head_always_does(tiny_folder):
    folder = tiny_folder(dtype="bfloat16", tied=False)
    expected = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    for skip in ([], ["down_proj"]):
        model = load(folder, quantizer=backend(Int8, skip=skip))
        assert {path.rpartition(".")[2] for path in packed(model)} == expected - set(skip)


@pytest.mark.parametrize("skip", [["no_such"], ["layers"], ["proj"], ["model.layers"]])
def test_a_skip_of_nothing_or_of_everything_is_refused(tiny_folder, skip):
    with pytest.raises(BadOption) as error:
        load(tiny_folder(dtype="bfloat16"), quantizer=backend(Int8, skip=skip))
    assert (error.value.finding.code, error.value.finding.field) == ("unknown-module", "skip")


def test_packed_weights_carry_gradients_and_are_no_four_bits():
    assert backend(Int8).offers() == {Cap.TRAINABLE, Cap.TAKES_MERGES, Cap.UNPACKS}


def test_a_base_that_is_quantized_already_is_refused():
    facts = Facts(model_config={"model_type": "llama", "quantization_config": {"quant_method": "gptq"}})
    assert [finding.code for finding in backend(Int8).check(facts)] == ["base-already-quantized"]


def test_every_weight_counts_once(tiny_folder):
    folder = tiny_folder(dtype="bfloat16")
    counts = {backend(Lora).count(adapted(load(folder, quantizer=backend(kind)))) for kind in (NoQuantizer, Int8)}
    assert len(counts) == 1


def test_every_type_of_the_spec_was_tried():
    assert CLOSE.keys() == DTYPES.keys()


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_what_a_layer_holds_is_told_as_its_own_forward_has_it(tiny_folder, tmp_path, family, dtype):
    """A merge takes it from the base's files: asked for each unit vector, the trained layer gives its columns."""
    folder = tiny_folder() if family == "llama" else turned(tmp_path / "gpt2")
    quantizer = backend(Int8, skip=["o_proj"] if family == "llama" else [])
    model, plain = load(folder, dtype, quantizer=quantizer), load(folder, "fp32", quantizer=backend(NoQuantizer))
    config = plain.config.to_dict()
    outline = backend(TransformersLoader).outline(config)
    held, layers = quantizer.held(outline, dtype), packed(model)
    assert layers
    assert not any(isinstance(module, Linear8bitLt) for module in outline.modules()), "the outline stays as it is"
    for name, weight in plain.state_dict().items():
        path, found = name.rpartition(".")[0], held(name, weight)
        if path not in layers or not name.endswith("weight"):
            assert torch.equal(found, weight.to(found.dtype)), name
            continue
        layer = layers[path]
        ones = torch.eye(layer.in_features, dtype=found.dtype)
        columns = layer(ones) - (0 if layer.bias is None else layer.bias)
        expected = columns if family == "gpt2" else columns.T  # GPT-2's layers hold theirs the other way round
        torch.testing.assert_close(found, expected, rtol=3e-7 if dtype == "fp32" else 0, atol=0)
        assert not torch.equal(found, weight.to(found.dtype)), name


def turned(folder):
    """A model whose layers hold their weights transposed."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=320, n_embd=64, n_layer=1, n_head=4, n_positions=64)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(config)
    model.save_pretrained(folder)
    return folder
