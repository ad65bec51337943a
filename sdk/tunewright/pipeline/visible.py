"""What each evaluation of a spec can show, said by `plan`: its questions are known, and need no model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.parts import Evaluator
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import Graded, Item, Summary
from tunewright.pipeline.rows import AllRows, rows_of, test_rows
from tunewright.resolve import Resolved
from tunewright.stats.paired import clusters_of
from tunewright.stats.visible import Visible, visible


@dataclass(frozen=True)
class Shown:
    """Of an evaluation: what all its items can show, and what those of each task can, by the task's name.

    `share` says whether any of its scores is the mean of a grade, such as the share of right answers. Where none is,
    what is visible depends on how grades spread, and nobody knows that before they are made. Where one is, the figures
    are of right or wrong answers; whether its grades are only these is not known before either.
    """

    whole: Visible
    tasks: Mapping[str, Visible]
    share: bool

    def to_json(self) -> dict[str, Any]:
        """As `plan --json` has it; points are hundredths of a share."""
        tasks = {name: self._figures(one) for name, one in self.tasks.items()}
        return {**self._figures(self.whole), "tasks": tasks}

    def _figures(self, found: Visible) -> dict[str, Any]:
        return {
            "items": found.items,
            "clusters": found.clusters,
            "points": _points(found.floor) if self.share else None,
            "likely_points": _points(found.likely) if self.share else None,
        }


def _points(share: float | None) -> float | None:
    return None if share is None else round(100 * share, 1)


def shown_by(resolved: Resolved, rows: AllRows) -> dict[str, Shown]:
    """What each evaluation can show, by its name, from rows that were read. Raises as `Evaluator.items`."""
    return {evaluator.name: _shown(evaluator, _items(resolved, evaluator, rows)) for evaluator in resolved.evaluators}


def _items(resolved: Resolved, evaluator: Evaluator, rows: AllRows) -> list[Item]:
    claims = resolved.asked[evaluator.name]
    read = [rows_of(claimed.rows) for claimed in rows.claimed if claimed.claims.sources == claims.sources]
    return list(evaluator.items(test_rows(claims.format, read[0] if read else ())))  # else it brings its own


def _shown(evaluator: Evaluator, items: Sequence[Item]) -> Shown:
    tasks: dict[str, list[Item]] = {}
    for item in items:
        if item.task is not None:
            tasks.setdefault(item.task, []).append(item)
    less, summaries = evaluator.lower_is_better(), evaluator.summaries()
    share = any(metric not in less and _is_mean(metric, summary) for metric, summary in summaries.items())
    return Shown(_visible(items), {task: _visible(own) for task, own in tasks.items()}, share)


def _visible(items: Sequence[Item]) -> Visible:
    return visible(len(items), len(clusters_of(items)))


def _is_mean(metric: str, summary: Summary) -> bool:
    """Whether a summary averages the grade of its name: tried on three grades of which it knows nothing else."""
    probe = [
        Graded(Item(str(place), "", "", ""), Completion([], "", "given", []), {metric: grade})
        for place, grade in enumerate((0.0, 1.0, 1.0))
    ]
    try:
        return abs(summary(probe) - 2 / 3) < 1e-9
    except (KeyError, ArithmeticError, ValueError, IndexError):  # it is made of other grades
        return False
