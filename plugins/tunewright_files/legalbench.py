"""`legalbench`: rows of LegalBench, one JSON object a line with `task`, `text` and `answer`; tasks by their names.

Source: Guha et al., LegalBench: A Collaboratively Built Benchmark for Measuring Legal Reasoning in Large Language
Models, NeurIPS 2023. A line is one row of a task's published table: its input as `text`, and its answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from tunewright.digest import digest_json
from tunewright.parts.base import BadOption, Head
from tunewright.parts.data_source import Broken, Row
from tunewright.spec.suggest import did_you_mean
from tunewright_files.jsonl import Jsonl, JsonlOptions
from tunewright_files.published import Unfit, text_at

COLUMNS = ("task", "text", "answer")
Pattern = Annotated[str, Field(min_length=1)]


class LegalBenchOptions(JsonlOptions):
    """Options of a legalbench source."""

    kind: str = "legalbench"
    tasks: Annotated[
        list[Pattern],
        Field(description="Tasks to take, by name or pattern as in `cuad_*`; by default all."),
    ] = []
    leave_out: Annotated[
        list[Pattern],
        Field(description="Tasks to leave out of these, by name or pattern: those that another source tests."),
    ] = []
    group: Annotated[
        Literal["task", "text", "none"],
        Field(description="Which rows count as one draw in intervals: those of a task, those on one text, or no two."),
    ] = "task"


class LegalBench(Jsonl):
    """Rows of the chosen tasks. Questions of a task, or on one document, are not independent: their group says so."""

    kind = "legalbench"
    Options: ClassVar = LegalBenchOptions
    options: LegalBenchOptions
    reads = frozenset({"path", "tasks", "leave_out", "group"})

    def head(self) -> Head:
        """The columns, and the rows of the first 64 KiB that are of the chosen tasks: there may be none."""
        return Head(COLUMNS, tuple(row for row in super().head().rows if self._takes(row["task"])))

    def rows(self) -> Iterator[Row | Broken]:
        tasks = set[str]()
        for row in super().rows():
            if isinstance(row, Broken):
                yield row
                continue
            tasks.add(row.fields["task"])
            if self._takes(row.fields["task"]):
                yield row
        self._refuse_unknown(tasks)

    def _takes(self, task: str) -> bool:
        chosen = not self.options.tasks or _matches(task, self.options.tasks)
        return chosen and not _matches(task, self.options.leave_out)

    def _refuse_unknown(self, tasks: set[str]) -> None:
        """A pattern that no task of the file matches is misspelt: what was meant would be missing, or be learnt."""
        for field in ("tasks", "leave_out"):
            for place, pattern in enumerate(getattr(self.options, field)):
                if not any(fnmatchcase(task, pattern) for task in tasks):
                    message = f"no task of `{self.name}` is called `{pattern}`"
                    raise BadOption("value-never-occurs", message, f"{field}.{place}", did_you_mean(pattern, tasks))

    def _row(self, number: int, line: str) -> Row | Broken:
        found = super()._row(number, line)
        if isinstance(found, Broken):
            return found
        try:
            fields = {column: text_at(found.fields, column) for column in COLUMNS}
        except Unfit as error:
            return Broken(found.origin, f"{error}: a row of LegalBench has `task`, `text` and `answer`")
        return Row(found.id, found.origin, fields, self._group(fields))

    def _group(self, fields: Mapping[str, str]) -> str | None:
        if self.options.group == "text":  # a document of pages, and written beside every answer: its digest will do
            return digest_json(fields["text"])
        return fields["task"] if self.options.group == "task" else None


def _matches(task: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(task, pattern) for pattern in patterns)
