"""What only some runs have: each told where it is there, and no trace of it where it is not."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from report.full_sample import LABELS, everything, score
from report.sample import facts
from report.test_page import ATTACK, Tags, hostile, text_of, texts
from tunewright.parts.gate import Score
from tunewright.report import ReportFacts, render
from tunewright.report.plots import calibration_plot, shares_plot


@pytest.fixture(scope="module")
def page():
    return render(everything())


def section(page, title):
    """The part of the page under a heading."""
    return next(part for part in page.split("<section>") if f"<h2>{title}</h2>" in part)


def test_sections_stand_in_their_order(page):
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles[:7] == [
        "Base against tuned", "Against other baselines", "Gates", "Labels of heldout", "Labels of intent",
        "How sure, and how right", "How it answers",
    ]  # fmt: skip
    assert Tags(page).open == []


def test_nothing_of_it_is_there_where_there_is_nothing_to_tell():
    plain = render(facts(scores={}))
    body = plain[plain.index("<body>") :]
    for trace in ("Against other", "Labels of", "How sure", "How it answers", "readings", 'class="shares"', "<ul"):
        assert trace not in body


def test_what_the_scores_mean_is_read_first_and_as_it_was_said(page):
    seen = text_of(page)
    assert seen.index("general.score fell by 4.1 points") < seen.index("Base against tuned")
    assert "the base has 0.0 % of heldout.exact_match, and 41.0 % with 5 examples: much of the gain" in seen


def test_a_baseline_stands_between_base_and_tuned(page):
    seen = text_of(section(page, "Against other baselines"))
    assert "few_shot_5 Score Items Base Baseline Tuned Tuned against it 95 % interval p heldout.exact_match 100" in seen
    assert "heldout.exact_match 100 0.000 0.410 0.910 +0.500 +0.400 to +0.600 0.010 mid 0.006 Both" in seen


def test_of_several_scores_the_p_that_is_adjusted_stands_beside_each(page):
    seen = text_of(section(page, "Against other baselines")).partition(" other ")[2]
    assert "95 % interval p p Holm heldout.exact_match" in seen
    assert "+0.050 to +0.230 0.010 mid 0.006 0.020 heldout.macro_f1" in seen
    assert "+0.100 to +0.300 0.010 0.020 Both answered the same items. p Holm is adjusted for all 2 scores" in seen
    scores = text_of(section(page, "Base against tuned"))
    assert "+0.850 to +0.960 0.010 mid 0.007 0.050" in scores
    assert "adjusted for all 5 scores of the table" in scores


def test_scores_that_were_not_adjusted_have_no_column_for_it():
    plain = text_of(render(facts()))
    assert "p Holm" not in plain
    assert "mid-p" not in plain


def test_a_score_that_base_and_tuned_lack_has_no_base_beside_a_baseline():
    against = {"other": {"a.b": score(0.4, 0.5, 0.0, 0.2)}}
    seen = text_of(section(render(everything(baselines=against)), "Against other baselines"))
    assert "a.b 100 – 0.400 0.500" in seen


def test_each_stage_has_its_data_its_validation_and_its_curve(page):
    seen = text_of(page)
    assert "trained in 3 stages, by sft on 320 rows, then by dpo on 160 rows, then by kto on 80 rows" in seen
    assert "task 320 32,000 3,200 3 0.750 0.250 step 2 taste 160 16,000 1,600 3 0.750 0.250 the last" in seen
    assert "Validation of task after step Loss on 32 rows 2 (kept) 0.500 3 0.625" in seen
    losses = section(page, "Training loss")
    assert losses.count('class="loss"') == 2
    assert "last: Step 1: 0.500. Too few finite values to draw." in text_of(losses)


def test_labels_have_both_sides_measures_and_the_matrix_what_was_answered(page):
    seen = text_of(section(page, "Labels of heldout"))
    assert "card_swallowed 25 – 0.000 0.000 0.960 0.880 0.918" in seen
    assert f"Reference {' '.join(LABELS)} no label card_swallowed 24 · · · 1 exchange_charge · 21 3 1 ·" in seen
    assert section(page, "Labels of heldout").count('class="n cell hit"') == len(LABELS)


def test_of_many_labels_the_mistakes_are_told_and_the_table_is_folded(page):
    part = section(page, "Labels of intent")
    assert "Most confused tuned Reference Answered Items intent_3 intent_4 7 intent_9 no label 3" in text_of(part)
    assert part.index("Most confused") < part.index("<summary>All 24 labels") < part.index("intent_23")
    assert "cell" not in part


def test_the_calibration_curve_has_its_figures_beneath(page):
    part = section(page, "How sure, and how right")
    assert part.count("<circle") == 5
    assert "base 20 0.330 0.250" in text_of(part)
    assert "tuned 95 0.970 0.915" in text_of(part)


def test_how_it_answers_has_no_length_where_nothing_was_said(page):
    seen = text_of(section(page, "How it answers"))
    assert "choice base 100 – – – 2 tuned 100 – – – 0" in seen
    assert "heldout base 100 31.4 62 3 0 tuned 100 3.2 0 0 0" in seen


def test_answers_are_marked_from_where_they_part(page):
    part = section(page, "Rows won and lost")
    assert 'card<em class="apart"> services can help you.' in part
    assert 'card<em class="apart">_swallowed</em>' in part
    assert 'exchange_<em class="apart">rate</em>' in part
    assert "Base apart from token 3 exchange_ charge Tuned apart from token 3 exchange_ rate" in text_of(part)
    assert "Tuned nothing" in text_of(part)


def test_memory_is_drawn_after_the_loss_with_that_of_the_gpu_beside_it(page):
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles[titles.index("Training loss") + 1] == "Memory of the training"
    part = section(page, "Memory of the training")
    assert "<h3>taste</h3>" in part
    assert part.count("<polyline") == 2
    assert "taken of the GPU, 600.0 MB at most; the dashed one is what it holds besides, 1.64 GB at most" in text_of(
        part
    )


def test_training_rows_are_counted_by_length_and_answer(page):
    part = section(page, "Training rows, counted")
    seen = text_of(part)
    assert (
        "last: half of the rows have up to 108 tokens, 95 % up to 160, the longest 181. The limit is 512. Tokens"
        in seen
    )
    assert "60–119 240 75 % 120–179 79 24.7 % 180–239 1 0.31 %" in seen
    assert part.index("<summary>All 22 answers") < part.index("intent_21")
    assert "<h3>Answers of last" in part
    *_, last = everything().stages
    data = everything().data.model_copy(update={"lengths": last.lengths, "classes": last.classes})
    few = everything(stages=(), data=data.model_copy(update={"classes": data.classes[:2]}))
    assert "Answers 2 distinct Answer Rows Share intent_0 5 25 % intent_1 15 75 %" in text_of(render(few))
    packed = replace(data.lengths, over=None, share_over=None)
    joined = render(everything(stages=(), data=data.model_copy(update={"lengths": packed, "classes": None})))
    assert "joined and cut into 320 rows of at most 512. Tokens" in text_of(joined)
    assert "distinct" not in joined


def test_each_evaluation_has_its_rows_won_and_lost(page):
    titles = re.findall(r"<h3>(.*?) <span class=\"quiet\">(.*?)</span></h3>", section(page, "Rows won and lost"))
    by = "heldout by exact_match"
    assert titles == [(f"Won in {by}", "91, 1 shown"), (f"Lost in {by}", "2"), ("Won in support", "3, 0 shown")]


def test_what_is_wider_than_a_phone_is_scrolled_by_keyboard_too(page):
    tags = Tags(page).found
    regions = [attributes for _, attributes in tags if attributes.get("class") == "scroll"]
    assert len(regions) == 8
    assert all(one["tabindex"] == "0" and one["role"] == "region" and one["aria-label"] for one in regions)
    assert len({one["aria-label"] for one in regions}) == len(regions)
    assert [attributes for tag, attributes in tags if tag == "svg" and attributes.get("role") == "img"]
    assert all(attributes.get("aria-label") for tag, attributes in tags if attributes.get("role") == "img")


def test_every_text_of_it_is_escaped():
    given = ReportFacts.model_validate(hostile(everything()))
    page = render(given)
    assert "<script" not in page
    assert "<img" not in page
    seen = text_of(page)
    for text in [text for text in texts(given.model_dump(exclude={"examples"})) if ATTACK in text]:
        plain = " ".join(text.split())
        assert text.startswith("5e0c") or plain in seen or plain.replace('"', '\\"') in seen


def test_the_figure_of_shares_leaves_out_what_is_none():
    plot = shares_plot({
        "b.share": Score(10, 0.2, 0.6, 0.4, (0.1, 0.7), 0.01, base_ci95=(0.1, 0.4), tuned_ci95=(0.5, 0.7)),
        "a.share": Score(10, 0.0, 1.0, 1.0, (0.9, 1.0), 0.01),
        "c.words": Score(10, 31.2, 24.6, -6.6, (-8.9, -4.1), 0.01),
    })  # fmt: skip
    assert plot is not None
    assert [band.name for band in plot.bands] == ["a.share", "b.share"]
    bare, known = plot.bands
    assert not bare.base.known
    assert bare.base.at == 0
    assert bare.tuned.at == plot.x[-1].at == 58
    assert (known.base.start, known.base.at, known.base.end) == pytest.approx((5.8, 11.6, 23.2))
    assert known.tuned.end < plot.zero < known.difference.start < known.difference.at < known.difference.end <= 100
    assert shares_plot({"c.words": Score(10, 31.2, 24.6, -6.6, (-8.9, -4.1), 0.01)}) is None


def test_a_point_of_the_calibration_curve_is_where_its_figures_say():
    plot = calibration_plot(everything().calibration["choice"])
    assert plot.tuned.dots[1][:2] == (97.0, 8.5)
    assert plot.base.line.split()[0] == "330.0,750.0"
    assert plot.tuned.dots[0][2] < plot.tuned.dots[1][2]  # fewer items, smaller dot
