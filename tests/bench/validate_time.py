"""How long `validate` takes against importing what any such command imports: medians of interleaved runs.

python tests/bench/validate_time.py [RUNS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SPEC = ROOT / "specs" / "quickstart" / "quickstart.yaml"
IMPORTS = "from pydantic import BaseModel; import pluggy, ruamel.yaml, typer"
SIDES = {
    "imports alone": [sys.executable, "-c", IMPORTS],
    "tunewright validate": [str(Path(sys.executable).with_name("tunewright")), "validate", str(SPEC)],
}


def seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main(runs: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(runs + 1):
        for name, command in SIDES.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(found[1:]) for name, found in times.items()}  # the first run warms the files
    for name, median in medians.items():
        print(f"{name:<20} {median * 1000:7.0f} ms")
    base, ours = medians.values()
    print(f"ratio                {ours / base:7.2f}   (at most 1.8)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
