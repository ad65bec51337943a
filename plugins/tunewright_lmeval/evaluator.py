"""`lm-eval`: the tasks of lm-evaluation-harness, asked of the very model that the engine opened."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, NonNegativeInt, PositiveInt

from tunewright.parts import Cap, Evaluator, Facts, Finding, Need, SpecPath
from tunewright.parts.engine import Subject
from tunewright.parts.evaluator import TIED, EvaluatorOptions, Graded, Item, Progress, Summary, TestRow
from tunewright_lmeval import library
from tunewright_lmeval.metrics import LARGEST, LOWER, grades_of, summary_of
from tunewright_lmeval.questions import origin_of

if TYPE_CHECKING:
    from tunewright_lmeval.model import SubjectModel
    from tunewright_lmeval.tasks import Tasks

Named = Annotated[str, Field(min_length=1)]


class LmEvalOptions(EvaluatorOptions):
    """Options of lm-eval."""

    kind: str = "lm-eval"
    tasks: Annotated[
        list[Named],
        Field(
            min_length=1,
            description="Tasks, groups or tags, by lm_eval's names. The scores of a group are over all its documents "
            "together; of several names each has scores of its own, called `<task>.<metric>`.",
        ),
    ]
    include: Annotated[
        SpecPath | None, Field(description="A folder of task files of your own, relative to the spec that names it.")
    ] = None
    metrics: Annotated[
        list[Named], Field(min_length=1, description="Scores to make, by the names that every task has for them.")
    ] = ["acc"]
    filter: Annotated[
        Named | None, Field(description="Which reading of an answer counts, where the tasks have several.")
    ] = None
    lower_is_better: Annotated[
        list[Named], Field(description="Metrics of the tasks' own that a better model makes smaller.")
    ] = []
    few_shot: Annotated[
        NonNegativeInt | None, Field(description="Examples before each question; by default what each task says.")
    ] = None
    limit: Annotated[PositiveInt | None, Field(description="The first so many documents of each task alone.")] = None
    chat: Annotated[
        bool, Field(description="Questions are put as a conversation by the model's chat template, not as plain text.")
    ] = False
    max_new_tokens: Annotated[
        PositiveInt, Field(description="Longest answer in tokens; a task that asks for a shorter one gets that.")
    ] = 256  # lm_eval's own
    max_length: Annotated[
        int, Field(ge=2, description="Tokens that the model reads at once of a task's whole texts, as for perplexity.")
    ] = 512


class LmEval(Evaluator[LmEvalOptions]):
    """Every document of the tasks is an item, `<task>:<document>`, graded by lm_eval's own code.

    lm_eval is given the subject in place of a model of its own, so what is measured is what the engine opened, base or
    tuned, by whatever digest that proves; it loads none. Its prompts, tokens, filters and metrics are its own; scores,
    intervals and p-values are the core's. Nothing is fetched: a public task's data must lie in the cache of `datasets`.

    Source: Gao et al., The language model evaluation harness, doi:10.5281/zenodo.12608602.
    """

    kind = "lm-eval"
    Options: ClassVar = LmEvalOptions
    consumes = ()
    extra = library.EXTRA
    libraries = ("lm_eval", "datasets", "scikit-learn", "sacrebleu")
    reads = frozenset(
        {"tasks", "include", "metrics", "filter", "lower_is_better", "few_shot", "limit", "chat", "max_length"}
    )

    vary: ClassVar = {
        "tasks": (["first"], ["first", "second"]),  # of the folder that the kit is given
        "metrics": (["score"], ["other"]),
        "filter": (None, "strict"),
        "lower_is_better": ([], ["score"]),
    }

    def check(self, facts: Facts) -> Iterable[Finding]:
        include = self.options.include
        if include is not None and not include.path.is_dir():
            yield Finding("file-missing", f"there is no folder {include.written}", "include")

    def lacking(self) -> str | None:
        return library.lacking()

    def needs(self) -> Iterable[Need]:
        """Whether a task generates is known only once it is read; most score given texts."""
        fix = "leave `engine` out, or take one that scores: `tunewright plugins show engine/KIND` tells"
        yield Need("engine", Cap.SCORES, "engine-cannot-score", fix)

    def versions(self) -> dict[str, str]:
        """The tasks are content: what they ask, and every file of the folder that they stand in."""
        if self.lacking():
            return super().versions()
        from tunewright_lmeval.tasks import folder_digest

        found = {**super().versions(), "documents": self._tasks.digest}
        include = self.options.include
        return found if include is None else {**found, "include": folder_digest(include.path)}

    @cached_property
    def _tasks(self) -> Tasks:
        library.library("lm_eval.api.task")  # first, so that a missing extra is named
        from tunewright_lmeval.tasks import Tasks

        return Tasks(self.options)

    @property
    def asks(self) -> bool:  # type: ignore[override]
        """Of tasks that generate, and those only."""
        return self._tasks.generates

    def items(self, data: Sequence[TestRow]) -> Iterable[Item]:
        return list(self._tasks.items)

    def measure(self, subject: Subject, data: Sequence[TestRow], progress: Progress) -> list[Graded]:
        evaluate = library.library("lm_eval.evaluator").evaluate
        from tunewright_lmeval.model import SubjectModel
        from tunewright_lmeval.tasks import at

        options, tasks = self.options, self._tasks
        for task in tasks.tasks.values():
            task.set_fewshot_seed(seed=library.SEED)  # or the second model would see other examples
        model = SubjectModel(
            subject=subject,
            longest=options.max_new_tokens,
            window=options.max_length,
            greedy=tasks.greedy,
            progress=progress,
            total=len(tasks.requests),
            aloud=library.loud(),
        )
        with library.seeded(), library.quiet(), at(", ".join(options.tasks), lambda error: error is model.failed):
            found = evaluate(
                lm=model,
                task_dict={"tasks": tasks.tasks},
                limit=options.limit,
                bootstrap_iters=0,  # intervals are the core's
                log_samples=True,
                apply_chat_template=options.chat,
                fewshot_as_multiturn=True,
            )
        return self._graded(found["samples"], model)

    def _graded(self, samples: Mapping[str, Sequence[Mapping[str, Any]]], model: SubjectModel) -> list[Graded]:
        """A `Graded` for each document, of the reading of its answer that counts."""
        from tunewright_lmeval.tasks import aggregation_of

        tasks, grades = self._tasks, dict[str, dict[str, float]]()
        for item in tasks.items:
            ties = {TIED: float(model.tied(item.id))} if len(model.likely[item.id]) > 1 else {}
            grades[item.id] = ties
        for task, some in samples.items():
            made = tasks.tasks[task].aggregation()
            for sample in some:
                item, where = f"{task}:{sample['doc_id']}", origin_of(task, sample["doc_id"])
                if self.options.filter not in (None, sample["filter"]):
                    continue
                for metric in self.options.metrics:
                    name, aggregation = self._score(tasks.parts[task], metric), aggregation_of(made[metric])
                    grades[item] |= grades_of(name, aggregation, sample.get(metric), where)
        return [Graded(item, model.answers[item.id], grades[item.id]) for item in tasks.items]

    def _score(self, part: str, metric: str) -> str:
        """A score's name: that of the metric, after that of the task where there are several."""
        return metric if len(self.options.tasks) == 1 else f"{part}.{metric}"

    def _scores(self) -> dict[str, str]:
        """The metric of each score."""
        return {self._score(part, metric): metric for part in self.options.tasks for metric in self.options.metrics}

    def summaries(self) -> Mapping[str, Summary]:
        return {name: summary_of(name, metric) for name, metric in self._scores().items()}

    def lower_is_better(self) -> frozenset[str]:
        lower = LOWER | frozenset(self.options.lower_is_better)
        return frozenset(name for name, metric in self._scores().items() if metric in lower)

    def largest(self) -> Mapping[str, float]:
        return {name: LARGEST[metric] for name, metric in self._scores().items() if metric in LARGEST}
