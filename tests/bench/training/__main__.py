"""Measure figures, interleaved, and write docs/benchmarks.md.

    PYTHONPATH=tests python -m bench.training [FIGURE…] [--quick] [--rounds N] [--threads N]

Each side of each round is a process of its own; the sides take turns, so that whatever else the machine does falls on
all of them. What was measured is kept in `--work`, and the page is written of all that lies there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench.training import data, table, work
from bench.training.figures import FIGURES, LOOK_EVERY, LOOK_FROM, QUESTIONS, TARGET, Figure

PAGE = data.ROOT / "docs" / "benchmarks.md"


class Sitting:
    """One machine, one set of options, any number of figures."""

    def __init__(self, given: argparse.Namespace) -> None:
        given.data = str(Path(given.data).resolve())
        given.model = given.model and str(Path(given.model).resolve())
        self.given = given
        self.work = Path(given.work)
        self.machine: dict[str, Any] = self.child({"does": "probe"})
        self.dtype: str = given.dtype or self.machine["dtype"]
        if self.dtype not in self.machine["flops"]:
            raise SystemExit(f"this machine has no instructions for {self.dtype}: leave `--dtype` out")

    def child(self, job: dict[str, Any]) -> dict[str, Any]:
        """Do one job in a process of its own. Raises `SystemExit` with its last words where it fails."""
        threads = str(self.given.threads)
        path = os.pathsep.join([str(data.ROOT / "tests"), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        environment = {
            **os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads,
            "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        }  # fmt: skip
        command = [sys.executable, "-m", "bench.training.side", json.dumps(job)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(
                f"{job['does']} {job.get('side', '')} ended with {done.returncode}:\n{done.stderr[-4000:]}"
            )
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def rows(self, name: str, figure: Figure) -> dict[str, Any]:
        """A figure's rows, written once for all sides. Raises `FileNotFoundError` where its set is absent."""
        data.spec_of(figure.job, Path(self.given.data))
        return self.child({
            "does": "rows", "figure": name, "job": figure.job, "kind": figure.kind, "batch": figure.batch,
            "count": self.count(figure), "dtype": self.dtype, "data": self.given.data, "work": str(self.work),
            "model": self.given.model,
        })  # fmt: skip

    def count(self, figure: Figure) -> int:
        """Rows of a round; in a hurry, those of one step."""
        return figure.batch if self.given.quick and figure.does != "until" else figure.count

    def job(self, name: str, figure: Figure, rows: dict[str, Any]) -> dict[str, Any]:
        """What every side of a figure is told."""
        loop = {"kind": figure.kind, "batch": figure.batch, **dict(figure.settings)}
        return {
            "does": figure.does, "figure": name, "job": figure.job, "base": rows["base"], "file": rows["file"],
            "dtype": self.dtype, "quantizer": figure.quantizer, "data": self.given.data, "questions": QUESTIONS,
            "every": LOOK_EVERY, "from": LOOK_FROM, "target": TARGET,
            "settings": {**loop, "ours": {**dict(figure.ours), **json.loads(self.given.ours)}},
        }  # fmt: skip

    def measure(self, name: str) -> dict[str, Any]:
        """All rounds of a figure, its sides taking turns."""
        figure = FIGURES[name]
        rows = self._trained(figure) if figure.does == "ask" else self.rows(name, figure)
        job = {**self.job(name, figure, rows), **({"adapter": rows["adapter"]} if figure.does == "ask" else {})}
        if figure.does == "ask":
            job["questions"] = self.count(figure)
        if self.given.quick and figure.does == "until":
            job.update({"every": 1, "from": 3, "questions": 8, "target": 0.0})  # after the warm-up
        rounds: dict[str, list[dict[str, Any]]] = {side: [] for side in figure.sides}
        for number in range(1 if self.given.quick else self.given.rounds or figure.rounds):
            for side in figure.sides:
                began = time.monotonic()
                rounds[side].append(self.child({**job, "side": side}))
                took = time.monotonic() - began
                seconds = rounds[side][-1]["seconds"]
                why = rounds[side][-1].get("unshared")
                said = f"  no beginnings shared: {why}" if why else ""
                print(
                    f"{name}, round {number + 1}, {side:<11}{seconds:8.1f} s  ({took:.0f} s in all){said}", flush=True
                )
        ours = rounds["tunewright"][0]
        unlike = {side: work.unlike(ours, some[0], self.dtype) for side, some in rounds.items()}
        return {
            "figure": name, "about": figure.about, "dtype": self.dtype, "machine": self.machine, "spec": rows["spec"],
            "count": self.count(figure), "quick": self.given.quick, "rounds": rounds, "unlike": unlike,
            "flops": rows.get("flops"), "tokens_per_row": rows.get("tokens", 0) / self.count(figure),
        }  # fmt: skip

    def _trained(self, figure: Figure) -> dict[str, Any]:
        """An adapter that answers as a tuned one does, with terminators: trained by Tunewright, made once."""
        learnt = Figure("adapter", figure.job, (), batch=16, steps=1 if self.given.quick else 26)
        rows = self.rows("adapter", learnt)
        name = f"adapter-{figure.job}-{learnt.steps}-{self.dtype}-{Path(rows['base']).name}"
        job = {**self.job("adapter", learnt, rows), "does": "adapter", "folder": str(self.work / name)}
        return {"base": rows["base"], "file": "", "spec": rows["spec"], "adapter": self.child(job)["folder"]}


def arguments(parser: argparse.ArgumentParser) -> None:
    """What a sitting needs to be told, and `profile` too."""
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of each side (default: all)")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), help="type of the weights (default: by the machine)")
    parser.add_argument("--data", default=str(data.DATA), help="folder with the public sets")
    parser.add_argument(
        "--work", default=str(data.ROOT / "build" / "bench"), help="folder that keeps what was measured"
    )
    parser.add_argument("--model", help="folder of a base in place of the embedded one")
    parser.add_argument("--ours", default="{}", help="further options of Tunewright's trainer, as JSON")
    parser.add_argument("--quick", action="store_true", help="one round of one step: to see that all of it works")


def main() -> None:
    """Measure what was asked for, keep it, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("figures", nargs="*", help=f"by default all: {', '.join(FIGURES)}")
    parser.add_argument("--rounds", type=int, help="rounds of each figure (default: each its own, 1 to 3)")
    parser.add_argument("--page", default=str(PAGE), help="page that is written; `-` writes none")
    arguments(parser)
    given = parser.parse_args()
    unknown = [name for name in given.figures if name not in FIGURES]
    if unknown:
        parser.error(f"there is no figure `{unknown[0]}`: choose from {', '.join(FIGURES)}")
    sitting, kept = Sitting(given), Path(given.work) / "figures"
    kept.mkdir(parents=True, exist_ok=True)
    for name in given.figures or FIGURES:
        try:
            record = sitting.measure(name)
        except FileNotFoundError as error:
            print(f"{name}: left out: {error}")
            continue
        (kept / f"{name}.json").write_text(json.dumps(record), "utf-8")
        print("\n".join(table.rows(name, record)), flush=True)
    records = {file.stem: json.loads(file.read_text("utf-8")) for file in sorted(kept.glob("*.json"))}
    if given.page != "-":
        table.write(Path(given.page), records)


if __name__ == "__main__":
    main()
