"""`validate`: every problem of every spec, in the form that is asked for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tunewright.host import Host
from tunewright.resolve import resolve
from tunewright.spec.problems import Problem, SpecError, render_github, render_json, render_text


def validate_all(specs: Sequence[Path], form: str, overrides: Sequence[str], host: Host) -> int:
    """Print what is wrong with all specs; the exit code."""
    problems: list[Problem] = []
    sources: dict[str, Sequence[str]] = {}
    for spec in specs:
        try:
            resolve(spec, host, overrides)
        except SpecError as error:
            problems += error.problems
            sources.update(error.sources)
    if form == "json":
        print(render_json(problems))
    elif form == "github" and problems:
        print(render_github(problems))
    elif form == "text" and problems:
        print(render_text(problems, sources), file=sys.stderr)
    if form == "text":
        print(_verdict(len(specs), len(problems)), file=sys.stderr if problems else sys.stdout)
    return 2 if problems else 0


def _verdict(specs: int, problems: int) -> str:
    what = f"{specs} spec{'s' * (specs != 1)}"
    return f"{what}: {problems} problem{'s' * (problems != 1)}" if problems else f"{what}: fine"
