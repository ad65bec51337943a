"""The forecast of memory in 80 columns, and what to change where it does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from tunewright.cli.tables import console

GB = 1_000_000_000
LARGEST = 3  # terms that are named


def print_forecast(forecast: Mapping[str, Any]) -> None:
    """A line a step, of its heaviest phase: how much, between what and what, and what most of it is."""
    out = console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("memory", no_wrap=True)
    for name in ("GB", "from – to"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("mostly")
    for step in forecast["steps"]:
        for phase in sorted(step["phases"], key=lambda phase: -phase["bytes"])[:1]:
            terms = sorted(phase["terms"].items(), key=lambda term: -term[1])[:LARGEST]
            table.add_row(
                step["step"], gigabytes(phase["bytes"]), f"{gigabytes(phase['low'])} – {gigabytes(phase['high'])}",
                ", ".join(f"{term} {gigabytes(size)}" for term, size in terms),
            )  # fmt: skip
    out.print()
    if table.row_count:
        out.print(table)
    for step in forecast["steps"]:
        if step["unknown"]:
            out.print(Text(f"no forecast of {step['step']}: {step['unknown']}"))
    bases = {step["basis"] for step in forecast["steps"] if step["basis"]}
    measured = max((step["measured"] for step in forecast["steps"]), default=0)
    known = (
        f"the bar is of {measured} measured before" if measured else "the bar is of the benchmark, none measured yet"
    )
    if bases:
        out.print(Text(f"{'; '.join(sorted(bases))}; {known}"))


def print_proposal(proposal: Mapping[str, Any], *, asked: bool) -> None:
    """The changes, each with its cost and what it saves, and the line to run with."""
    out = console()
    limit = f"{gigabytes(proposal['limit_bytes'])} GB"
    into = limit if asked else f"the {limit} that are free here"
    if proposal["fits"] and not proposal["changes"]:
        out.print(Text(f"fits into {into}: at most {gigabytes(proposal['bytes'])} GB"))
        return
    if proposal["fits"]:
        out.print(Text(f"fits into {into}, at most {gigabytes(proposal['bytes'])} GB, with:"))
    else:
        nearest = f"{gigabytes(proposal['bytes'])} GB with all that saves memory"
        out.print(Text(f"does not fit into {into}: still up to {nearest}"))
        out.print(Text("take a smaller base, or shorter rows (`trainer.max_length` refuses longer ones)"))
    for change in proposal["changes"]:
        for line in change["sets"]:
            # a line to paste is one word: soft wrapping would cut it at 80 columns
            out.print(Text(f"  --set '{line}'"), soft_wrap=True)
        saved = gigabytes(change["before"] - change["after"])
        out.print(Text(f"    {saved} GB less, {gigabytes(change['after'])} GB in all; {change['costs']}"))


def gigabytes(size: int) -> str:
    """`1.2`: 10^9 bytes, as memory is sold by."""
    return f"{size / GB:,.2f}" if size < 10 * GB else f"{size / GB:,.1f}"
