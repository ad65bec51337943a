"""Making an engine's environment: a plain venv, and pip as this machine has it configured."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from tunewright.digest import canonical_json
from tunewright.engines.environment import RECORD, Environment, environment_of
from tunewright.engines.process import variables
from tunewright.errors import EnvironmentFault
from tunewright.parts import Engine
from tunewright.store import disk

SHOWN = 12  # lines of pip's that a message shows


def install(engine: type[Engine], say: Callable[[str], None]) -> Environment:
    """Make the environment of an engine, unless it is there; `say` hears what is done. Raises `EnvironmentFault`.

    Its record is written last, so half an installation is never taken for one.
    """
    environment = environment_of(engine)
    if not environment.requirements:
        raise EnvironmentFault(f"engine `{engine.kind}` needs no environment of its own: there is nothing to install")
    with _alone(environment):
        if environment.installed:
            say(f"{engine.kind} is installed already")
            return environment
        takes = f": {engine.takes}" if engine.takes else ""
        say(f"installing {', '.join(environment.requirements)} into {environment.folder}{takes}")
        _make(environment, engine)
    return environment


def _make(environment: Environment, engine: type[Engine]) -> None:
    folder, log = environment.folder, environment.folder.with_suffix(".log")
    disk.remove(folder)  # what a killed installation left
    try:
        _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], log, variables())
        cores = str(os.cpu_count() or 1)
        given = {name: value.format(cores=cores) for name, value in engine.building.items()}
        _run([*_pip(environment), "install", *environment.requirements], log, {**given, **variables()})
        if engine.without:
            _run([*_pip(environment), "uninstall", "--yes", *engine.without], log, variables())
        _run([str(environment.python), "-c", engine.proof], log, variables())
        packages = _packages(environment)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
    about = {"requirements": list(environment.requirements), "packages": packages, "bytes": size}
    disk.write(folder / RECORD, canonical_json(about))
    disk.sync(folder)
    disk.remove(log)


def _run(words: Sequence[str], log: Path, variables: Mapping[str, str]) -> None:
    """Run with everything that is said in `log`. Raises `EnvironmentFault` with its end, and keeps it."""
    with log.open("ab") as said:
        done = subprocess.run(words, stdout=said, stderr=said, stdin=subprocess.DEVNULL, env=variables, check=False)
    if done.returncode:
        last = "\n  ".join(log.read_text("utf-8", "replace").strip().splitlines()[-SHOWN:])
        raise EnvironmentFault(
            f"`{' '.join(words[1:4])} …` failed, and nothing is installed:\n  {last}",
            fix=_remedy(last, log),
        )


def _remedy(said: str, log: Path) -> str:
    if "No module named pip" in said:
        return f"bring pip into this environment: {Path(sys.executable).name} -m ensurepip"
    return (
        f"all that was said is in {log}; check the network and pip's index (`pip config list`), and whether a compiler "
        "that it asks for is there"
    )


def _pip(environment: Environment) -> list[str]:
    """Our own pip, working in the environment: one of its own would take longer than all the rest."""
    own = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    return [*own, "--python", str(environment.python)]


def _packages(environment: Environment) -> list[str]:
    words = [*_pip(environment), "list", "--format", "freeze"]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, env=variables(), check=True)
    return sorted(done.stdout.split())


@contextmanager
def _alone(environment: Environment) -> Iterator[None]:
    """One installation at a time; a second one fails at once."""
    disk.make_folder(environment.folder.parent)
    lock = FileLock(environment.folder.with_suffix(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise EnvironmentFault(
            f"another process installs `{environment.kind}` now", fix="wait for it, then ask: tunewright engines list"
        ) from None
    try:
        yield
    finally:
        lock.release()
