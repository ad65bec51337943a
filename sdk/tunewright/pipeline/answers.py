"""How base and tuned answer, whatever their scores: how long, and how often cut, declining or tied.

A tuned model that says less, or declines where the base helped, has changed in a way that no accuracy tells.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunewright.grading.refusal import declines
from tunewright.parts.evaluator import TIED, Graded

FACTOR = 1.5
"""By how much the mean length must change to be worth a line."""


def habits(graded: Sequence[Graded]) -> dict[str, Any]:
    """Counts over the answers of one side: plain numbers, for JSON.

    `items` were asked, `said` answered in the model's own words: the others chose among texts that were given. Of those
    said: `tokens` is their mean length without the terminator, None where there are none; `cut` stopped at the token
    limit; `refusals` begin by declining, as `tunewright.grading.refusal` can tell. `ties` are items whose likeliest
    choices were equally likely.
    """
    said = [one.answer for one in graded if one.answer.stopped != "given"]
    lengths = [len(answer.ids) - (answer.stopped == "terminator") for answer in said]
    return {
        "items": len(graded),
        "said": len(said),
        "tokens": sum(lengths) / len(lengths) if lengths else None,
        "cut": sum(answer.stopped == "limit" for answer in said),
        "refusals": sum(declines(answer.text) for answer in said),
        "ties": sum(one.grades.get(TIED, 0) > 0 for one in graded),
    }


def notable(answers: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """A line for each evaluation, `{base: habits, tuned: habits}`, that has something to tell; no line for the rest."""
    lines = ((name, ", ".join(_told(sides["base"], sides["tuned"]))) for name, sides in answers.items())
    return [f"{name}: {told}" for name, told in lines if told]


def _told(base: Mapping[str, Any], tuned: Mapping[str, Any]) -> Iterator[str]:
    for what, key in (("cut by the token limit", "cut"), ("tied", "ties")):
        if base[key] or tuned[key]:
            yield f"{what} {base[key]} (base) and {tuned[key]} (tuned) of {tuned['items']}"
    if base["refusals"] != tuned["refusals"]:
        yield f"declined {base['refusals']} before and {tuned['refusals']} after"
    if base["tokens"] is not None and tuned["tokens"] is not None and _apart(base["tokens"], tuned["tokens"]):
        yield f"mean length {base['tokens']:.1f} tokens before and {tuned['tokens']:.1f} after"


def _apart(one: float, other: float) -> bool:
    return max(one, other) > FACTOR * min(one, other)
