"""`suite`: the items of a suite, asked one by one and graded by the form of their task."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, PositiveInt

from tunewright.grading import code
from tunewright.parts import Evaluator, Facts, Finding, SpecPath
from tunewright.parts.base import BadOption
from tunewright.parts.engine import Completion
from tunewright.parts.evaluator import EvaluatorOptions, Item, Summary, TestRow, mean_of
from tunewright_suites import files, forms
from tunewright_suites.files import Suite

LONGEST = max(forms.LIMITS.values())


class SuiteOptions(EvaluatorOptions):
    """Options of a suite."""

    kind: str = "suite"
    suite: Annotated[str | None, Field(description="Which of the installed suites; by default that of `name`.")] = None
    path: Annotated[
        SpecPath | None, Field(description="A folder with a `suite.yaml` and a `suite.jsonl` of your own.")
    ] = None
    max_new_tokens: Annotated[
        PositiveInt,
        Field(
            description=f"Longest answer in tokens. By default {LONGEST}, and less for forms of short answers; any "
            "other value is that of all forms, as for a model that thinks before it answers."
        ),
    ] = LONGEST


class SuiteEvaluator(Evaluator[SuiteOptions]):
    """Asks every item of a suite and grades each answer from 0 to 1 by the form of its task.

    `score` is the mean over all items, the name of each task the mean over its own. Besides there are, where the suite
    has such items, `exact_match` of spans, `valid_json` (objects that keep their schema) and `over_refusal`: the share
    of harmless requests that the model declines. A suite's version and the digest of its files are in the key.

    It has items of its own, and `data.test` is not asked.
    """

    kind = "suite"
    Options: ClassVar = SuiteOptions
    extra = "train"
    libraries = ("jsonschema",)
    consumes = ()
    reads = frozenset({"suite", "path"})
    vary: ClassVar = {"suite": ("legal", "support")}

    @property
    def name(self) -> str:
        """Prefix of its scores; by default the suite's own name."""
        if self.options.name or not self.options.path:
            return self.options.name or self.options.suite or self.kind
        return self._readable.head.name if self._readable else self.kind

    @cached_property
    def suite(self) -> Suite:
        """Its suite. Raises `BadOption`."""
        return files.load(self.options.path.path if self.options.path else self._installed(), self._field)

    @property
    def _readable(self) -> Suite | None:
        """Its suite; None where it cannot be read, for what is asked before `check` has said so."""
        try:
            return self.suite
        except BadOption:
            return None

    @property
    def _field(self) -> str:
        """The option that says which suite."""
        return "path" if self.options.path else "suite" if self.options.suite else "name"

    def _installed(self) -> Path:
        wanted, known = self.options.suite or self.options.name, files.installed()
        if wanted is None:
            fix = f"write `name: {known[0]}`; there are {', '.join(known)}; `path` takes a folder of your own"
            raise BadOption("missing-key", "it is not said which suite", "kind", fix)
        if wanted not in known:
            fix = f"there are {', '.join(known)}; `suite` names one whose scores have another `name`, `path` a folder"
            raise BadOption("bad-value", f"there is no suite `{wanted}`", self._field, fix)
        return files.INSTALLED / wanted

    def check(self, facts: Facts) -> Iterable[Finding]:
        if self.options.path is not None and self.options.suite is not None:
            yield Finding("bad-value", "`suite` names an installed suite and `path` another: leave one out", "suite")
            return
        try:
            _ = self.suite
        except BadOption as error:
            yield error.finding

    def lacking(self) -> str | None:
        if find_spec("jsonschema") is None:
            return 'it holds answers against schemas and needs jsonschema: pip install "tunewright[train]"'
        return None

    def versions(self) -> dict[str, str]:
        """The suite's files are part of what it is: another version is another evaluation."""
        head = self.suite.head
        return super().versions() | code() | {f"suite {head.name} {head.version}": self.suite.digest}

    def items(self, data: Sequence[TestRow]) -> Iterable[Item]:
        files.refuse_schemas(self.suite, self._field)
        for origin, line in self.suite.lines:
            task = self.suite.head.tasks[line.task]
            prompt = [{"role": "user", "content": forms.asked(line, task)}]
            choices = forms.choices(line, task)
            yield Item(line.id, origin, prompt, forms.reference(line, task), line.group, choices, line.task)

    def limit(self, item: Item) -> int:
        if self.options.max_new_tokens != LONGEST:
            return self.options.max_new_tokens
        return forms.LIMITS[self.suite.head.tasks[self._lines[item.id].task].form]

    @cached_property
    def _lines(self) -> Mapping[str, files.Line]:
        return {line.id: line for _, line in self.suite.lines}

    def grade(self, item: Item, answer: Completion) -> dict[str, float]:
        line = self._lines[item.id]
        grades = forms.grade(line, self.suite.head.tasks[line.task], answer.text)
        return grades | {line.task: grades["score"]}

    def label(self, item: Item, text: str) -> str | None:
        """Of tasks of labels and of choices, as they are graded; those of other forms have none."""
        line = self._lines[item.id]
        return forms.label(line, self.suite.head.tasks[line.task], text)

    def summaries(self) -> Mapping[str, Summary]:
        if self._readable is None:
            return {}
        tasks = self.suite.head.tasks
        found = ["score", *tasks]
        besides = {"exact_match": "span", "valid_json": "json"}
        found += [metric for metric, form in besides.items() if any(task.form == form for task in tasks.values())]
        if any(line.reference == "answer" and tasks[line.task].form == "refusal" for _, line in self.suite.lines):
            found.append("over_refusal")
        return {metric: mean_of(metric) for metric in found}

    def lower_is_better(self) -> frozenset[str]:
        return frozenset({"over_refusal"}) & frozenset(self.summaries())

    def largest(self) -> Mapping[str, float]:
        return dict.fromkeys(self.summaries(), 1.0)
