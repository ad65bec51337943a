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


def caret(line, column, end):
    place = Position("a.yaml", 1, column, end)
    return render_text([Problem("x", "m", place)], {"a.yaml": [line]}).splitlines()[1:]


def test_the_caret_stands_under_its_word_behind_tabs_and_wide_letters():
    assert caret("\tkey: 1", 2, 5)[1] == "     | \t^^^"
    assert caret("語語: x", 5, 6)[1] == "     | " + " " * 6 + "^"
    assert caret("語語: x", 1, 3)[1] == "     | ^^^^"
    assert caret("e\u0301: x", 5, 6)[1] == "     | " + " " * 3 + "^"


def test_of_a_long_line_the_part_around_the_place_is_shown():
    shown, pointer = caret("a" * 300 + "HERE" + "b" * 300, 301, 305)
    assert len(shown) < 140
    assert shown[pointer.index("^") :].startswith("HERE")
    assert pointer.count("^") == 4
    assert max(map(len, caret("x" * 100_000, 1, 100_001))) < 140


def test_file_names_are_escaped_for_github():
    shown = render_github([Problem("x", "a: b, 100%", Position("a,b:c%.yaml", 1, 2, 3))])
    assert shown == "::error file=a%2Cb%3Ac%25.yaml,line=1,col=2,endColumn=3,title=x::a: b, 100%25"
