"""What the commands do that open or make runs. Tables go to stdout, progress to stderr."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tunewright
from tunewright.cli.progress import Progress
from tunewright.cli.tables import print_plan, print_result
from tunewright.errors import BadInput, TunewrightError
from tunewright.host import Host
from tunewright.parts import Engine
from tunewright.project import Project
from tunewright.resolve import part_of


def quickstart_spec() -> Path:
    """The spec of the embedded example: beside the package in a wheel, in specs/ in a checkout."""
    package = Path(tunewright.__file__).parent
    for folder in (package / "specs", package.parents[1] / "specs"):
        spec = folder / "quickstart" / "quickstart.yaml"
        if spec.is_file():
            return spec
    raise BadInput("the quickstart's spec is not installed", fix="install tunewright again")


def run_quickstart(out: Path | None, host: Host, as_json: bool) -> int:
    """`quickstart`: the embedded example, in types that this machine is made for; a change of them is said."""
    from tunewright.pipeline.plan import slow_types

    spec = quickstart_spec()
    slow = slow_types(Project.from_spec(spec, host=host).resolve())
    for field, why in slow.items():
        print(f"{why}: the quickstart runs with {field}=fp32", file=sys.stderr)
    return run_spec(spec, [f"{field}=fp32" for field in slow], out, host, as_json)


def show_plan(
    spec: Path, overrides: Sequence[str], out: Path | None, host: Host, as_json: bool, fit: str | None = None
) -> int:
    """`plan`; with `fit`, also what to change to fit into so much memory: the exit code is 3 where nothing does."""
    from tunewright.cli.memory import print_forecast, print_proposal
    from tunewright.store.publish import Store

    project = Project.from_spec(spec, overrides=overrides, host=host)
    limit = None if fit is None else size_of(fit)
    made = project.plan()
    found = made.to_json(Store(project.root(made.name, out)))
    forecast = found["forecast"]
    told = not any(step["unknown"] and step["step"].startswith("train") for step in forecast["steps"])
    short = told and bool(forecast["most_bytes"]) and 0 < forecast["free_bytes"] < forecast["most_bytes"]
    proposed = None
    if limit is not None or short:
        proposed = project.fit(limit or forecast["free_bytes"], made, out)
        found["fit"] = proposed.to_json()
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
    else:
        print_plan(found)
        print_forecast(forecast)
        if proposed is not None:
            print_proposal(found["fit"], asked=limit is not None)
    return 3 if limit is not None and proposed is not None and not proposed.fits else 0


def size_of(text: str) -> int:
    """Bytes of a size such as `16GB`. Raises `BadInput`."""
    from tunewright.pipeline import fitting

    return fitting.size_of(text)


def run_spec(
    spec: Path, overrides: Sequence[str], out: Path | None, host: Host, as_json: bool, search: Sequence[str] = ()
) -> int:
    """`run`: the exit code is 1 where a gate of the spec fails. `search` as in `Project.run`."""
    project = Project.from_spec(spec, overrides=overrides, host=host)
    try:
        with Progress(sys.stderr) as progress:
            result = project.run(out, progress.hear, search)
    except TunewrightError as error:
        if as_json and error.summary is not None:
            print(json.dumps(error.summary, ensure_ascii=False))
        raise
    if as_json:
        print(json.dumps(result.summary, ensure_ascii=False))
    else:
        print_result(result.summary)
    return 0 if result.passed else 1


def rehearse_resume(spec: Path, overrides: Sequence[str], out: Path | None, host: Host, as_json: bool) -> int:
    """`run --rehearse-resume`: the exit code is 1 where a training that was taken up ends in another state."""
    project = Project.from_spec(spec, overrides=overrides, host=host)
    with Progress(sys.stderr) as progress:
        found = project.rehearse_resume(out, progress.hear)
    if as_json:
        told = {name: [one._asdict() for one in part] for name, part in found._asdict().items()}
        print(json.dumps(told, ensure_ascii=False))
        return int(any(one.differ for one in found.rehearsed))
    for one in found.rehearsed:
        went = f"{one.training}: killed, taken up at step {one.resumed_from}, compared after step {one.steps}"
        print(f"{went}: {f'{one.files} files, all equal' if not one.differ else 'different: ' + ', '.join(one.differ)}")
    for left in found.left_out:
        print(f"{left.training}: not rehearsed: {left.why}\n  {left.fix}")
    return int(any(one.differ for one in found.rehearsed))


def run_folder(run: Path, needs: str = "") -> Path:
    """The folder that RUN names: a run, a root, or the latest run (that has the step `needs`) of a spec's root."""
    from tunewright.pipeline.run import find_run

    return find_run(run, needs)


