"""The page of data cards is what the suites' files say."""

from __future__ import annotations

from pathlib import Path

from tunewright_suites.cards import page

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "suite-cards.md"


def test_the_page_is_written_anew_when_a_suite_changes():
    assert PAGE.read_text("utf-8") == page(), "python -m tunewright_suites.cards > docs/explanation/suite-cards.md"
