"""Models whose rotary positions depend on the longest row of a pass (longrope, dynamic) answer and score as alone."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tiny import VOCABULARY
from tunewright.parts.engine import Continuation
from tunewright_transformers import greedy, score
from tunewright_transformers.branches import sharing
from tunewright_transformers.common import common
from tunewright_transformers.rotary import rotates_by_length

BOUND = 32
"""Tokens up to which nothing changes."""
STEM = list(range(40, 60))
ROWS = [
    Continuation([*STEM, 7, 8], [9, 10, 11]),
    Continuation([*STEM, *range(100, 140)], [12, 13]),
    Continuation([*STEM, 7, 9], [14]),
    Continuation([*STEM, *range(100, 130), 5], [15, 16, 17, 18]),
]
"""All begin with what is shorter than the bound, and some go beyond it."""
SHORT = [Continuation([*STEM, at], [at + 1, at + 2]) for at in range(4)]


def model(kind: str, **changes: Any) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"vocab_size": VOCABULARY, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2, "pad_token_id": 2}
    factors = {"short_factor": [1.0] * 8, "long_factor": [4.0] * 8, "original_max_position_embeddings": BOUND}
    said = {"longrope": factors, "dynamic": {"factor": 4.0}, "default": {}}[kind]
    context = BOUND if kind == "dynamic" else 256
    rope = {"rope_type": kind, "rope_theta": 1e4, **said, **changes}
    torch.manual_seed(0)
    config = LlamaConfig(**sizes, **heads, max_position_embeddings=context, rope_parameters=rope)
    return LlamaForCausalLM(config).eval()


def no_report(done: int) -> None:
    """Nobody listens."""


KINDS = pytest.mark.parametrize("kind", ["longrope", "dynamic"])
ATTENTIONS = pytest.mark.parametrize("attention", ["sdpa", "eager"], ids=["branches", "batches"])


@ATTENTIONS
@KINDS
def test_scores_together_are_those_alone(kind: str, attention: str) -> None:
    found = []
    for budget in (4096, None):
        asked = model(kind)  # a dynamic one remembers what it was asked
        asked.set_attn_implementation(attention)
        found.append([value for row in score.scores(asked, ROWS, budget, no_report) for value in row])
    assert found[0] == pytest.approx(found[1], abs=1e-5)


@ATTENTIONS
@KINDS
def test_answers_are_those_of_plain_generate(kind: str, attention: str) -> None:
    """Also where an answer grows beyond the bound."""
    questions, found = [row.prompt for row in ROWS], []
    for asking, further in ((greedy.in_batches, (4096,)), (greedy.one_by_one, ())):
        asked = model(kind)
        asked.set_attn_implementation(attention)
        found.append(asking(asked, questions, [16] * len(questions), {2}, *further, no_report))
    assert found[0] == found[1]
    assert len({tuple(answer) for answer in found[1]}) == len(ROWS), "a model that says the same proves nothing"


@KINDS
def test_a_row_beyond_the_bound_leaves_the_others_together(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = [*(row.prompt for row in SHORT), ROWS[1].prompt]
    expected = greedy.one_by_one(model(kind), questions, [4] * 5, {2}, no_report)
    alone, asked, heard = [], model(kind), []
    plainly = greedy.one_by_one

    def noted(model: Any, some: Any, *rest: Any) -> Any:
        alone.extend(some)
        return plainly(model, some, *rest)

    monkeypatch.setattr(greedy, "one_by_one", noted)
    assert greedy.in_batches(asked, questions, [4] * 5, {2}, 4096, heard.append) == expected
    assert alone == [ROWS[1].prompt]
    assert heard[-1] == 5
    assert heard == sorted(set(heard))


@KINDS
def test_rows_up_to_the_bound_share_and_score_the_same(kind: str) -> None:
    asked, read = model(kind), []
    alone = score.scores(asked, SHORT, None, no_report)
    score.scores(asked, SHORT[:2], 4096, no_report)  # tries the model, once
    asked.model.embed_tokens.register_forward_hook(lambda layer, given, made: read.append(made.shape[1]))
    assert score.scores(asked, SHORT, 4096, no_report) == [pytest.approx(row, abs=1e-5) for row in alone]
    assert sum(read[2:]) < sum(len(row.prompt) for row in SHORT)


@KINDS
def test_nothing_is_computed_once_for_rows_beyond_the_bound(kind: str) -> None:
    asked = model(kind)
    assert sharing(asked, BOUND, STEM)
    assert not sharing(asked, BOUND + 1, STEM)
    rows = [row.prompt for row in SHORT]
    with torch.no_grad():
        assert common(asked, rows, BOUND - len(rows[0])).tokens == len(STEM)
        assert common(asked, rows, BOUND - len(rows[0]) + 1).tokens == 0


@pytest.mark.parametrize(
    ("settings", "beyond"),
    [
        ({"rope_parameters": {"rope_type": "longrope", "original_max_position_embeddings": BOUND}}, True),
        ({"rope_parameters": {"rope_type": "dynamic"}, "max_position_embeddings": BOUND}, True),
        ({"rope_scaling": {"type": "longrope"}, "original_max_position_embeddings": BOUND}, True),
        ({"rope_parameters": {"full": {"rope_type": "longrope"}, "sliding": {"rope_type": "default"}}}, True),
        ({"rope_parameters": {"full": {"rope_type": "llama3"}, "sliding": None}}, False),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": BOUND}}, False),
        ({"rope_parameters": None}, False),
        ({}, False),
    ],
    ids=["longrope", "dynamic", "an older config", "a kind of layers", "llama3", "yarn", "none", "no positions"],
)
def test_a_config_tells_whether_length_matters(settings: dict[str, Any], beyond: bool) -> None:
    text = SimpleNamespace(**settings)
    assert rotates_by_length(SimpleNamespace(get_text_config=lambda: text), BOUND + 1) is beyond
