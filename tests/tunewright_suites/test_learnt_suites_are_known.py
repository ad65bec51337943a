"""Whoever trained on the texts of a suite, in whatever form, has learnt its items: each of them is told."""

from __future__ import annotations

from types import SimpleNamespace

from tunewright import Host
from tunewright.parts.prompt_format import Example
from tunewright.pipeline.seen import Learnt, ledger
from tunewright_suites.files import installed


class Plain:
    """A format for rows that hold their example."""

    def example(self, fields):
        return fields["example"]


def test_every_item_of_every_suite_is_found_among_the_raw_texts():
    host = Host()
    suites = [host.make("evaluator", {"kind": "suite", "name": name}) for name in installed()]
    items = {suite.name: list(suite.items([])) for suite in suites}
    rows = [
        SimpleNamespace(origin=f"{suite.name} {line.id}", fields={"example": Example(line.text, "noted")})
        for suite in suites
        for _, line in suite.suite.lines
    ]
    source = SimpleNamespace(name="texts", rows=rows, set_aside=[])
    looked = ledger([Learnt("", Plain(), [source])], items)["evaluations"]
    missed = {
        name: {item.id for item in some} - {one["id"] for one in looked[name]["found"]} for name, some in items.items()
    }
    assert missed == {name: set() for name in items}
    assert all(one["row"] == f"{name} {one['id']}" for name in items for one in looked[name]["found"])
    assert sum(one["kind"] == "partial" for name in items for one in looked[name]["found"]) >= 30  # those with choices
