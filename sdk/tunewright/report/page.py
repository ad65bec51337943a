"""A run's facts as one HTML file, opened without a network, the same bytes for the same facts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.data.statistics import Bin, ClassCount
from tunewright.harmless import harmless
from tunewright.parts.gate import AGREEMENT, KL, Score
from tunewright.report.facts import Data, LossCurve, MemoryCurve, ReportFacts, Stage
from tunewright.report.plots import calibration_plot, interval_plots, loss_plot, memory_plot, shares_plot
from tunewright.stats.holm import is_family

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
SHOWN_ITEMS = 10
"""Items of an evaluation that the page names of those that stand among the rows that are learnt."""
MOST_LABELS = 20
"""Labels whose measures stand open on the page; those of more are folded in."""


def render(facts: ReportFacts) -> str:
    """The report as HTML. Every text of the facts is escaped, and the page forbids itself to load or run anything.

    Raises ModuleNotFoundError where jinja2 is not installed.
    """
    from markupsafe import Markup

    forms = _of_forms(facts)
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    fingerprint = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return (
        _environment()
        .get_template("report.html")
        .render(
            facts=facts,
            style=Markup(style),
            policy=f"default-src 'none'; style-src 'sha256-{fingerprint}'; base-uri 'none'; form-action 'none'",
            intervals=interval_plots(facts.scores),
            forms=forms,
            measures=(AGREEMENT, KL),
            form_intervals=interval_plots(forms),
            clean_intervals=interval_plots(facts.contamination.clean if facts.contamination else {}),
            kinds={
                "exact": "as it is",
                "near": "nearly",
                "contained": "within a longer row",
                "partial": "in large part",
            },
            shown_items=SHOWN_ITEMS,
            most_labels=MOST_LABELS,
            counts=[(name, one) for name, one in _rows(facts) if one.lengths or one.classes],
            curves=[
                (name, loss, loss_plot(loss), memory_plot(memory)) for name, loss, memory in _curves(facts) if loss
            ],
            shares=shares_plot(facts.scores),
            calibrations={name: calibration_plot(found) for name, found in facts.calibration.items()},
        )
    )


def _of_forms(facts: ReportFacts) -> dict[str, Score]:
    """The evaluations of every form that answered otherwise: those of the others are the trained form's own."""
    return {
        f"{form} {name}": score
        for form, parity in facts.parity.items()
        for name, score in parity.scores.items()
        if name not in (AGREEMENT, KL) and (parity.agreement < 1 or score.delta)
    }


def _rows(facts: ReportFacts) -> Sequence[tuple[str, Stage | Data]]:
    """What is counted of the rows of every training, by its stage's name."""
    return [(one.name, one) for one in facts.stages] or [("", facts.data)]


def _curves(facts: ReportFacts) -> list[tuple[str, LossCurve, MemoryCurve]]:
    """Loss and memory of every training, by its stage's name."""
    return [(one.name, one.loss, one.memory) for one in facts.stages] or [("", facts.loss, facts.memory)]


@cache  # it holds the compiled page, and compiling takes longer than all the rest of a small run's report
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    environment.filters.update(
        number=number,
        signed=signed,
        bound=bound,
        chance=chance,
        small=small,
        share=share,
        size=size,
        duration=duration,
        value=value,
        binned=binned,
        counted=counted,
    )
    environment.tests["family"] = _are_adjusted
    return environment


def _are_adjusted(scores: Mapping[str, Score]) -> bool:
    return is_family(score.p_adjusted for score in scores.values())


def _harmless(given: Any) -> Any:
    return given if not isinstance(given, str) or hasattr(given, "__html__") else harmless(given)


def number(given: float) -> str:
    """A score: three digits after the point; four significant ones from 1,000 on."""
    return (f"{given:.3f}" if abs(given) < 1000 else f"{given:,.0f}").replace("-", "\u2212")


def signed(given: float) -> str:
    """A difference with its sign; nothing has none."""
    shown = number(given)
    return f"+{shown}" if given > 0 and any(digit in "123456789" for digit in shown) else shown


def bound(given: float) -> str:
    """An end of an axis, which is a round number."""
    return f"{given:+,.6g}".replace("-", "\u2212") if given else "0"


def chance(given: float) -> str:
    """A p-value."""
    return "< 0.001" if given < 0.001 else f"{given:.3f}"


def small(given: float) -> str:
    """A divergence: two significant digits."""
    return f"{given:.2g}" if given >= 1e-6 else "0"


def share(part: float, whole: float = 1.0) -> str:
    """A part in percent, two significant digits below ten percent."""
    percent = 100 * part / whole if whole else 0.0
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.1f} %".replace(".0 %", " %")


def size(given: int | None) -> str:
    """Bytes in decimal units."""
    if given is None:
        return "\u2013"
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if given >= factor:
            return f"{given / factor:.{2 if unit == 'GB' else 1}f} {unit}"
    return f"{given} B"


def duration(given: float | None) -> str:
    """Seconds as people say them."""
    if given is None:
        return "\u2013"
    if given < 60:
        return f"{given:.1f} s"
    minutes, seconds = divmod(round(given), 60)
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest:02} min" if hours else f"{minutes} min {seconds:02} s"


def binned(given: Bin) -> tuple[str, int]:
    """The lengths that a bin holds, and its rows."""
    return (f"{given.low:,}" if given.low == given.high else f"{given.low:,}\u2013{given.high:,}", given.rows)


def counted(given: ClassCount) -> tuple[str, int]:
    """A class on one line, and its rows."""
    return (" ".join(given.answer.split()), given.rows)


def value(given: Any) -> str:
    """An argument as the spec would have it."""
    return (
        given
        if isinstance(given, str) and given
        else json.dumps(given, ensure_ascii=False, sort_keys=True, default=str)
    )
