"""MODEL_CARD.md: what the Hub and a person read, whatever the names say."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from enum import StrEnum
from pathlib import Path

import pytest

from handoff.packages import contents, training
from tunewright.handoff.card import model_card
from tunewright.handoff.contents import PackageContents
from tunewright.parts.gate import Score, Verdict


@pytest.fixture
def made(tmp_path: Path) -> PackageContents:
    return contents(tmp_path)


def code_of(card: str) -> str:
    return re.findall(r"```python\n(.*?)\n```", card, re.DOTALL)[0]


def test_the_front_matter_is_what_the_hub_reads(made):
    huggingface_hub = pytest.importorskip("huggingface_hub")
    data = huggingface_hub.ModelCard(model_card(made)).data
    assert (data.base_model, data.license, data.library_name) == ("org/tiny", "apache-2.0", "peft")
    assert data.tags == ["tunewright", "lora"]


def test_scores_stand_with_their_intervals(made):
    assert "| heldout.exact\\_match | 100 | 0.000 | 0.910 | +0.910 | +0.850 to +0.960 | < 0.001 |" in model_card(made)


def test_of_several_scores_the_card_has_what_their_number_leaves_of_each(made):
    assert "p Holm" not in model_card(made), "of one score it is p itself"
    gain = made.scores["heldout.exact_match"]
    biased = replace(gain, compare_by="brier")
    lines = model_card(
        replace(
            made,
            scores={
                "a": replace(gain, p_value=0.03, p_adjusted=0.06),
                "b": replace(gain, p_adjusted=2e-20),
                "c": biased,
            },
        )
    ).splitlines()
    assert "| score | items | base | tuned | difference | 95 % interval | p | p Holm |" in lines
    assert any(line.startswith("| a |") and line.endswith("| 0.030 | 0.060 |") for line in lines)
    assert any(line.startswith("| c |") and line.endswith("| biased: see brier |  |  |") for line in lines)


def test_the_code_loads_the_quantized_base_and_the_adapter(made):
    code = code_of(model_card(made))
    ast.parse(code)
    assert (
        "    'bnb_4bit_quant_type': 'nf4',\n    'load_in_4bit': True,\n    'quant_method': 'bitsandbytes',\n}" in code
    )
    assert "revision='c0ffee', dtype='bfloat16', quantization_config=quantization)" in code
    plain = code_of(model_card(replace(made, quantization=None)))
    assert "quantization" not in plain
    assert "from_pretrained(base, revision='c0ffee', dtype='bfloat16')" in plain


def test_a_librarys_own_quantization_config_becomes_plain_code(made):
    class Method(StrEnum):
        NF4 = "nf4"

    code = code_of(model_card(replace(made, quantization={"method": Method.NF4, "_private": 1, "skip": None})))
    ast.parse(code)
    assert "quantization = {\n    'method': 'nf4',\n    'skip': None,\n}\n" in code


def test_a_fully_tuned_model_needs_no_base(made):
    card = model_card(replace(made, adapter=None, quantization=None))
    ast.parse(code_of(card))
    assert "peft" not in code_of(card)
    assert 'library_name: "transformers"' in card


def test_a_card_without_scores_says_so(made):
    card = model_card(replace(made, scores={}, gates=(), data={}))
    assert "Nothing was measured" in card
    assert "## Scores" not in card


def test_every_stage_has_its_data_and_how_it_went(made):
    paged = {"what": "optimizer", "asked": "paged_adamw_8bit", "got": "adamw_8bit", "why": "there is no GPU"}
    pairs = {"name": "pairs.jsonl", "rows": 160}
    task = training("task", validation=[[40, 0.5], [80, 0.7]], validation_rows=32, best_step=40, substituted=[paged])
    taste = training("taste", trainer="dpo", rows=160, sources=[pairs], steps=20, first_loss=0.693, last_loss=0.4)
    card = model_card(replace(made, trainings=[task, taste]))
    for line in (
        "In 2 stages: 320 rows, 36,480 tokens, 2,048 supervised tokens, 100 test rows.",
        "- task: train.csv: 320 rows, 2 set aside",
        "- taste: pairs.jsonl: 160 rows",
        "- task, by sft on 320 rows in 80 steps, loss 3.250 at the first and 0.151 at the last; the weights after "
        "step 40 were kept, the best on 32 validation rows.",
        "  - optimizer: asked paged\\_adamw\\_8bit, got adamw\\_8bit; there is no GPU",
        "- taste, by dpo on 160 rows in 20 steps, loss 0.693 at the first and 0.400 at the last.",
    ):
        assert f"{line}\n" in card


def test_a_trainer_that_tells_no_losses_leaves_them_out(made):
    card = model_card(replace(made, trainings=[training(first_loss=None, last_loss=None)]))
    assert "- by sft on 320 rows in 80 steps.\n" in card
    assert "supervised tokens, 100 test rows.\n" in card


HOSTILE = "<script>alert(1)</script> | `x` [a](b) **b**\n# head\n---\n```\n\x1b[0m\u202e"


def test_no_name_becomes_markup(made):
    hostile = replace(
        made,
        license=HOSTILE,
        base={**made.base, "name": HOSTILE, "repo": HOSTILE, "revision": HOSTILE, "dtype": HOSTILE},
        adapter={"kind": HOSTILE},
        quantization={HOSTILE: HOSTILE},
        scores={HOSTILE: Score(1, 0, 0, 0, (0, 0), 1)},
        gates=[Verdict(HOSTILE, False, HOSTILE)],
        trainings=[
            training(
                HOSTILE,
                trainer=HOSTILE,
                sources=[{"name": HOSTILE, "rows": 1}],
                substituted=[{"what": HOSTILE, "asked": HOSTILE, "got": [HOSTILE], "why": HOSTILE}],
            )
        ],
        libraries={HOSTILE: HOSTILE},
        licences={HOSTILE: HOSTILE},
        limits=[HOSTILE],
    )
    card = model_card(hostile)
    code = code_of(card)
    ast.parse(code)
    matter, _, rest = card.removeprefix("---\n").partition("\n---\n")
    prose = rest.replace(code, "")
    assert "<script" not in prose
    assert not re.search(r"(?<!\\)\[a", prose)
    assert not re.search(r"(?<!\\)\*\*b", prose)
    assert re.findall(r"^#+ .*", prose, re.MULTILINE) == [
        "# acme-support-1.0.0",
        "## Scores",
        "## Gates",
        "## Training data",
        "## Training",
        "## How to load it",
        "## Limits",
        "## Provenance",
    ]
    assert card.count("\n```") == 2
    assert not set("\x1b\u202e") & set(card)
    assert [line.partition(":")[0] for line in matter.splitlines()] == [
        "base_model",
        "license",
        "library_name",
        "pipeline_tag",
        "tags",
    ]


def test_every_string_of_the_front_matter_is_yaml(made):
    yaml = pytest.importorskip("ruamel.yaml").YAML(typ="safe")
    for name in (HOSTILE, "✓ 🙂 \x85\u2028\x7f\ufeff", '"quoted" \\ : #'):
        card = model_card(replace(made, base={**made.base, "repo": name}))
        assert isinstance(yaml.load(card.split("---\n")[1])["base_model"], str)
