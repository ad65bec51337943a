"""lm_eval's tasks as they are asked for: found, loaded, and refused for what cannot be measured, before any model."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager, nullcontext
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunewright.digest import digest_bytes, digest_tree
from tunewright.errors import EnvironmentFault, TunewrightError
from tunewright.parts.base import BadOption
from tunewright.parts.evaluator import Item
from tunewright.spec.suggest import did_you_mean
from tunewright_lmeval.conversation import unrendered
from tunewright_lmeval.library import SEED, library, quiet, seeded
from tunewright_lmeval.metrics import LOWER, supported
from tunewright_lmeval.questions import item_of, ungreedy

HERE = frozenset({"json", "csv", "parquet", "arrow", "text"})
"""Builders of `datasets` that read files."""


class Tasks:
    """The tasks of one evaluation, loaded once, with their requests as they stand before a model is known.

    Raises `BadOption` at the option for what cannot be asked or scored, `EnvironmentFault` where a task's data is not
    on this machine.
    """

    def __init__(self, options: Any) -> None:
        self.options = options
        with seeded(), quiet():
            found = _loaded(options.tasks, options.include and options.include.path)
            self.tasks: dict[str, Any] = {task: made for some in found.values() for task, made in some.items()}
            self.parts = {task: name for name, some in found.items() for task in some}
            """By task, the name that the spec calls it by: its own, or a group's or tag's."""
            for name, task in self.tasks.items():
                with at(name):
                    self._refuse_other_model(name, task)
                    self._few_shot(name, task)
                    self._build(task)
            for name, task in self.tasks.items():
                self._refuse_undecodable(name, task)
                self._refuse_unscorable(name, task)
        self.items: list[Item] = [item for name in self.tasks for item in self._items(name)]
        self.digest = self._digest()  # now: once a model is asked, its own template is in the requests

    # --- what is asked

    def _build(self, task: Any) -> None:
        task.set_fewshot_seed(seed=SEED)
        task.build_all_requests(
            limit=self.options.limit,
            apply_chat_template=self.options.chat,
            fewshot_as_multiturn=True,
            chat_template=unrendered if self.options.chat else None,
        )

    def _few_shot(self, name: str, task: Any) -> None:
        """As lm_eval sets it; where it would leave the option aside, it is refused."""
        wanted, own = self.options.few_shot, task.get_config("num_fewshot")
        if wanted is None:
            task.set_config(key="num_fewshot", value=own or 0)
        elif own == 0 and wanted:
            message = f"task `{name}` is by its own definition asked without examples"
            raise BadOption(
                "bad-value", message, "few_shot", "remove it, or leave this task to an evaluation by itself"
            )
        else:
            task.set_config(key="num_fewshot", value=wanted)
        if task.get_config("num_fewshot"):
            _refuse_told_answers(name, task.config)

    def _items(self, name: str) -> Iterator[Item]:
        documents = defaultdict(list)
        for request in self.tasks[name].instances:
            documents[request.doc_id].append(request)
        with at(name):
            yield from [item_of(self.tasks[name], requests) for requests in documents.values()]

    @property
    def requests(self) -> list[Any]:
        """All requests of all tasks."""
        return [request for task in self.tasks.values() for request in task.instances]

    @property
    def generates(self) -> bool:
        """Whether any task lets the model answer in its own words."""
        return any(request.request_type == "generate_until" for request in self.requests)

    @property
    def greedy(self) -> frozenset[str]:
        """Tasks in which it counts whether a given text is what the model would have said itself."""
        return frozenset(name for name, task in self.tasks.items() if self._is_greedy(task))

    def _is_greedy(self, task: Any) -> bool:
        if callable(task.get_config("process_results")) or task.OUTPUT_TYPE is None:
            return True  # what code of its own looks at is not known
        looks = {"loglikelihood": "acc", "multiple_choice": "exact_match"}.get(task.OUTPUT_TYPE)
        return looks in self.options.metrics

    # --- what cannot be

    def _refuse_other_model(self, name: str, task: Any) -> None:
        if getattr(task, "MULTIMODAL", False):
            raise BadOption("bad-value", f"task `{name}` asks about pictures or sound", "tasks", "take it out")
        if getattr(task, "UNSAFE_CODE", False):
            message = f"task `{name}` runs what the model writes as a program"
            raise BadOption("bad-value", message, "tasks", "take it out: nothing here runs it in a cage")

    def _refuse_undecodable(self, name: str, task: Any) -> None:
        why = next(filter(None, map(ungreedy, task.instances)), "")
        if why:
            message = f"task `{name}` cannot be answered greedily: {why}"
            fix = "take it out, or write one of your own that includes it and says `do_sample: false`"
            raise BadOption("bad-value", message, "tasks", fix)

    def _refuse_unscorable(self, name: str, task: Any) -> None:
        self._refuse_other_filter(name, task)
        made, better = task.aggregation(), task.higher_is_better()
        for metric in self.options.metrics:
            if metric not in made:
                message = f"task `{name}` makes no metric `{metric}`"
                raise BadOption("bad-value", message, "metrics", f"it makes {', '.join(f'`{one}`' for one in made)}")
            if not supported(metric, aggregation_of(made[metric])):
                message = f"task `{name}` makes `{metric}` of all documents at once, in a way that is not known here"
                raise BadOption("bad-value", message, "metrics", "choose metrics that are the mean over documents")
            lower = metric in LOWER or metric in self.options.lower_is_better
            if better.get(metric) is not None and lower == better[metric]:
                says = "a lower" if lower is False else "a higher"
                message = f"of `{metric}` {says} value is better, says task `{name}`"
                fix = f"add `{metric}` to `lower_is_better`" if not lower else f"take `{metric}` out"
                raise BadOption("bad-value", message, "lower_is_better" if lower else "metrics", fix)

    def _refuse_other_filter(self, name: str, task: Any) -> None:
        filters, wanted = [one.name for one in task._filters], self.options.filter
        fix = f"set `filter` to {' or '.join(f'`{one}`' for one in filters)}"
        if wanted is None and len(filters) > 1:
            raise BadOption("bad-value", f"task `{name}` reads each answer in {len(filters)} ways", "tasks", fix)
        if wanted is not None and wanted not in filters:
            raise BadOption("bad-value", f"task `{name}` reads no answer as `{wanted}`", "filter", fix)

    # --- the key

    def _digest(self) -> str:
        """Of all that is asked and of what is counted right, wherever it lies.

        The documents are in it whole: a task's own code may grade by any of their columns.
        """
        asked = [
            (request.task_name, request.doc_id, request.request_type, [str(one) for one in request.args])
            for request in self.requests
        ]
        documents = {(request.task_name, request.doc_id): request.doc for request in self.requests}
        references = [item.reference for item in self.items]
        return digest_bytes(repr((asked, references, whole(list(documents.values())))).encode())


def whole(value: Any) -> Any:
    """A document with nothing in it that is written otherwise in another process, or cut short where it is long."""
    if isinstance(value, Mapping):
        return {str(name): whole(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole(inner) for inner in value]
    if isinstance(value, (set, frozenset)):
        return sorted((whole(inner) for inner in value), key=repr)
    return value.tolist() if hasattr(value, "tolist") else value


def folder_digest(folder: Path) -> str:
    """Of every file of a folder of tasks, compiled ones apart."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return digest_tree(folder, files)


