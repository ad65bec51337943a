"""`validate`: every problem of every spec, in the form that is asked for."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from tunewright.harmless import harmless
from tunewright.host import Host
from tunewright.resolve import resolve
from tunewright.spec.problems import Problem, SpecError, render_github, render_json, render_text


def those_that_are_specs(paths: Sequence[Path]) -> list[Path]:
    """The files that say `apiVersion: tunewright/…` on a line of their own, and those that cannot be read."""
    return [path for path in paths if _is_spec(path)]


def _is_spec(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(1 << 20)
    except OSError:  # the check itself says why
        return True
    return re.search(rb"^['\"]?apiVersion['\"]?\s*:\s*['\"]?tunewright/", start, re.MULTILINE) is not None


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
    problems = list(dict.fromkeys(problems))  # a base that two specs extend is said once
    if form == "json":
        print(render_json(problems))
    elif form == "github" and problems:
        print(render_github(problems))
    elif form == "text" and problems:
        print(harmless(render_text(problems, sources)), file=sys.stderr)
    if form == "text":
        print(_verdict(len(specs), len(problems)), file=sys.stderr if problems else sys.stdout)
    return 2 if problems else 0


def _verdict(specs: int, problems: int) -> str:
    what = f"{specs} spec{'s' * (specs != 1)}"
    return f"{what}: {problems} problem{'s' * (problems != 1)}" if problems else f"{what}: fine"
