"""A form of a model, asked in a process of its own: `python -m tunewright.pipeline.ask form.json`.

Nothing of the process that trained is there: what answers is what was written to disk, opened as a client would.
`tunewright.pipeline.apart` starts it. Questions come on stdin and answers go to stdout, a JSON object a line:

    {"ready": …}                         once, when the form is open: its identity, and what its subject offers
    {"do": "complete", …}                one of `complete`, `score`, `likeliest`, with its arguments
    {"progress": 3}                      while it works, as often as the engine tells
    {"done": …, "peak_rss_bytes": …}     what it found, and the most memory that this process has held so far
    {"refused": …}                       instead of either, where it is refused: the error's type, message, fix
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from tunewright import errors
from tunewright.host import Host
from tunewright.parts.engine import Continuation, Likeliest, Subject
from tunewright.pipeline.forms import Opener
from tunewright.pipeline.meter import Meter, peak_of_children

LIKELIEST = "likeliest"
KNOWN = (errors.BadInput, errors.EnvironmentFault, errors.Refused, errors.WorkFailed, errors.TunewrightError)
"""What may be refused here, and is then refused where it was asked, by the same exit code."""


def main(form_file: str) -> None:
    """Entry of the process: serves until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints is no answer
    form = json.loads(Path(form_file).read_text(encoding="utf-8"))
    saved, speaks = (Path(form[name]) if form[name] else None for name in ("saved", "speaks"))
    meter = Meter()
    try:
        with opener_of(form).served(Path(form["base"]), saved, speaks) as subject:
            offers = [LIKELIEST] if isinstance(subject, Likeliest) else []
            _say(answers, {"ready": {"identity": subject.identity, "offers": offers}})
            for line in sys.stdin:
                _answer(subject, json.loads(line), answers, meter)
    except errors.TunewrightError as error:
        _say(answers, _refused(error))


def opener_of(form: Mapping[str, Any]) -> Opener:
    """The backends that a form names."""
    host = Host(blocked=form["blocked"])
    parts = {name: host.make(name, options) for name, options in form["parts"].items()}
    return Opener(**parts, dtype=form["dtype"])


def _answer(subject: Subject, asked: Mapping[str, Any], answers: TextIO, meter: Meter) -> None:
    try:
        done = found(subject, asked, lambda count: _say(answers, {"progress": count}))
    except errors.TunewrightError as error:
        _say(answers, _refused(error))
        return
    _say(answers, {"done": done, "peak_rss_bytes": meter.peak_rss_bytes() + peak_of_children()})


def _refused(error: errors.TunewrightError) -> dict[str, Any]:
    """An error by the nearest of our own that it is one of: a plugin's may not be known where it is heard."""
    known = next(one for one in type(error).__mro__ if one in KNOWN)
    return {"refused": {"type": known.__name__, "message": error.message, "fix": error.fix}}


def found(subject: Subject, asked: Mapping[str, Any], progress: Callable[[int], None]) -> Any:
    """What a question finds, as plain JSON."""
    if asked["do"] == "complete":
        answers = subject.complete(asked["prompts"], asked["limit"], progress, together=asked["together"])
        return [asdict(answer) for answer in answers]
    rows = [Continuation(*row) for row in asked["rows"]]
    if asked["do"] == "score":
        return subject.score(rows, progress, together=asked["together"])
    assert isinstance(subject, Likeliest)  # it is asked of no other
    return [[list(place.items()) for place in row] for row in subject.likeliest(rows, asked["top"])]


def _say(answers: TextIO, what: Mapping[str, Any]) -> None:
    answers.write(json.dumps(what) + "\n")
    answers.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
