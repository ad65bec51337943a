"""A chosen completion is preferred where the model finds it likelier, token for token what DPO is trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from pydantic import ValidationError

from tiny import backend, tiny_folder  # noqa: F401
from tunewright.data.mask import tokenize
from tunewright.errors import BadInput
from tunewright.parts.engine import Served
from tunewright.parts.evaluator import TestRow as Row
from tunewright.parts.prompt_format import Example, Preference
from tunewright.stats.paired import compare
from tunewright.testing import check_evaluator
from tunewright.testing.invented import Letters
from tunewright_basics.preferred import Preferred, PreferredOptions

LIKELY = {ord("g"): 0.9, ord("b"): 0.1, Letters.end: 1.0}


@dataclass
class Scorer:
    """Finds each token as likely as it is said to be, whatever stands before."""

    likely: dict[int, float] = field(default_factory=lambda: LIKELY)
    tokenizer: Letters = field(default_factory=Letters)
    seen: list = field(default_factory=list)

    def score(self, rows, progress=None, *, together=True):
        self.seen += rows
        for done in range(len(rows)):
            progress(done + 1)
        return [[math.log(self.likely[token]) for token in row.answer] for row in rows]


def pair(chosen, rejected, name="a"):
    question = [{"role": "user", "content": "which?"}]
    sides = [[{"role": "assistant", "content": side}] for side in (chosen, rejected)]
    return Row(name, f"t.csv:{name}", Preference(question, *sides))


def measured(rows, scorer=None, **options):
    return Preferred(PreferredOptions(**options)).measure(scorer or Scorer(), rows, lambda done, total: None)


def scores(graded):
    return {metric: made(graded) for metric, made in Preferred(PreferredOptions()).summaries().items()}


def test_accuracy_is_the_share_of_rows_and_margin_the_mean_difference_in_nats():
    graded = measured([pair("g", "b"), pair("gg", "b", "b"), pair("b", "g", "c"), pair("gb", "bb", "d")])
    assert [one.grades["accuracy"] for one in graded] == [1, 1, 0, 1]
    step = math.log(9)
    margins = [step, 2 * math.log(0.9) - math.log(0.1), -step, step]
    assert [one.grades["margin"] for one in graded] == pytest.approx(margins)
    assert scores(graded) == pytest.approx({"accuracy": 0.75, "margin": sum(margins) / 4})


def test_two_that_are_equally_likely_are_no_preference():
    grades = measured([pair("gb", "bg")])[0].grades
    assert grades["chosen"] == grades["rejected"] == pytest.approx(math.log(0.09))
    assert (grades["accuracy"], grades["margin"]) == (0, 0)


def test_a_short_completion_is_likelier_by_sum_and_not_by_mean():
    rows = [pair("g" * 40, "b")]
    assert measured(rows)[0].grades["accuracy"] == 0
    by_mean = measured(rows, by="mean")[0].grades
    assert by_mean["accuracy"] == 1
    assert by_mean["chosen"] == pytest.approx(40 * math.log(0.9) / 41)  # the terminator is a token too


def test_the_scored_tokens_are_those_that_are_trained_on():
    row, scorer = pair("good", "bad"), Scorer(dict.fromkeys(range(128), 0.5))
    graded = measured([row], scorer)
    tokens = tokenize(row.id, row.origin, row.example, scorer.tokenizer)
    assert [(one.prompt, one.answer) for one in scorer.seen] == [
        (tokens.prompt, tokens.chosen), (tokens.prompt, tokens.rejected)
    ]  # fmt: skip
    assert tokens.chosen[-1] == tokens.rejected[-1] == Letters.end
    assert graded[0].answer.ids == tokens.chosen
    assert graded[0].item.reference == "good"


def test_progress_counts_rows_not_completions():
    heard = []
    Preferred(PreferredOptions()).measure(
        Scorer(), [pair("g", "b"), pair("b", "g", "b")], lambda *told: heard.append(told)
    )
    assert heard[-1] == (2, 2)
    assert all(of == 2 for _, of in heard)


def test_a_pair_with_nothing_to_prefer_is_named():
    with pytest.raises(BadInput, match=r"t.csv:b: it cannot be scored as it is: .*same tokens"):
        measured([pair("g", "b"), pair("g", "g", "b")])


def test_rows_of_another_kind_are_refused_before_a_model_is_loaded():
    row = Row("a", "t.csv:2", Example("q", "a"))
    with pytest.raises(
        BadInput, match=r"t.csv:2: `preferred` scores rows of kind preference, .* made `Example`"
    ) as error:
        list(Preferred(PreferredOptions()).items([row]))
    assert "format" in error.value.fix


def test_a_length_of_answers_that_are_never_made_is_refused():
    with pytest.raises(ValidationError, match="leave `max_new_tokens` out"):
        PreferredOptions(max_new_tokens=5)


def test_base_and_tuned_pair_by_row():
    rows = [pair("g", "b", str(place)) for place in range(12)]
    base = measured(rows, Scorer({**LIKELY, ord("g"): 0.05}))
    tuned = measured(rows[::-1])
    score = compare(base, tuned, "accuracy", Preferred(PreferredOptions()).summaries()["accuracy"], seed=0)
    assert (score.base, score.tuned, score.n) == (0, 1, 12)
    assert score.p_value < 0.001


def test_a_real_models_margin_is_the_difference_of_its_own_log_probabilities(tiny_folder):  # noqa: F811
    import torch

    from tunewright_transformers.engine import TransformersEngine
    from tunewright_transformers.loader import TransformersLoader
    from tunewright_transformers.unquantized import NoQuantizer

    served = Served(tiny_folder("qwen2"), backend(TransformersLoader), backend(NoQuantizer), "fp32")
    with backend(TransformersEngine).open(served) as subject:
        row = pair("delivery_status", "billing")
        graded = measured([row], subject)[0]
        tokens = tokenize(row.id, row.origin, row.example, subject.tokenizer)
        sums = []
        for side in (tokens.chosen, tokens.rejected):
            ids = torch.tensor([[*tokens.prompt, *side]])
            chances = subject.model(input_ids=ids).logits.log_softmax(-1)[0, len(tokens.prompt) - 1 : -1]
            sums.append(chances.gather(1, torch.tensor(side)[:, None]).sum().item())
    assert graded.grades["margin"] == pytest.approx(sums[0] - sums[1], abs=1e-4)
    assert graded.grades["accuracy"] == float(sums[0] > sums[1])


def test_it_keeps_its_contract(tmp_path):
    check_evaluator(Preferred, folder=tmp_path)
