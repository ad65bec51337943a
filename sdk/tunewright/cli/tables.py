"""What a person reads at the end: a run's table and a plan's, in 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunewright.cli.progress import clock
from tunewright.harmless import harmless
from tunewright.parts.gate import AGREEMENT, KL
from tunewright.pipeline.answers import notable
from tunewright.stats.holm import is_family
from tunewright.stats.visible import FEWEST_WINS

if TYPE_CHECKING:
    from rich.console import ConsoleOptions, RenderableType
    from rich.segment import Segment


class _Harmless(Console):
    """A console through which no text of a model, a row or a file reaches the terminal's own controls.

    Every text passes one of these two, before it is laid out; styles are put in after them and stay.
    """

    def render_str(self, text: str, **given: Any) -> Text:
        return super().render_str(harmless(text), **given)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        if isinstance(renderable, Text) and (shown := harmless(renderable.plain)) != renderable.plain:
            renderable = renderable.copy()
            renderable.plain = shown  # of equal length, so that its styles stand where they stood
        return super().render(renderable, options)


def console() -> Console:
    """Standard output; 80 columns where nobody says otherwise."""
    return _Harmless(highlight=False, soft_wrap=False)


def print_result(summary: Mapping[str, Any]) -> None:
    """Base against tuned, gates, and where everything is."""
    out = console()
    if summary["scores"]:
        out.print(_scores(summary["scores"]))
    for name, scores in summary.get("baselines", {}).items():
        out.print(Text(f"\nagainst {name}"))
        out.print(_scores(scores, name))
        for line in unanswered_lines(name, summary.get("unanswered", {})):
            out.print(Text(line))
    for sentence in summary.get("readings", ()):
        out.print(Text(sentence))
    for line in notable(summary.get("answers", {})):
        out.print(Text(f"answers  {line}"))
    for sentence in summary.get("unproven", ()):  # a run of an earlier version has none
        out.print(Text(sentence))
    looked_up = summary.get("contamination") or {"evaluations": {}}
    for looked in looked_up["evaluations"].values():
        if looked["message"]:
            out.print(Text(f"contaminated: {looked['message']}"))
        if looked.get("unknown"):  # a run of an earlier version has none
            out.print(Text(looked["unknown"]))
    for gate in summary["gates"]:
        mark = "passed" if gate["passed"] else "FAILED"
        out.print(Text(f"gate {mark}: {gate['gate']}; {gate['why']}"))
    if len(summary["parity"]) > 1:
        out.print(_forms(summary["parity"]))
        for line in _engines(summary["parity"]):
            out.print(Text(line))
    for form, found in summary["parity"].items():
        for why in found["refused"]:
            out.print(Text(f"left out of the package: {form}; {why}"))
    for form, search in summary.get("search", {}).items():
        _print_search(out, form, search)
    trained = summary.get("trained")
    if trained:
        share = 100 * trained["trainable"] / trained["total"]
        counts = f"{trained['trainable']:,} of {trained['total']:,} parameters ({share:.2g} %)"
        out.print(Text(f"trained  {counts}, {trained['bytes'] / 1e6:,.1f} MB saved"))
    for line in foretold_lines(summary["steps"]):
        out.print(Text(line))
    redone = [step for step in summary["steps"] if step["status"] == "done"]
    if not redone and summary["status"] == "passed":
        out.print(Text(f"nothing to do: all {len(summary['steps'])} steps were done before"))
    if summary["why"] and not summary["gates"]:
        out.print(Text(f"failed: {summary['why']}"))
    for name in ("report", "package"):
        if name in summary["artifacts"]:
            # a path is one word: soft wrapping would cut it at 80 columns
            out.print(Text(f"{name:<8} {summary['artifacts'][name]}"), soft_wrap=True)


def foretold_lines(steps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What was held at most against what was foretold, of the trainings: the next forecast's bar is made of it."""
    for step in steps:
        if step["name"].partition("-")[0] == "train" and step.get("forecast_bytes"):  # of an earlier version, none
            peak = step.get("peak_device_bytes") or step["peak_rss_bytes"]
            share = peak / step["forecast_bytes"] - 1
            held = f"{peak / 1e9:.2f} GB at most, {step['forecast_bytes'] / 1e9:.2f} foretold ({share:+.0%})"
            yield f"memory   {step['name']} held {held}"


