"""The conformance kit: with it anyone proves a backend correct in one line.

    from tunewright.testing import check_trainer

    def test_it_is_a_trainer(tmp_path):
        check_trainer(MyTrainer, {"learning_rate": 0.01}, folder=tmp_path)

There is one function a part, and `check` for whichever part a backend is of. Each uses the backend as the core does,
twice, with bad input and with other options, and raises `NonConforming` with everything that was found: what was seen
and what to do, each under a stable code. Nothing is asked of a network. Parts that need a model get a random one of
two layers, made on the spot (`pip install "tunewright[train]"`), or the plugin's own `World`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.testing.violations import CODES, NonConforming, Violation

if TYPE_CHECKING:
    from tunewright.parts import (
        AdapterMethod,
        Backend,
        DataSource,
        Engine,
        Evaluator,
        Exporter,
        Gate,
        Loader,
        ModelSource,
        PromptFormat,
        Quantizer,
        Tracker,
        Trainer,
    )
    from tunewright.parts.gate import Score
    from tunewright.parts.prompt_format import Text
    from tunewright.testing.tiny import World

    Given = Mapping[str, Any] | None
    Rows = Sequence[Mapping[str, Any]] | None


def check(backend: type[Backend], options: Given = None, *, folder: Path, **sample: Any) -> None:
    """Check a backend by the rules of its part.

    `options` is what a spec would write, without `kind`; paths may be `Path`s. `folder` is empty, and the check may
    write in it. `sample` is what the function of the part takes. Raises `NonConforming`, or `ValueError` where
    `backend.part` is no part.
    """
    part = getattr(backend, "part", None)
    checks: dict[Any, Callable[..., None]] = {
        "model_source": check_model_source, "loader": check_loader, "quantizer": check_quantizer,
        "adapter": check_adapter, "data_source": check_data_source, "prompt_format": check_prompt_format,
        "trainer": check_trainer, "engine": check_engine, "evaluator": check_evaluator, "gate": check_gate,
        "exporter": check_exporter, "tracker": check_tracker,
    }  # fmt: skip
    if part not in checks:
        raise ValueError(f"{backend!r} is of no part: `part` is {part!r}, known are {', '.join(checks)}")
    checks[part](backend, options, folder=folder, **sample)


def check_model_source(backend: type[ModelSource], options: Given = None, *, folder: Path) -> None:
    """A base is pinned by plain texts, and one pin always brings the same files in the one layout."""
    from tunewright.testing.bases import ModelSourceExercise

    _try(backend, options, folder, ModelSourceExercise())


def check_loader(backend: type[Loader], options: Given = None, *, folder: Path, world: World | None = None) -> None:
    """A base is loaded the same every time, and its tokenizer gives back what it was given."""
    from tunewright.testing.bases import LoaderExercise

    _try(backend, options, folder, LoaderExercise(world))


def check_quantizer(
    backend: type[Quantizer], options: Given = None, *, folder: Path, world: World | None = None
) -> None:
    """What it claims of training holds: gradients pass, and are the same after the model was asked."""
    from tunewright.testing.bases import QuantizerExercise

    _try(backend, options, folder, QuantizerExercise(world))


def check_adapter(
    backend: type[AdapterMethod], options: Given = None, *, folder: Path, world: World | None = None
) -> None:
    """What was trained is saved whole and apart, and is the same on a fresh base."""
    from tunewright.testing.tuning import AdapterExercise

    _try(backend, options, folder, AdapterExercise(world))


def check_data_source(backend: type[DataSource], options: Given = None, *, folder: Path) -> None:
    """Rows keep their ids and order, the head agrees with them, and the digest is of the content alone.

    `options` name a source that is there and holds a few sound rows.
    """
    from tunewright.testing.rows import DataSourceExercise

    _try(backend, options, folder, DataSourceExercise())


def check_prompt_format(backend: type[PromptFormat], options: Given = None, *, folder: Path, rows: Rows = None) -> None:
    """It reads the columns that it names and no others, and asks the same for an answer as for a training.

    `rows` have the columns that it reads; by default `text`, `label`, and whatever else `columns` names.
    """
    from tunewright.testing.rows import PromptFormatExercise

    _try(backend, options, folder, PromptFormatExercise(rows))


def check_trainer(
    backend: type[Trainer],
    options: Given = None,
    *,
    folder: Path,
    world: World | None = None,
    rows: Rows = None,
) -> None:
    """It trains what it is given in place and nothing else, equal seeds give equal weights, and what it tells is true.

    `rows` have a `text` and a `label`.
    """
    from tunewright.testing.tuning import TrainerExercise

    _try(backend, options, folder, TrainerExercise(world, rows))


def check_engine(
    backend: type[Engine],
    options: Given = None,
    *,
    folder: Path,
    world: World | None = None,
    prompts: Sequence[Text] | None = None,
) -> None:
    """Answers do not depend on what else is asked, keep their limit, and come from the weights that it says.

    An engine that asks a server of the client's own finds there the world's base and what `world.trained` saves: equal
    worlds train alike, so a test serves both before it calls this, and gives the server's address in `options`.
    """
    from tunewright.testing.asking import EngineExercise

    _try(backend, options, folder, EngineExercise(world, prompts))


def check_evaluator(
    backend: type[Evaluator],
    options: Given = None,
    *,
    folder: Path,
    rows: Rows = None,
    answers: Sequence[str] | None = None,
) -> None:
    """Items are told apart, grades and scores are finite and of the same metrics, in whatever order.

    `rows` have a `text` and a `label`, the right answer; `answers` are given to the items in turn.
    """
    from tunewright.testing.judges import EvaluatorExercise

    _try(backend, options, folder, EvaluatorExercise(rows, answers))


def check_gate(
    backend: type[Gate], options: Given = None, *, folder: Path, evidence: Mapping[str, Score] | None = None
) -> None:
    """It reads the scores that it names and no others; a score that is missing or no number fails.

    `evidence` is judged in place of the kit's low, middling and high scores.
    """
    from tunewright.testing.judges import GateExercise

    _try(backend, options, folder, GateExercise(evidence))


def check_exporter(backend: type[Exporter], options: Given = None, *, folder: Path, world: World | None = None) -> None:
    """One training always gives the same files, and they can be reopened as the Form says."""
    from tunewright.testing.asking import ExporterExercise

    _try(backend, options, folder, ExporterExercise(world))


def check_tracker(
    backend: type[Tracker],
    options: Given = None,
    *,
    folder: Path,
    arrived: Callable[[Any], Any] | None = None,
) -> None:
    """It shows what it is given, of one training and of the next, sends no environment, and ends all that it began.

    `arrived(options)` reads back, as plain data, what has come where it shows things; by default that is the content
    of the files that its paths name. Equal runs must give equal data: leave dates and ids out of it.
    """
    from tunewright.testing.trackers import TrackerExercise

    _try(backend, options, folder, TrackerExercise(arrived))


def _try(backend: type[Backend], options: Given, folder: Path, exercise: Any) -> None:
    from tunewright.testing.contract import as_written
    from tunewright.testing.trial import Trial

    Trial(backend, as_written(options, getattr(backend, "kind", "")), exercise, folder).run()


def __getattr__(name: str) -> Any:
    if name in ("World", "tiny_world"):
        from tunewright.testing import tiny

        return getattr(tiny, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "CODES", "NonConforming", "Violation", "World", "check", "check_adapter", "check_data_source", "check_engine",
    "check_evaluator", "check_exporter", "check_gate", "check_loader", "check_model_source", "check_prompt_format",
    "check_quantizer", "check_tracker", "check_trainer", "tiny_world",
]  # fmt: skip
