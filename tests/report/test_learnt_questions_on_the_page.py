"""The report's section on items that stand among the rows that are learnt."""

from __future__ import annotations

import html
import re

from report.sample import facts
from tunewright.report import render

SCORE = {"n": 97, "base": 0.0, "tuned": 0.901, "delta": 0.901, "ci95": [0.84, 0.95], "p_value": 1e-19}
FOUND = [
    {
        "origin": f"test.csv:{place}", "kind": kind, "similarity": 0.84, "row": f"train.csv:{place}", "rows": 1,
        "answer": True,
    }
    for place, kind in enumerate(["exact", "near", "near", "contained", "partial", *["near"] * 7], 2)
]  # fmt: skip
SEEN = {
    "threshold": 0.8,
    "trainings": [{"name": "", "rows": 10_003, "equal": 10, "otherwise": 1, "near": 139, "groups": 130}],
    "evaluations": {"heldout": {"items": 100, "removed": 4, "found": FOUND}, "legal": {"items": 48}},
    "clean": {"clean.heldout.exact_match": SCORE},
}


def text_of(page):
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).split())


def test_what_was_looked_up_and_found_is_told_with_the_scores_without_it():
    page = text_of(render(facts(contamination=SEEN)))
    assert (
        "heldout 100 1 9 1 1 12 4" in page
    )  # items, as they are, nearly, within a row, in part, with the answer, removed
    assert "legal 48 0 0 0 0 0 0" in page
    assert "training 10,003 10 1 139 130" in page
    assert "test.csv:2 train.csv:2 as it is 84 % 1 was there" in page
    assert "heldout 12, 10 shown" in page
    assert "heldout.exact_match 97 0.000 0.901 +0.901" in page.partition("Scores without these items")[2]


def test_of_a_run_that_asked_nothing_there_is_no_section():
    assert "among the rows that are learnt" not in render(facts(contamination=None))


def test_where_nothing_was_found_the_tables_say_so():
    clean = {**SEEN, "evaluations": {"heldout": {"items": 100}}, "clean": {}}
    page = text_of(render(facts(contamination=clean)))
    assert "heldout 100 0 0 0 0 0 0" in page
    assert "Scores without these items" not in page
