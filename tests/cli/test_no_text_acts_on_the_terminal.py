"""What a model, a row or a file says cannot move the cursor, rename the window or turn the line around."""

from __future__ import annotations

import io
import re
import sys

import pytest
from rich.table import Table
from rich.text import Text

from tunewright.cli import data, main
from tunewright.cli.chat import _converse
from tunewright.cli.progress import Progress
from tunewright.cli.tables import console, print_result
from tunewright.errors import BadInput
from tunewright.parts.engine import Completion

HOSTILE = "a\x1b]0;owned b\x1b[2J\u202ec\x9bd"
SHOWN = "a\ufffd]0;owned b\ufffd[2J\ufffdc\ufffdd"
ACTING = frozenset("\x1b\x9b\u202e")


def test_every_text_of_the_console_is_harmless_and_its_styles_stay(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("NO_COLOR", raising=False)
    table = Table(title=HOSTILE, header_style="bold")
    table.add_column(HOSTILE)
    table.add_column("next", overflow="fold")
    table.add_row(HOSTILE, Text(HOSTILE))
    out = console()
    out.print(table)
    out.print(HOSTILE)
    out.print(Text.assemble((f"{HOSTILE} and", "bold"), " plain"))
    said = capsys.readouterr().out
    assert f"\x1b[1m{SHOWN} and\x1b[0m plain" in said
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)  # rich's own styles
    assert not ACTING & set(plain)
    assert plain.count(SHOWN) == 5  # title, header, one cell, two lines
    assert plain.count("\ufffd") == 6 * SHOWN.count("\ufffd")  # the other cell is folded, and nothing of it lost


def test_a_reading_that_quotes_a_label_is_harmless(capsys):
    print_result({"scores": {}, "readings": [f"the majority class `{HOSTILE}` gives 90 %"], "gates": [], "parity": {},
                  "artifacts": {}, "steps": [], "status": "passed", "why": ""})  # fmt: skip
    assert f"`{SHOWN}`" in capsys.readouterr().out


def test_rows_and_errors_that_quote_one_are_harmless(monkeypatch, capsys):
    data._print_row({"origin": "train.csv:1", "example": {"prompt": HOSTILE, "completion": HOSTILE}})

    def refuse(*args, **given):
        raise BadInput(f"the row says {HOSTILE}")

    monkeypatch.setattr(main, "_only_typed", lambda: None)
    monkeypatch.setattr(main, "app", refuse)
    with pytest.raises(SystemExit):
        main.main()
    said = capsys.readouterr()
    assert not ACTING & set(said.out + said.err)
    assert "train.csv:1" in said.out
    assert "error: the row says a" in said.err


def test_what_a_run_tells_on_its_way_is_harmless():
    heard = io.StringIO()
    with Progress(heard) as progress:
        progress.hear({"event": "tracker-failed", "step": "train", "tracker": "one", "why": HOSTILE})
    assert not ACTING & set(heard.getvalue())


@pytest.mark.parametrize("terminal", [True, False])
def test_an_answer_is_harmless_at_a_terminal_and_as_it_is_in_a_pipe(monkeypatch, terminal):
    class Says:
        def complete(self, prompts, limit):
            return [Completion([1], HOSTILE, "terminator", [1])]

    class Form:
        def prompt_columns(self):
            return {"text"}

        def prompt(self, fields):
            return fields["text"]

    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr(sys, "stdout", out)
    _converse(Says(), Form(), 8, io.StringIO("hello\n"))
    assert bool(ACTING & set(out.getvalue())) != terminal