def show_run(run: Path, as_json: bool) -> None:
    """`show`."""
    summary = _summary(run)
    if as_json:
        print(json.dumps(summary, ensure_ascii=False))
    else:
        print_result(summary)


def _summary(run: Path) -> Mapping[str, Any]:
    found: dict[str, Any] = json.loads((run_folder(run) / "run.json").read_text(encoding="utf-8"))
    return found


def report_path(run: Path) -> str:
    """`report`. Raises `BadInput` where the run ended before its report."""
    path = run_folder(run) / "report.html"
    if not path.is_file():
        raise BadInput(f"the run in {path.parent} ended before its report", fix="run the spec to its end")
    return str(path)


def predict_file(run: Path, file: Path, out: Path | None, limit: int | None, engine: str | None, host: Host) -> None:
    """`predict`: what the token limit cut is said on stderr."""
    from tunewright.pipeline.predict import answer_file
    from tunewright.store import disk

    if out is not None and not out.absolute().parent.is_dir():
        raise BadInput(f"there is no folder {out.parent} to write in", fix="make it, or name another")
    asks = engine_of(engine, host)
    folder = run_folder(run, needs="train")
    with Progress(sys.stderr) as progress:
        answered = answer_file(folder, file, host, limit, progress.counter("answering"), asks)
    if out is None:
        sys.stdout.write(answered.text)
    else:
        disk.replace(out, answered.text.encode())
        print(f"{out}", file=sys.stderr)
    if answered.cut:
        cut = f"{answered.cut} of {answered.rows} answers were cut at {answered.limit} tokens"
        print(f"{cut}: raise --max-new-tokens", file=sys.stderr)


def engine_of(text: str | None, host: Host) -> Engine | None:
    """What `--engine` names; None where it is not given. Raises `SpecError`."""
    found: Engine | None = None if text is None else part_of(text, "--engine", Engine.part, host)
    return found


def package_run(run: Path, out: Path, as_json: bool) -> None:
    """`package`: a copy of what the run packaged, verified where it lands."""
    from tunewright.handoff.verify import check

    packed = _summary(run)["artifacts"].get("package")
    if packed is None:
        raise BadInput("this run made no package", fix="`tunewright show` says why")
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file", fix="name a folder with `--out`")
    source = Path(packed)
    target = out / source.name
    if target.exists():
        raise BadInput(f"{target} is there already", fix="name another folder with `--out`, or remove it")
    shutil.copytree(source, target)
    shutil.copyfile(source.with_name(f"{source.name}.zip"), out / f"{source.name}.zip")
    for path in (target, out / f"{source.name}.zip"):
        found = check(path)
        if found:
            raise BadInput(f"{path} does not verify: {found[0]}", fix="run the spec again")
    if as_json:
        print(json.dumps({"package": str(target.absolute()), "zip": str((out / f"{source.name}.zip").absolute())}))
    else:
        print(f"{target}\n{out / source.name}.zip")


def packages_of(paths: Sequence[Path]) -> list[Path]:
    """The packages that hold one of the files, each once: as a version control's hook names what changed."""
    found: dict[Path, None] = {}
    for path in paths:
        for folder in path.absolute().parents:
            if (folder / "MANIFEST.sha256").is_file():
                found[folder] = None
                break
    return list(found)


def verify_packages(paths: Sequence[Path], as_json: bool) -> int:
    """`verify`: the exit code, 1 where any package is refused."""
    from tunewright.handoff.verify import check

    for path in paths:
        if not path.exists():
            raise BadInput(f"there is no {path}", fix="name a package's folder or zip")
    found = {path: check(path) for path in paths}
    if as_json:
        shown = [{"package": str(p.absolute()), "good": not problems, "problems": problems}
                 for p, problems in found.items()]  # fmt: skip
        print(json.dumps(shown[0] if len(shown) == 1 else {"packages": shown}))
        return int(any(found.values()))
    for path, problems in found.items():
        for problem in problems:
            print(f"{path}: refused: {problem}", file=sys.stderr)
        if not problems:
            print(f"{path}: good, unsigned")
    return int(any(found.values()))
