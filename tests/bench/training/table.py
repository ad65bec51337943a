"""`docs/benchmarks.md`: of what was measured, the medians, how far rounds lie apart, and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.training.figures import FIGURES, TRAINERS

BEGIN, END = "<!-- written by `make bench` -->", "<!-- end of what `make bench` writes -->"
HEAD = ("figure", "Tunewright", "against", "it has", "ratio", "at least", "aim", "same work")
MEASURES = {"speed": "", "memory": ", peak memory", "time": ""}
Record = Mapping[str, Any]
"""What one figure left: its machine, its rows, and by side its rounds."""


def page(text: str, records: Mapping[str, Record]) -> str:
    """The page with everything between its marks written anew. Raises `ValueError` where a mark is missing."""
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"the page has no `{BEGIN}` with `{END}` after it")
    return f"{before}{BEGIN}\n\n{chr(10).join(_written(records))}\n\n{END}{after}"


def _written(records: Mapping[str, Record]) -> list[str]:
    known = {name: records[name] for name in [*FIGURES, "validate"] if name in records}
    if not known:
        return ["Nothing was measured yet."]
    return [
        _row(HEAD), "|---" * len(HEAD) + "|", *(line for name, one in known.items() for line in rows(name, one)), "",
        *_shares(known), "", *_sittings(known),
    ]  # fmt: skip


def rows(name: str, record: Record) -> list[str]:
    """A line for each measure and each other side."""
    if name == "validate":
        return [_validate(record)]
    figure = FIGURES[name]
    aims = {(measure, side): (least, aim) for measure, side, least, aim in figure.aims}
    made = []
    for measure in ("time",) if figure.does == "until" else ("speed", "memory"):
        for side in record["rounds"]:
            if side == "tunewright":
                continue
            sides = record["rounds"]["tunewright"], record["rounds"][side]
            found = ratio(*sides, measure)
            least, aim = (_factor(one, measure) for one in aims.get((measure, side), (None, None)))
            unlike = record["unlike"].get(side)
            made.append(
                _row((
                    f"{record['about']}{MEASURES[measure]}",
                    _value(sides[0], measure, record),
                    TRAINERS[side],
                    _value(sides[1], measure, record),
                    f"**{_factor(statistics.median(found), measure)}**{_spread(found, measure)}",
                    least,
                    aim,
                    "yes" if not unlike else f"no: {'; '.join(unlike)}",
                ))
            )  # fmt: skip
    return made


def ratio(ours: Sequence[Record], theirs: Sequence[Record], measure: str) -> list[float]:
    """How many times better ours is, round by round: sides of one round had the same machine."""
    pairs = zip(ours, theirs, strict=True)
    if measure == "memory":
        return [_memory(b) / _memory(a) for a, b in pairs]
    if measure == "time":
        return [b["seconds"] / a["seconds"] for a, b in pairs]
    return [(a["rows"] / a["seconds"]) / (b["rows"] / b["seconds"]) for a, b in pairs]


def share(rounds: Sequence[Record], flops: float, speed: float) -> float:
    """Of the speed that the machine's matrix products have, the share that the needed FLOPs were done at."""
    return statistics.median(one.get("flops", flops) / one["seconds"] for one in rounds) / speed


def _memory(one: Record) -> float:
    return float(one.get("cuda_peak_bytes") or one["peak_bytes"])


def _value(rounds: Sequence[Record], measure: str, record: Record) -> str:
    if measure == "memory":
        return f"{statistics.median(map(_memory, rounds)) / 1e9:.2f} GB"
    if measure == "time":
        seconds = statistics.median(one["seconds"] for one in rounds)
        return f"{seconds:.0f} s, {statistics.median(len(one['steps']) for one in rounds):.0f} steps"
    rates = [one["rows"] / one["seconds"] for one in rounds]
    unit = FIGURES[record["figure"]].unit
    tokens = (
        f", {statistics.median(rates) * record['tokens_per_row']:,.0f} tokens/s" if record["tokens_per_row"] else ""
    )
    return f"{statistics.median(rates):.3g} {unit}/s{_between(rates, '.3g')}{tokens}"


def _between(values: Sequence[float], form: str) -> str:
    return f" ({min(values):{form}}–{max(values):{form}})" if len(values) > 1 else ""


def _spread(ratios: Sequence[float], measure: str) -> str:
    if len(ratios) < 2:
        return ""
    low, high = (_factor(one, measure) for one in sorted((min(ratios), max(ratios)), reverse=measure == "memory"))
    return f" ({low}–{high})"


def _factor(value: float | None, measure: str) -> str:
    """A ratio as a person reads it: how many times as fast; of bytes, the share that is left."""
    if value is None:
        return ""
    return f"{1 / value:.2f}×" if measure == "memory" else f"{value:.3g}×"


def _shares(records: Mapping[str, Record]) -> list[str]:
    lines = [
        "The limit: what the job's mathematics need when what rows share is computed once, at the speed of the",
        "machine's own matrix products (the probe), and the share of that speed that each side reaches.",
        "",
        "| figure | needed | at the probe's speed | share reached |",
        "|---|---|---|---|",
    ]
    for name, one in records.items():
        if name == "validate" or FIGURES[name].does == "until":
            continue
        speed = one["machine"]["flops"][one["dtype"]]
        flops = one["flops"] or one["rounds"]["tunewright"][0]["flops"]
        shares = (f"{TRAINERS[side]} {100 * share(some, flops, speed):.1f} %" for side, some in one["rounds"].items())
        lines.append(_row((one["about"], f"{flops / 1e12:.3g} TFLOP", f"{flops / speed:.2f} s", " · ".join(shares))))
    return lines


def _sittings(records: Mapping[str, Record]) -> list[str]:
    """On what machine, with what, each figure was measured: those of one machine together."""
    grouped: dict[str, list[str]] = {}
    for name, one in records.items():
        grouped.setdefault(_machine(one), []).append(f"`{name}`{_how(name, one)}")
    return [f"- {', '.join(names)}: {machine}" for machine, names in grouped.items()]


def _how(name: str, record: Record) -> str:
    if name == "validate":
        return ""
    counts = f"{len(record['rounds']['tunewright'])} rounds of {record['count']} rows"
    return f" ({counts} of `{record['spec']}`{', not enough to claim anything' if record['quick'] else ''})"


def _machine(record: Record) -> str:
    if "machine" not in record:
        return f"{record['runs']} runs a side, {record['cores']} cores."
    one = record["machine"]
    speeds = ", ".join(f"{name} {flops / 1e12:.2f} TFLOP/s" for name, flops in one["flops"].items())
    flags = ", ".join(one["flags"]) or "no flags known"
    versions = ", ".join(f"{name} {number}" for name, number in one["versions"].items())
    return (
        f"{one['device']} with {flags}; {one['cores']} cores, {one['threads']} threads; a product of {one['gemm']}³ in "
        f"{speeds}; weights in {record['dtype']}; {versions}."
    )


def _validate(record: Record) -> str:
    ours, base = (f"{record[name] * 1000:.0f} ms" for name in ("validate", "imports"))
    ratio = f"**{record['validate'] / record['imports']:.2f}×**"
    return _row(("`validate`, one spec", ours, "the imports of such a command", base, ratio, "at most 1.8×", "", ""))


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def write(path: Path, records: Mapping[str, Record]) -> None:
    """Write the page in its place."""
    path.write_text(page(path.read_text("utf-8"), records), "utf-8")
