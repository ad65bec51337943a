"""Ask a form of a model in a fresh process: `python -m tunewright.pipeline.ask form.json prompts.json out.json`.

Nothing of the process that trained is there: what answers is what was written to disk, opened as a client would.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewright.errors import WorkFailed
from tunewright.host import Host
from tunewright.parts.engine import Completion
from tunewright.parts.prompt_format import Text
from tunewright.pipeline.forms import Opener
from tunewright.store import disk


def form_of(opener: Opener, base: Path, saved: Path | None, blocked: Sequence[str]) -> dict[str, Any]:
    """Plain JSON from which anyone with the same plugins reopens the form."""
    parts = {part.part: part.options.model_dump(mode="json") for part in opener.parts()}
    return {
        "base": str(base),
        "saved": None if saved is None else str(saved),
        "dtype": opener.dtype,
        "parts": parts,
        "blocked": list(blocked),
    }


def ask_apart(
    form: Mapping[str, Any], prompts: Sequence[Text], limit: int, scratch: Path
) -> tuple[str, list[Completion]]:
    """(identity, answers) of a form asked in a fresh process, one prompt at a time. Raises `WorkFailed`."""
    form_file, prompts_file, out = scratch / "form.json", scratch / "prompts.json", scratch / "answers.json"
    disk.write(form_file, json.dumps(form).encode())
    disk.write(prompts_file, json.dumps({"prompts": prompts, "limit": limit}).encode())
    command = [sys.executable, "-m", "tunewright.pipeline.ask", str(form_file), str(prompts_file), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-8:])
        raise WorkFailed(f"the exported form could not be opened in a fresh process:\n{last}")
    answers = json.loads(out.read_text(encoding="utf-8"))
    return answers["identity"], [Completion(**answer) for answer in answers["answers"]]


def _opener(form: Mapping[str, Any]) -> Opener:
    host = Host(blocked=form["blocked"])
    parts = {name: host.make(name, options) for name, options in form["parts"].items()}
    return Opener(**parts, dtype=form["dtype"])


def main(form_file: str, prompts_file: str, out: str) -> None:
    """Entry of the fresh process."""
    form = json.loads(Path(form_file).read_text(encoding="utf-8"))
    asked = json.loads(Path(prompts_file).read_text(encoding="utf-8"))
    opener, saved = _opener(form), form["saved"]
    speaks = Path(form["speaks"]) if "speaks" in form else None
    opened = opener.served(Path(form["base"]), None if saved is None else Path(saved), speaks)
    with opened as subject:
        answers = subject.complete(asked["prompts"], asked["limit"], together=False)
        result = {"identity": subject.identity, "answers": [asdict(answer) for answer in answers]}
    disk.write(Path(out), json.dumps(result).encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