def aggregation_of(function: Any) -> str:
    """lm_eval's name of an aggregation; empty for one of the task's own."""
    registered = library("lm_eval.api.registry").aggregation_registry
    return next((name for name in registered if registered.get(name) is function), "")


@contextmanager
def at(name: str, passed: Callable[[Exception], bool] = lambda error: False) -> Iterator[None]:
    """What a task's own code or data raises, as an error that names the task; other errors are `passed` on."""
    try:
        yield
    except TunewrightError:
        raise
    except Exception as error:
        if passed(error):
            raise
        cause = str(error).strip().partition("\n")[0][:300] or "no reason is given"
        message = f"task `{name}` cannot be asked: {type(error).__name__}: {cause}"
        raise BadOption("bad-value", message, "tasks", "mend its definition or its data") from error


def _refuse_told_answers(name: str, config: Any) -> None:
    """lm_eval leaves a question out of the examples before it only where a task says that both are of one split."""
    drawn = getattr(config.fewshot_config, "split", None)
    if getattr(config.fewshot_config, "samples", None) is not None and drawn is None:
        return
    asked = config.test_split or config.validation_split
    pool = drawn or config.training_split or config.validation_split or config.test_split
    if pool == asked and drawn != config.test_split:
        message = f"task `{name}` draws its examples from the documents that it asks, and may tell the answer"
        fix = f"give it a `training_split`, or say `fewshot_split: {asked}` beside `test_split: {asked}`"
        raise BadOption("bad-value", message, "few_shot", fix)


