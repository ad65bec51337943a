"""The data cards of the installed suites as a page.

python -m tunewright_suites.cards > docs/explanation/suite-cards.md
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from textwrap import fill

from tunewright_suites.files import INSTALLED, Suite, installed, load

ABOUT = """\
# Data cards of the suites

Written from each suite's `suite.yaml` by `python -m tunewright_suites.cards`. How the items came about is in
[The domain suites](domain-suites.md), how answers are graded in [Evaluate a model](../how-to/evaluate.md)."""


def page() -> str:
    """One card a suite, in Markdown. The canaries stay in their files: here they would prove nothing any more."""
    return "\n\n".join([ABOUT, *("\n\n".join(_card(load(INSTALLED / name, "name"))) for name in installed())]) + "\n"


def _card(suite: Suite) -> Iterator[str]:
    head, counts = suite.head, Counter(line.task for _, line in suite.lines)
    yield f"## {head.name}"
    yield f"Version {head.version}, {len(suite.lines)} items, English, licence {head.licence}."
    yield fill(head.about, 120, break_on_hyphens=False)
    rows = [f"| `{name}` | {task.form} | {counts[name]} |" for name, task in head.tasks.items()]
    yield "\n".join(["| task | form | items |", "|---|---|---|", *rows])


if __name__ == "__main__":
    print(page(), end="")
