"""What a parent learnt of the questions that judge its child: a package has no rows, but the ledger of its own run.

That ledger speaks for the items that it looked up, known again by their words, and for no others. So a child is judged
by questions that its parent was judged by, or by some of which nobody knows whether they were learnt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tunewright.data.own import Words
from tunewright.digest import digest_json

SHORT = 16
"""Hex digits by which a ledger knows an item again: of a million items two are alike once in some 37 million runs."""


class Known(NamedTuple):
    """Of a parent: the items that were looked up among all that it learnt, and what was found of them."""

    looked: frozenset[str] = frozenset()
    found: Mapping[str, Mapping[str, Any]] = {}


def known_by(ledger: Mapping[str, Any] | None, method: Mapping[str, Any]) -> Known:
    """What the ledger of a parent tells: nothing where it has none, or where it compared by another method."""
    if ledger is None or {name: ledger["method"].get(name) for name in method} != method:
        return Known()
    every = ledger["evaluations"].values()
    return Known(
        frozenset(item for one in every for item in one["looked"]),
        {found["item"]: found for one in every for found in one["found"]},
    )


def digest_of(prompt: Words, reference: Words) -> str:
    """By which an item is known again, whatever evaluation of whichever run asks it."""
    return digest_json([list(prompt), list(reference)])[:SHORT]


def joined(own: Mapping[str, Any] | None, told: Mapping[str, Any], kinds: Sequence[str]) -> dict[str, Any]:
    """What was found of an item among the run's own rows, where it was, and what its parent's ledger has: the surer by
    the order of `kinds`."""
    told = {**told, "training": "parent"}
    if own is None:
        return told
    best = min(own, told, key=lambda one: (kinds.index(one["kind"]), -one["similarity"]))
    either = {name: own[name] or told[name] for name in ("learnt", "answer")}
    return {**best, "rows": own["rows"] + told["rows"], **either}