# --- finding and loading


@cache
def _manager(folder: Path | None, every: bool) -> Any:
    """lm_eval's index: of a folder, and of the 14,000 tasks that it brings where one of those is asked for. Reading
    those takes it half a minute, so it is done once."""
    manager = library("lm_eval.tasks").TaskManager
    return manager(include_path=None if folder is None else str(folder), include_defaults=every)


def _loaded(names: Sequence[str], folder: Path | None) -> dict[str, dict[str, Any]]:
    """The tasks behind each name: of a group or tag all that are in it."""
    if folder is not None and not folder.is_dir():
        raise BadOption("file-missing", f"there is no folder {folder}", "include")
    manager = _manager_of(names, folder)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        entry = manager.task_index.get(name)
        if entry is None:
            fix = did_you_mean(name, manager.all_tasks) or "`lm-eval ls tasks` lists lm_eval's own"
            raise BadOption("bad-value", f"there is no task `{name}`", "tasks", fix)
        with _data_of(name, entry), _inside(entry, folder), _in_memory(entry):
            loaded = manager.load([name])["tasks"]
        twice = sorted(loaded.keys() & {task for some in found.values() for task in some})
        if twice:
            raise BadOption("bad-value", f"task `{twice[0]}` is asked for twice", "tasks", "name it once")
        found[name] = loaded
    return found


def _manager_of(names: Sequence[str], folder: Path | None) -> Any:
    """One that knows the folder alone where that is enough: a group of the folder may name tasks of lm_eval's own."""
    if folder is not None:
        index = _manager(folder, False).task_index
        if all(name in index and index[name].kind.name != "GROUP" for name in names):
            return _manager(folder, False)
    return _manager(folder, True)


def _inside(entry: Any, folder: Path | None) -> Any:
    """Paths of data files in a local task are relative to its own file: `datasets` takes them from where it runs."""
    if folder is None:
        return nullcontext()
    own = folder if entry.yaml_path is None else Path(entry.yaml_path).parent
    return chdir(own) if own.is_relative_to(folder) or own.resolve().is_relative_to(folder.resolve()) else nullcontext()


@contextmanager
def _in_memory(entry: Any) -> Iterator[None]:
    """Rows of files are read anew and kept in memory: `datasets` would leave a copy of them in its own cache."""
    from datasets import config

    if (entry.cfg or {}).get("dataset_path") not in HERE:
        yield
        return
    before = config.HF_DATASETS_CACHE, config.IN_MEMORY_MAX_SIZE
    with TemporaryDirectory() as scratch:
        config.HF_DATASETS_CACHE, config.IN_MEMORY_MAX_SIZE = Path(scratch), sys.maxsize
        try:
            yield
        finally:
            config.HF_DATASETS_CACHE, config.IN_MEMORY_MAX_SIZE = before


@contextmanager
def _data_of(name: str, entry: Any) -> Iterator[None]:
    """A task whose data would have to be fetched is told from one that is wrong."""
    offline = (ConnectionError,)
    try:
        with at(name):
            yield
    except BadOption as error:
        cause, config = error.__cause__, entry.cfg or {}
        path = config.get("dataset_path")
        if isinstance(cause, offline) and path and path not in HERE:
            raise EnvironmentFault(
                f"task `{name}` reads the data set `{path}`, which is not on this machine; nothing is fetched here",
                fix=f"fetch it once: {_fetching(path, config)}",
            ) from cause
        raise


def _fetching(path: str, config: Mapping[str, Any]) -> str:
    given = ", ".join(repr(one) for one in (path, config.get("dataset_name")) if one)
    return f'python -c "import datasets; datasets.load_dataset({given})"'