def _scores(scores: Mapping[str, Any], against: str = "base") -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("score")
    several = is_family(score.get("p_adjusted") for score in scores.values())
    short = against if len(against) <= 8 else "it"
    for name in ("rows", short, "tuned", "change", "95 % interval", "p", *(["p Holm"] if several else [])):
        table.add_column(name, justify="right", no_wrap=True)
    for name, score in scores.items():
        table.add_row(
            name, f"{score['n']}", f"{score['base']:.3f}", f"{score['tuned']:.3f}", f"{score['delta']:+.3f}",
            *_chance(score), *([_given(score["p_adjusted"], ".2g")] if several else []),
        )  # fmt: skip
    return table


def _chance(score: Mapping[str, Any]) -> tuple[str, str]:
    """Interval and p-value of a difference; of a biased score, whose difference shows none, what to look at instead."""
    if score.get("compare_by"):  # a run of an earlier version does not tell
        return (f"biased: see {score['compare_by']}", "")
    low, high = score["ci95"]
    return (f"{low:+.3f} to {high:+.3f}", f"{score['p_value']:.2g}")


def _forms(parity: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("form")
    for name in ("same tokens", "KL, nats", "change", "95 % interval", "MB", "tokens/s"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, found in parity.items():
        interval = "" if found["ci95"] is None else "{:+.3f} to {:+.3f}".format(*found["ci95"])
        table.add_row(
            name, f"{found['agreement']:.1%}", _given(found["kl"], ".2g"), _given(found["delta"], "+.3f"), interval,
            f"{found['bytes'] / 1e6:,.1f}", _given(found["tokens_per_second"], ",.0f"),
        )  # fmt: skip
    return table


def _engines(parity: Mapping[str, Any]) -> Iterator[str]:
    """Which engine asked which forms: a line each, since the table has its 80 columns."""
    asked: dict[str, list[str]] = {}
    for form, found in parity.items():
        if "engine" in found:  # a run of an earlier version does not tell it of every form
            asked.setdefault(found["engine"], []).append(form)
    for engine, forms in asked.items():
        yield f"asked with {engine}: {', '.join(forms)}"


def _print_search(out: Console, form: str, search: Mapping[str, Any]) -> None:
    """What was tried of an export, and the line to write for what passed."""
    if len(search["tried"]) == 1:
        out.print(Text(f"nothing was searched: {form} is handed over as the spec writes it"))
        return
    out.print(_tried(search["tried"]))
    for number, one in enumerate(search["tried"]):
        # a line to paste is one word: soft wrapping would cut it at 80 columns
        out.print(Text(f"{number}: {one['written']}"), soft_wrap=True)
        for why in one["refused"]:
            out.print(Text(f"   refused: {why}"))
    if search["found"]:
        out.print(Text(f"{form} passes so; to write into the spec: {search['found']}"), soft_wrap=True)
    else:
        out.print(Text(f"none passes: {form} is not handed over"))


def _tried(tried: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("tried")
    for name in ("MB", "same tokens", "KL, nats", "score", "change", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    for number, one in enumerate(tried):
        size = _given(one["bytes"] and one["bytes"] / 1e6, ",.1f")
        figures = (f"{number}", size, _given(one["agreement"], ".1%"), _given(one["kl"], ".2g"))
        scores = {name: score for name, score in one["scores"].items() if name not in (AGREEMENT, KL)}
        for place, (name, score) in enumerate(scores.items()):
            interval, _ = _chance(score)
            table.add_row(*(figures if place == 0 else ("",) * 4), name, f"{score['delta']:+.3f}", interval)
        if not scores:
            table.add_row(*figures)
    return table


def _given(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def print_plan(found: Mapping[str, Any]) -> None:
    """Steps with what is cached, who asks for each evaluation, every effective argument and who set it."""
    out = console()
    steps = Table(box=None, pad_edge=False, header_style="bold")
    steps.add_column("step")
    steps.add_column("key")
    steps.add_column("")
    for step in found["steps"]:
        steps.add_row(step["name"], step["key"][:12], "reused" if step["cached"] else "will run")
    out.print(steps)
    out.print()
    for name, engine in found["asked_by"].items():
        out.print(Text(f"{name} is asked with {engine['kind']}"))
    for name in found["unanswered"]:
        for line in unanswered_lines(name, found["unanswered"]):
            out.print(Text(line))
    for name, shown in found["smallest_visible_effect"].items():
        for line in visible_lines(name, shown):
            # a line to search for is one: soft wrapping would cut it at 80 columns
            out.print(Text(line), soft_wrap=True)
    for name, prefixes in found["prefixes"].items():
        out.print(Text(prefix_line(name, prefixes)))
    for backend, names in found["arguments"].items():
        out.print()
        out.print(_arguments(backend, names))


def prefix_line(name: str, prefixes: Mapping[str, Any]) -> str:
    """What it saves on the prepared rows to compute once what a batch's rows begin with."""
    shuffled, alike = (
        "/".join(f"{times:.1f}x" for times in prefixes[order].values()) for order in ("shuffled", "by_prefix")
    )
    line = (
        f"{name}: shared beginnings leave {shuffled} fewer tokens in batches of {'/'.join(prefixes['shuffled'])} rows"
    )
    return f"{line}, {alike} with {prefixes['option']}" if prefixes["option"] else line


def unanswered_lines(baseline: str, unanswered: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """The evaluations that a baseline leaves out: it cannot be compared there."""
    for evaluation, why in unanswered.get(baseline, {}).items():
        yield f"{baseline} does not answer {evaluation}: {why}"


VISIBLE, RIGHT_OR_WRONG = "smallest visible effect", "of right or wrong answers"
"""The figures are of these alone: partial credit may show a smaller gain, by how it spreads."""


def visible_lines(name: str, shown: Mapping[str, Any]) -> Iterator[str]:
    """What an evaluation can show: the gain that no outcome can prove, and the one that is likely to be proven."""
    of = f"{shown['items']} items"
    if shown["clusters"] < shown["items"]:
        of += f" in {shown['clusters']} groups"
    if shown["clusters"] < FEWEST_WINS:
        yield f"{VISIBLE}  {name}: {of}, too few to show any"
    elif shown["points"] is None:
        yield f"{VISIBLE}  {name}: {of}, no share of them: it depends on how they spread"
    else:
        yield f"{VISIBLE}  {name}: {of}, {RIGHT_OR_WRONG} a gain under {_given_points(shown)} stays invisible"
        if shown["likely_points"] is not None:
            yield f"  four runs of five show one of {shown['likely_points']:g} points, if one item in five changes"
        parts = [f"{task} {_given_points(one)}" for task, one in shown["tasks"].items() if len(shown["tasks"]) > 1]
        if parts:
            yield f"  of its tasks alone: {', '.join(parts)}"


def _given_points(shown: Mapping[str, Any]) -> str:
    return "any gain" if shown["points"] is None else f"{shown['points']:g} points"


def _arguments(backend: str, names: Mapping[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(backend, no_wrap=True, min_width=30)
    table.add_column("value", overflow="fold", min_width=16)
    table.add_column("set by", overflow="fold")
    for name, argument in names.items():
        field = f": {argument['field']}" if argument["field"] else ""
        why = f", {argument['why']}" if argument["why"] else ""
        table.add_row(name, str(argument["value"]), f"{argument['set_by']}{field}{why}")
    return table


def seconds(value: float | None) -> str:
    """A duration, or a dash."""
    return "–" if value is None else clock(value)
