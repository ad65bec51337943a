"""docs/how-to/when-nothing-is-learnt.md: every message of the guards is in its table, and no other."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/when-nothing-is-learnt.md").read_text("utf-8")
GUARDS = ("watch.py", "loop.py")


def written(node):
    """A message as the page has it: what is filled in is a `…`."""
    if isinstance(node, ast.Constant):
        return node.value
    return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)


def messages(path):
    """What each `raise WorkFailed(…)` of a file says, be it named `message` before or not."""
    for block in ast.walk(ast.parse(path.read_text("utf-8"))):
        body = getattr(block, "body", None)
        for place, statement in enumerate(body if isinstance(body, list) else []):
            call = statement.exc if isinstance(statement, ast.Raise) else None
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "WorkFailed":
                said = call.args[0]
                yield written(body[place - 1].value if isinstance(said, ast.Name) else said)


def test_the_table_holds_every_message_of_the_guards_and_no_other():
    listed = re.findall(r"^\| `(.+?)` \|", PAGE.replace("``", "`"), re.MULTILINE)
    found = [said.replace("`…`", "…") for name in GUARDS for said in messages(ROOT / "plugins/tunewright_trl" / name)]
    assert len(found) > 8
    assert sorted(listed) == sorted(found)


def test_what_the_run_itself_says_is_said_so():
    for path, said in (
        ("pipeline/tasks/train.py", "training changed no weight"),
        ("pipeline/tasks/evaluate.py", "what was trained does not take part"),
    ):
        assert said in PAGE
        assert said in (ROOT / "sdk/tunewright" / path).read_text("utf-8")


def test_the_readme_leads_there():
    assert "(docs/how-to/when-nothing-is-learnt.md)" in (ROOT / "README.md").read_text("utf-8")
