"""`compare` and `run --seeds`: runs side by side, and what two of them differ in, in 80 columns."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from tunewright.cli.progress import Progress
from tunewright.cli.tables import console, print_result
from tunewright.errors import BadInput, TunewrightError
from tunewright.host import Host
from tunewright.project import Project, blame, compare

if TYPE_CHECKING:
    from rich.console import Console

    from tunewright.parts.gate import Score
    from tunewright.pipeline.blame import Blamed, Differing, Flipped, Flips
    from tunewright.pipeline.compared import Compared
    from tunewright.stats.seeds import Between

LONGEST = 60  # characters of a value or an answer that a line shows; `--json` has all of it
_SET_BY = {"tunewright": "default", "": "?"}


def show_compared(runs: Sequence[Path], why: bool, most: int, host: Host, as_json: bool) -> None:
    """`compare`; `most` rows of a kind are shown. Raises `BadInput` where `why` is asked of other than two runs."""
    if why and len(runs) != 2:
        raise BadInput(f"`--why` tells what differs between two runs, not {len(runs)}", fix="name two runs")
    found = compare(*runs, host=host)
    blamed = blame(runs[0], runs[1], host) if why else None
    if as_json:
        told = {} if blamed is None else {"why": blamed.to_json(most)}
        print(json.dumps({**found.to_json(), **told}, ensure_ascii=False))
        return
    out = console()
    _print_compared(out, found)
    if blamed is not None:
        _print_blamed(out, blamed, most)


def run_seeds(
    spec: Path,
    overrides: Sequence[str],
    out: Path | None,
    host: Host,
    as_json: bool,
    search: Sequence[str],
    count: int,
) -> int:
    """`run --seeds`: the exit code is 1 where a gate of the spec fails under any seed.

    With `as_json` the object is that of the spec's own seed; `compared` in it holds all of them.
    """
    project = Project.from_spec(spec, overrides=overrides, host=host)
    try:
        with Progress(sys.stderr) as progress:
            found = project.run_seeds(count, out, progress.hear, search)
    except TunewrightError as error:
        if as_json and error.summary is not None:
            print(json.dumps(error.summary, ensure_ascii=False))
        raise
    summary = found.results[0].summary
    if as_json:
        print(json.dumps({**summary, "compared": found.compared.to_json()}, ensure_ascii=False))
    else:
        print_result(summary)
        print()
        _print_compared(console(), found.compared)
        for result in found.results[1:]:
            if not result.passed:
                console().print(Text(f"failed: {result.summary['run_dir']}; {result.summary['why']}"), soft_wrap=True)
    return 0 if all(result.passed for result in found.results) else 1


def _print_compared(out: Console, found: Compared) -> None:
    told = found.to_json()
    for run in told["runs"]:
        # a path is one word: soft wrapping would cut it at 80 columns
        out.print(Text(f"{run['run']}  {run['name']}, seed {run['seed']}  {run['run_dir']}"), soft_wrap=True)
    out.print(_scores(found, [run["run"] for run in told["runs"]]))
    for one in told["against_first"]:
        for kind, said in (("not compared", one["refused"]), ("note", one["notes"])):
            for name, sentence in said.items():
                out.print(Text(f"{kind}: {name} of {one['run']} and A; {sentence}"))
    for name, between in (found.seeds or {}).items():
        out.print(Text(f"{name}, by seed: {between if isinstance(between, str) else _by_seed(between)}"))


def _scores(found: Compared, names: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("score", overflow="fold")
    table.add_column("run")
    for name in ("rows", "score", "change", "95 % interval", "p", "p Holm"):
        table.add_column(name, justify="right", no_wrap=True)
    for metric, scores in found.scores.items():
        paired = [None, *(one.scores.get(metric) for one in found.against)]
        for place, (name, score, against) in enumerate(zip(names, scores, paired, strict=True)):
            table.add_row(metric if place == 0 else "", name, *_figures(score, against))
    return table


def _figures(score: float | None, against: Score | None) -> tuple[str, ...]:
    shown = "" if score is None else f"{score:.3f}"
    if against is None:
        return ("", shown)
    if against.compare_by is not None:
        return (f"{against.n}", shown, f"{against.delta:+.3f}", f"biased: see {against.compare_by}", "", "")
    low, high = against.ci95
    holm = "" if against.p_adjusted is None else f"{against.p_adjusted:.2g}"
    interval = f"{low:+.3f} to {high:+.3f}"
    return (f"{against.n}", shown, f"{against.delta:+.3f}", interval, f"{against.p_value:.2g}", holm)


def _by_seed(found: Between) -> str:
    low, high = found.ci95
    return (
        f"{found.gain:+.3f} over the base ({low:+.3f} to {high:+.3f}); {found.seeds} seeds lie {found.sd_seeds:.3f} "
        f"apart (standard deviation); the mean is off by {found.se_seeds:.3f} for the seeds and {found.se_items:.3f} "
        f"for the {found.n} items (standard errors)"
    )


def _print_blamed(out: Console, found: Blamed, most: int) -> None:
    if found.differing:
        out.print(_differences(found.differing))
    elif not found.rows:
        out.print(Text("\nnothing that has a name differs between A and B"))
    for rows in found.rows:
        order = ", in another order" if rows.reordered else ""
        counts = f"{rows.both} in both{order}, {rows.only_first} only in A, {rows.only_later} only in B"
        out.print(Text(f"rows of {rows.training}: {counts}"))
    out.print(Text(f"steps that are the same: {', '.join(found.same_steps) or 'none'}"))
    out.print(Text(f"steps that are not: {', '.join(found.other_steps) or 'none'}"))
    for sentence in filter(None, (found.unnamed, found.unreproducible)):
        out.print(Text(sentence))
    for name, flips in found.flips.items():
        for line in _flips(name, flips, most):
            out.print(Text(line))
    for name, why in found.refused.items():
        out.print(Text(f"rows of {name} cannot be told apart: {why}"))


def _differences(differing: Mapping[str, Sequence[Differing]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title="\nwhat differs", title_justify="left")
    for name in ("where", "what", "A", "B", "set by"):
        table.add_column(name, overflow="fold")
    for where, some in differing.items():
        for place, one in enumerate(some):
            row = (where if place == 0 else "", one.what, _short(one.first), _short(one.later), _by(one.set_by))
            table.add_row(*map(Text, row))
    return table


def _short(value: Any) -> str:
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) == 64 and not text.strip("0123456789abcdef"):  # a digest
        return f"{text[:12]}…"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def _by(set_by: Sequence[str]) -> str:
    if not any(set_by):
        return ""
    one, two = (_SET_BY.get(side, side) for side in set_by)
    return one if one == two else f"{one} → {two}"


def _flips(name: str, flips: Flips, most: int) -> Iterator[str]:
    if flips.metric is None:
        yield (
            f"\n{name}: of {flips.items} items {flips.otherwise} are answered otherwise; its scores are made of all "
            "items at once, and none is better or worse by itself"
        )
        return
    yield (
        f"\n{name}.{flips.metric}: of {flips.items} items B does {len(flips.won)} better and {len(flips.lost)} worse; "
        f"{flips.otherwise} are answered otherwise"
    )
    for kind, some in (("better", flips.won), ("worse", flips.lost)):
        for one in some[:most]:
            yield from _flipped(kind, one)
        if len(some) > most:
            yield f"  and {len(some) - most} more that B does {kind}: raise --rows"


def _flipped(kind: str, one: Flipped) -> Iterator[str]:
    before, after = one.grades
    where = "the answers are equal" if one.token is None else f"other from token {one.token} on"
    if one.retokenized:
        where = "the prompt's own tokens are others"
    yield f"  {kind}: {one.origin}, {before:g} → {after:g}; {where}"
    for who, text in (("right", one.reference), ("A", one.first), ("B", one.later)):
        yield f"    {who:<6} {_line(text)}"


def _line(text: str) -> str:
    """An answer on one line, with its line ends shown."""
    shown = text.replace("\n", "↵")
    return shown if len(shown) <= LONGEST else f"{shown[: LONGEST - 1]}…"
