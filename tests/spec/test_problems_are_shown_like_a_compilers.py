"""One form for all problems: place, code, sentence, the line with a caret, the fix."""

from __future__ import annotations

import json

from tunewright.spec.problems import Position, Problem, render_github, render_json, render_text

PROBLEM = Problem(
    "unknown-key",
    "`learing_rate` is not an option of trainer `sft`",
    Position("client.yaml", 2, 3, 15),
    "did you mean `learning_rate`?",
)


def test_text_points_at_the_word():
    shown = render_text([PROBLEM], {"client.yaml": ["trainer:", "  learing_rate: 2e-4"]})
    assert shown.splitlines() == [
        "client.yaml:2:3: error[unknown-key]: `learing_rate` is not an option of trainer `sft`",
        "   2 |   learing_rate: 2e-4",
        "     |   ^^^^^^^^^^^^ did you mean `learning_rate`?",
    ]


def test_json_has_the_documented_keys():
    (found,) = json.loads(render_json([PROBLEM]))
    assert list(found) == ["file", "line", "column", "end_column", "code", "message", "suggestion"]
    assert (found["line"], found["column"], found["end_column"]) == (2, 3, 15)


def test_github_annotations_stay_on_one_line():
    shown = render_github([Problem("x", "two\nlines 100%", Position("a.yaml", 1, 2, 3))])
    assert shown == "::error file=a.yaml,line=1,col=2,endColumn=3,title=x::two%0Alines 100%25"
