"""Where the time of one optimizer step of Tunewright's goes, by kinds of operation.

make profile            (or: PYTHONPATH=tests python -m bench.training.profile [--batch 32])
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

WIDTH = 80
PRODUCTS = ("aten::mm", "aten::addmm", "aten::linear", "aten::matmul", "mkldnn::", "aten::_int_mm", "bitsandbytes::")
ATTENTION = ("aten::bmm", "aten::baddbmm", "attention", "softmax")
OPTIMIZER = ("_fused_adam", "_foreach_", "Optimizer.", "_amp_", "_linalg_vector_norm")
GROUPS = ("matrix products", "attention", "elementwise, copies", "optimizer, clipping", "Python")


def group(name: str) -> str:
    """The group of an operation by the profiler's name. Of a decoder's products, those of batches are attention's."""
    if any(part in name for part in OPTIMIZER):
        return GROUPS[3]
    if any(part in name for part in ATTENTION):
        return GROUPS[1]
    if name.startswith(PRODUCTS):
        return GROUPS[0]
    return GROUPS[2] if name.startswith("aten::") else GROUPS[4]


def grouped(events: Iterable[tuple[str, float]], wall: float) -> dict[str, float]:
    """Seconds by group of (name, seconds of its own): what no operation took of the step is Python's."""
    seconds = dict.fromkeys(GROUPS, 0.0)
    for name, own in events:
        seconds[group(name)] += own
    seconds[GROUPS[4]] = max(0.0, wall - sum(seconds[name] for name in GROUPS[:4]))
    return seconds


def profiled(train: Callable[[], Any]) -> dict[str, Any]:
    """The second step of a training of two: the first one makes what is made once."""
    import torch
    from torch.profiler import ProfilerActivity

    from bench.training.clock import Clock

    cuda = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    profiler, times = torch.profiler.profile(activities=activities), list[float]()

    def after_step(model: Any, step: int) -> bool:
        if step == 1:
            profiler.start()
            times.append(time.perf_counter())
        else:
            times.append(time.perf_counter())
            profiler.stop()
        return step == 2

    with Clock(after_step).running():
        train()
    wall = times[1] - times[0]
    events = [
        (event.key, (event.self_device_time_total if cuda else event.self_cpu_time_total) / 1e6, event.count)
        for event in profiler.key_averages()
    ]
    longest = sorted(events, key=lambda event: -event[1])[:12]
    return {"wall": wall, "groups": grouped(((name, own) for name, own, _ in events), wall), "longest": longest}


def lines(found: Mapping[str, Any]) -> list[str]:
    """The profile as text, 80 columns wide."""
    wall = found["wall"]
    text = [f"one step: {wall:.2f} s", ""]
    for name, own in found["groups"].items():
        share = own / wall
        text.append(f"{name:<22}{own:8.2f} s {100 * share:4.0f} %  {'█' * round(40 * share)}"[:WIDTH])
    text += ["", f"{'the longest of them':<46}{'seconds':>10}{'calls':>8}  group"]
    for name, own, calls in found["longest"]:
        text.append(f"{name[:45]:<46}{own:10.3f}{calls:8}  {group(name)}"[:WIDTH])
    return text


def main() -> None:
    """Prepare rows, profile a step, print it."""
    from bench.training.__main__ import Sitting, arguments
    from bench.training.figures import Figure

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments(parser)
    parser.add_argument("--batch", type=int, default=32, help="rows of a step (default: 32)")
    parser.add_argument("--quantizer", choices=("none", "nf4"), default="none")
    given = parser.parse_args()
    sitting = Sitting(given)
    figure = Figure("profile", "banking77-10", (), batch=given.batch, steps=2, quantizer=given.quantizer)
    rows = sitting.rows("profile", figure)
    found = sitting.child({**sitting.job("profile", figure, rows), "does": "profile", "side": "tunewright"})
    print("\n".join(lines(found)))
    Path(given.work, "profile.json").write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main()
