"""How long `validate` takes against importing what any such command imports, and how much 200 specs add to one.

python tests/bench/validate_time.py [--runs N] [--python PATH] [--record FILE]

PATH is the interpreter of the environment to measure, by default this one. Medians of interleaved runs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

QUICKSTART = Path(__file__).resolve().parents[2] / "specs" / "quickstart"
IMPORTS = "from pydantic import BaseModel; import pluggy, ruamel.yaml, typer"
MANY = 200


def copies(folder: Path) -> list[str]:
    """The quickstart's spec under many names, beside its data."""
    for data in QUICKSTART.glob("*.csv"):
        shutil.copy(data, folder)
    text = (QUICKSTART / "quickstart.yaml").read_text()
    for number in range(MANY):
        (folder / f"spec-{number}.yaml").write_text(text.replace("name: quickstart", f"name: spec-{number}"))
    return sorted(str(path) for path in folder.glob("*.yaml"))


def seconds(command: Sequence[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def medians(sides: Mapping[str, Sequence[str]], runs: int) -> dict[str, float]:
    """Seconds of each side; the sides take turns, and the first turn only warms the files."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(runs + 1):
        for name, command in sides.items():
            times[name].append(seconds(command))
    found = {name: statistics.median(each[1:]) for name, each in times.items()}
    for name, median in found.items():
        print(f"{name:<24} {median * 1000:7.0f} ms")
    return found


def main(runs: int, python: str, record: Path | None) -> None:
    validate = [str(Path(python).with_name("tunewright")), "validate"]
    one = [*validate, str(QUICKSTART / "quickstart.yaml")]
    base, ours = medians({"imports alone": [python, "-c", IMPORTS], "validate": one}, runs).values()
    print(f"{'ratio':<24} {ours / base:7.2f}      (at most 1.8)")
    if record is not None:  # for the table of docs/benchmarks.md
        record.parent.mkdir(parents=True, exist_ok=True)
        found = {"imports": base, "validate": ours, "runs": runs, "cores": os.cpu_count()}
        record.write_text(json.dumps(found), "utf-8")
    with tempfile.TemporaryDirectory() as folder:
        many = [*validate, *copies(Path(folder))]
        single, all_of_them = medians(
            {"validate 1 spec": many[:3], f"validate {MANY} specs": many}, max(3, runs // 5)
        ).values()
    print(f"{'beyond a single one':<24} {(all_of_them - single) * 1000:7.0f} ms   (at most 2000)")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    arguments.add_argument("--runs", type=int, default=20, help="timed runs a side (default: 20)")
    arguments.add_argument("--python", default=sys.executable, help="interpreter of the environment to measure")
    arguments.add_argument("--record", type=Path, help="file that gets the seconds of both sides")
    given = arguments.parse_args()
    python = os.path.abspath(given.python)  # noqa: PTH100  a link to an interpreter names the environment
    main(given.runs, python, given.record)
