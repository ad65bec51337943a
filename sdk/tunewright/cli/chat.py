"""`chat`: a conversation with a run's tuned model at the terminal, each question put as the training put it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tunewright.cli.commands import engine_of, run_folder
from tunewright.errors import BadInput
from tunewright.harmless import harmless
from tunewright.host import Host
from tunewright.parts import PromptFormat
from tunewright.parts.engine import Subject
from tunewright.parts.loader import Message
from tunewright.pipeline.predict import limit_of, lock_of, open_tuned
from tunewright.secrets import redact

NEW, END = "/new", "/end"


def chat_with(run: Path, limit: int | None, engine: str | None, host: Host) -> None:
    """Read questions from stdin until its end or `/end`; answers go to stdout, everything else to stderr.

    Every column that the prompt names is asked for, so that a question here reads like a row of the data.
    """
    asks = engine_of(engine, host)
    folder = run_folder(run, needs="train")
    lock = lock_of(folder)
    form = host.make("prompt_format", lock["data"]["format"])
    _say(f"loading {lock['name']} …")
    with open_tuned(folder, host, asks) as subject:
        _say(f"each question is put as in the training; {NEW} begins anew, {END} or Ctrl-D ends")
        _converse(subject, form, limit or limit_of(lock), sys.stdin)


def _converse(subject: Subject, form: PromptFormat, limit: int, stream: TextIO) -> None:
    history: list[Message] = []
    for fields in _questions(sorted(form.prompt_columns()), stream):
        if fields is None:
            history = []
            _say("a new conversation")
            continue
        try:
            asked = form.prompt(fields)
        except BadInput as error:
            _say(f"{error}")
            continue
        began = time.monotonic()
        if isinstance(asked, str):  # plain text has no turns: each question stands alone
            answer = subject.complete([asked], limit)[0]
        else:
            said = [message for message in asked if not history or message["role"] != "system"]
            answer = subject.complete([[*history, *said]], limit)[0]
            history += [*said, {"role": "assistant", "content": answer.text}]
        text = redact(answer.text)
        print(harmless(text) if sys.stdout.isatty() else text, flush=True)
        cut = "cut at the limit, raise --max-new-tokens; " if answer.stopped == "limit" else ""
        _say(f"({cut}{len(answer.ids)} tokens in {time.monotonic() - began:.1f} s)")


def _questions(columns: list[str], stream: TextIO) -> Iterator[dict[str, str] | None]:
    """The columns of one question after another; None where a new conversation begins."""
    while True:
        fields: dict[str, str] = {}
        for column in columns:
            line = _ask(column, stream)
            if line is None or line == END:
                return
            if line == NEW:
                break
            fields[column] = line
        yield fields if len(fields) == len(columns) else None


def _ask(column: str, stream: TextIO) -> str | None:
    """One line that is not empty; None at the end of the input."""
    while True:
        if stream.isatty():
            print(f"{column}> ", end="", file=sys.stderr, flush=True)
        line = stream.readline()
        if not line:
            return None
        if line.strip():
            return line.strip()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
