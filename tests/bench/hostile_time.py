"""How long, and within how much memory, `validate` answers a hostile file: one process each.

python tests/bench/hostile_time.py [PART OF A NAME]
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "spec"))

from hostile_specs import cases

LIMIT_S = 20


def main(part: str) -> None:
    slowest: list[tuple[float, str]] = []
    command = str(Path(sys.executable).with_name("tunewright"))
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "hostile.yaml"
        for name, make in cases():
            if part not in name:
                continue
            spec.write_bytes(make())
            start = time.perf_counter()
            done = subprocess.run(
                [command, "validate", str(spec)], capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
            seconds = time.perf_counter() - start
            slowest.append((seconds, name))
            first = (done.stderr.strip().splitlines() or ["-"])[0]
            if done.returncode != 2 or "Traceback" in done.stderr:
                first = f"EXIT {done.returncode}: {done.stderr[-300:]}"
            print(f"{seconds:6.2f} s  {len(done.stderr):>8,} letters  {name:<45} {first[-110:]}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"slowest: {', '.join(f'{name} {seconds:.2f} s' for seconds, name in sorted(slowest)[:-4:-1])}")
    print(f"largest peak of one process: {peak:.0f} MiB")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "")
