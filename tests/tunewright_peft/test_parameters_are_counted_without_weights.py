"""Parameters of 7B models, on the meta device: the figures that the practice names, with nothing allocated."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tiny import backend
from tunewright_peft.ia3 import Ia3
from tunewright_peft.lora import Lora
from tunewright_peft.tuner import Tuner

NAMES = ("hidden_size", "num_hidden_layers", "intermediate_size", "num_attention_heads", "num_key_value_heads",
         "vocab_size")  # fmt: skip
SEVEN = {
    "llama": dict(zip(NAMES, (4096, 32, 11008, 32, 32, 32000), strict=True)),
    "mistral": dict(zip(NAMES, (4096, 32, 14336, 32, 8, 32000), strict=True)),
    "qwen2": dict(zip(NAMES, (3584, 28, 18944, 28, 4, 152064), strict=True)),
}
PARAMETERS = {"llama": 6_738_415_616, "mistral": 7_241_732_096, "qwen2": 7_615_616_512}
"""As their model cards round them: 6.7B, 7.2B, 7.6B."""


def empty(family):
    config = AutoConfig.for_model(family, **SEVEN[family], tie_word_embeddings=False, pad_token_id=0)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def of_all_projections(family, r):
    """r (in + out) a matrix, by hand."""
    sizes = SEVEN[family]
    mlp = 3 * (sizes["hidden_size"] + sizes["intermediate_size"])
    return of_attention(family, r) + r * mlp * sizes["num_hidden_layers"]


def of_attention(family, r):
    sizes = SEVEN[family]
    width = sizes["hidden_size"]
    keys = width // sizes["num_attention_heads"] * sizes["num_key_value_heads"]
    return r * (2 * (width + width) + 2 * (width + keys)) * sizes["num_hidden_layers"]


def test_one_square_matrix_of_a_llama_has_131_072_at_rank_16():
    method = backend(Lora, r=16, targets=["layers.0.self_attn.q_proj"])
    assert method.count(method.wrap(empty("llama"), None)) == (131_072, PARAMETERS["llama"] + 131_072)


def test_attention_alone_is_counted_as_by_hand():
    method = backend(Lora, r=16, targets="attention")
    assert method.count(method.wrap(empty("mistral"), None))[0] == of_attention("mistral", 16)


def test_the_docs_tell_the_size_of_each():
    page = (Path(__file__).parents[2] / "docs/how-to/choose-an-adapter.md").read_text()
    rows = re.findall(r"^\| (8|16|32|64) \| (.*) \|$", page, re.MULTILINE)
    assert len(rows) == 4
    for rank, cells in rows:
        counts = [of(family, int(rank)) for of in (of_all_projections, of_attention) for family in SEVEN]
        assert cells.split(" | ") == [f"{2 * count / 1e6:,.0f}" for count in counts]
    for family in SEVEN:
        assert f"{2 * SEVEN[family]['vocab_size'] * SEVEN[family]['hidden_size'] / 1e6:,.0f} MB" in page


@pytest.mark.parametrize("family", SEVEN)
def test_all_projections_at_rank_16_are_under_one_percent(family):
    method = backend(Lora, r=16)
    model = method.wrap(empty(family), None)
    trainable, total = method.count(model)
    assert trainable == of_all_projections(family, 16)
    assert total == PARAMETERS[family] + trainable
    assert 0.004 < trainable / total < 0.01
    assert all(parameter.is_meta for parameter in model.parameters()), "nothing is allocated"


@pytest.mark.parametrize(
    ("method", "trainable"),
    [
        (lambda: backend(Lora, r=16, init="pissa"), of_all_projections("llama", 16)),
        (lambda: backend(Lora, r=8, dora=True, targets=["q_proj"]), 32 * (8 * 8192 + 4096)),
        (lambda: backend(Lora, r=8, targets=["q_proj"], modules_to_save=["lm_head"]), 32 * 8 * 8192 + 32000 * 4096),
        (lambda: backend(Lora, r=8, rank_pattern={"q_proj": 4}, targets=["q_proj", "k_proj"]), 32 * 12 * 8192),
        (lambda: backend(Ia3), 32 * (4096 + 4096 + 11008)),
        (lambda: backend(Tuner, args={"peft_type": "HIRA", "r": 8, "target_modules": ["q_proj"]}), 32 * 8 * 8192),
    ],
    ids=["pissa", "dora", "a whole head", "ranks of single layers", "ia3", "hira"],
)
def test_other_methods_are_counted_too(method, trainable):
    made = method()
    found, total = made.count(made.wrap(empty("llama"), None))
    assert 0 < found < total
    assert found == trainable
