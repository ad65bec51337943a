"""The front door: a spec, and each thing that can be done with it in one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.host import Host
from tunewright.resolve import Resolved, part_of, resolve
from tunewright.spec.problems import Problem, SpecError

if TYPE_CHECKING:
    from tunewright.pipeline.blame import Blamed
    from tunewright.pipeline.compared import Compared
    from tunewright.pipeline.events import Listener
    from tunewright.pipeline.fitting import Proposal
    from tunewright.pipeline.plan import Plan
    from tunewright.pipeline.rehearse import Rehearsal
    from tunewright.pipeline.repeated import Repeated
    from tunewright.pipeline.run import Result


class Project:
    """A spec and the plugins that fill it.

    Example:
        result = Project.from_spec("client.yaml").run()
        result.summary["scores"]["heldout.exact_match"]["tuned"]
    """

    def __init__(self, spec: Path, overrides: Iterable[str] = (), host: Host | None = None) -> None:
        self.spec = spec
        self.overrides = tuple(overrides)
        self.host = host or Host()

    @classmethod
    def from_spec(cls, spec: str | Path, *, overrides: Iterable[str] = (), host: Host | None = None) -> Project:
        """A project from a spec's file; `overrides` are `key.path=VALUE`, as `--set` takes them."""
        return cls(Path(spec), overrides, host)

    def resolve(self) -> Resolved:
        """The spec with every part filled by a backend. Raises `SpecError`."""
        return resolve(self.spec, self.host, self.overrides)

    def validate(self) -> list[Problem]:
        """Every problem that can be seen without fetching anything or importing torch; an empty list is a good spec."""
        try:
            self.resolve()
        except SpecError as error:
            return error.problems
        return []

    def plan(self, search: Sequence[str] = ()) -> Plan:
        """What a run will do; `search` as in `run`. Raises `SpecError`."""
        from tunewright.pipeline.extras import named
        from tunewright.pipeline.plan import make_plan

        resolved = self.resolve()
        with named(resolved):
            return make_plan(resolved, search)

    def fit(self, limit: int, made: Plan, out: str | Path | None = None) -> Proposal:
        """The least harmful changes of the spec by which the forecast of `made`, its plan, fits into `limit` bytes.

        Each is tried as a spec of its own, which so validates; nothing is fetched. Raises `BadInput` where nothing is
        foretold of the spec's memory.
        """
        from tunewright.pipeline.fitting import propose
        from tunewright.pipeline.planner import foretold
        from tunewright.store.publish import Store

        def forecast(lines: Sequence[str]) -> int:
            changed = Project(self.spec, [*self.overrides, *lines], self.host).resolve() if lines else made.resolved
            return foretold(made, changed, store).most

        store = Store(self.root(made.name, out))
        return propose(limit, made.resolved, forecast)

    def root(self, name: str, out: str | Path | None = None) -> Path:
        """The project's root: `runs/<name>` under the working folder, or `out`."""
        return Path("runs") / name if out is None else Path(out)

    def run(
        self, out: str | Path | None = None, on_event: Listener | None = None, search: Sequence[str] = ()
    ) -> Result:
        """Everything from fetch to package; what is done already is reused.

        `search` names exports: where one is refused, other options of its exporter are tried, at most six, and the
        first whose form passes is packaged in its place. `result.summary["search"]` holds what was tried.

        Raises `SpecError` or `BadInput` before the model is loaded, `WorkFailed` where the work went wrong. A gate
        that fails does not raise: `result.passed` says so.
        """
        from tunewright.pipeline.extras import named
        from tunewright.pipeline.run import Run

        plan = self.plan(search)
        with named(plan.resolved), Run.open(plan, self.root(plan.name, out)) as run:
            return run.execute(on_event)

    def run_seeds(
        self,
        count: int,
        out: str | Path | None = None,
        on_event: Listener | None = None,
        search: Sequence[str] = (),
    ) -> Repeated:
        """`run` under the spec's own seed and the `count` - 1 next ones, in one root; what no seed decides is shared.

        The own seed comes last, so that the root's latest run is the spec's. `compared.seeds` keeps what seeds differ
        by apart from what items do. Raises what `run` raises, and `BadInput` before anything is trained where the seed
        draws the test rows.
        """
        from tunewright.pipeline.repeated import Repeated, refuse_other_questions

        resolved = self.resolve()
        refuse_other_questions(resolved)
        own = resolved.spec.seed
        kept = [override for override in self.overrides if override.partition("=")[0].strip() != "seed"]
        others = (Project(self.spec, [*kept, f"seed={own + ahead}"], self.host) for ahead in range(count - 1, 0, -1))
        results = [project.run(out, on_event, search) for project in (*others, self)][::-1]
        return Repeated(results, compare(*(result.summary["run_dir"] for result in results), host=self.host))

    def rehearse_resume(self, out: str | Path | None = None, on_event: Listener = lambda event: None) -> Rehearsal:
        """Kill each training after a few steps, take it up again, and compare with one in a single go, byte by byte.

        What comes before the first training is run and kept; a later stage is rehearsed once the stages before it are
        trained, and until then stands in `left_out`. Raises what `run` raises; a state that differs does not raise: the
        `differ` of a training in `rehearsed` names its files.
        """
        from tunewright.pipeline.extras import named
        from tunewright.pipeline.rehearse import rehearse
        from tunewright.pipeline.run import Run

        plan = self.plan()
        with named(plan.resolved), Run.open(plan, self.root(plan.name, out)) as run:
            run.before_training(on_event)
            how = {"overrides": self.overrides, "blocked": list(self.host.blocked), "only": self.host.only}
            return rehearse(plan, run.store, self.spec.absolute(), how, on_event)

    def predict(
        self, rows: Iterable[Mapping[str, Any]], out: str | Path | None = None, engine: str | None = None
    ) -> Iterator[str]:
        """Answers of the latest run's tuned model, one a row.

        `engine` asks: a kind, or `{kind: NAME, …}` in YAML; by default the one that the run's loader names.
        """
        from tunewright.pipeline.predict import answer_rows
        from tunewright.pipeline.run import find_run

        asks = None if engine is None else part_of(engine, "engine", "engine", self.host)
        root = self.root(self.resolve().spec.name, out)
        return iter(answer.text for answer in answer_rows(find_run(root), list(rows), self.host, engine=asks))


def compare(*runs: str | Path, host: Host | None = None) -> Compared:
    """What the tuned models of two runs or more answered, the first run's paired with each later one's, item by item.

    A run is its folder, a root, or a spec (the latest run of its root that has answers). No model is asked. Raises
    `BadInput` where there is no such run.

    Example:
        compare("runs/acme", "runs/acme-more-rows").against[0].scores["heldout.exact_match"].p_adjusted
    """
    from tunewright.pipeline.compared import TUNED, compare_runs
    from tunewright.pipeline.run import find_run

    return compare_runs([find_run(Path(run), TUNED) for run in runs], host or Host())


def blame(first: str | Path, later: str | Path, host: Host | None = None) -> Blamed:
    """What differs between two runs, and the items that the later one answers better or worse.

    Runs are named as in `compare`, and the same is raised.
    """
    from tunewright.pipeline.blame import blame as blamed
    from tunewright.pipeline.compared import TUNED, Kept
    from tunewright.pipeline.run import find_run

    host = host or Host()
    one, two = (Kept(find_run(Path(run), TUNED), host) for run in (first, later))
    return blamed(one, two)
