"""What a process shares, and a backend must leave as it found it: environment, folder, signals, logging, generators."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

SWITCHES = frozenset({
    "ACCELERATE_DISABLE_RICH", "BITSANDBYTES_NOWELCOME", "DATASETS_VERBOSITY", "DO_NOT_TRACK",
    "HF_DATASETS_OFFLINE", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_TELEMETRY", "HF_HUB_OFFLINE",
    "TOKENIZERS_PARALLELISM", "TRANSFORMERS_NO_ADVISORY_WARNINGS", "TRANSFORMERS_OFFLINE", "TRANSFORMERS_VERBOSITY",
    "WANDB_DISABLED",
})  # fmt: skip
"""Variables that make a library ask no network, send nothing and say less: they may be set and left."""

MONITORS = frozenset({"tqdm_monitor"})
"""Threads of which a library starts one a process, whoever uses it first."""
RANDOM, TORCH = "the generator of `random`", "torch's generator"
GRACE = 0.5  # seconds that a thread may take to end after the work is done


def snapshot(draws: Collection[str] = ()) -> dict[str, Any]:
    """The state now, without the generators that a part `draws` from."""
    found = {
        "os.environ": _environment(),
        "the working folder": str(Path.cwd()),
        "sys.path": list(sys.path),
        "sys.stdout and sys.stderr": (id(sys.stdout), id(sys.stderr)),
        "the umask": _umask(),
        "signal handlers": {_signal(number): signal.getsignal(number) for number in _signals()},
        "the root logger": (list(logging.root.handlers), logging.root.level, logging.root.manager.disable),
        "the warning filters": [entry for entry in warnings.filters if entry[3] is None],
        "threads": {thread.ident: thread.name for thread in threading.enumerate()},
    }
    found |= {RANDOM: random.getstate(), **_torch()}
    return {name: value for name, value in found.items() if name not in draws}


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """What was left behind, a few words each."""
    for name, was in before.items():
        now = after.get(name, was)
        if name == "threads":
            left = [now[ident] for ident in now.keys() - was.keys() if now[ident] not in MONITORS]
            if left:
                yield f"threads that are still alive ({', '.join(sorted(left))})"
        elif name in ("os.environ", "signal handlers") and now != was:
            keys = sorted(key for key in {*was, *now} if was.get(key) != now.get(key))
            yield f"{name} ({', '.join(keys)})"
        elif now != was:
            yield name


def settle(before: Mapping[str, Any]) -> None:
    """Wait a moment for threads that are about to end."""
    until = time.monotonic() + GRACE
    while time.monotonic() < until and any(t.ident not in before["threads"] for t in threading.enumerate()):
        time.sleep(0.01)


def restore(before: Mapping[str, Any]) -> None:
    """Put back what can be put back, so that one check does not disturb the next."""
    for name in os.environ.keys() - SWITCHES - before["os.environ"].keys():
        del os.environ[name]
    os.environ.update(before["os.environ"])
    os.chdir(before["the working folder"])
    sys.path[:] = before["sys.path"]
    os.umask(before["the umask"])
    for number in _signals():
        handler = before["signal handlers"].get(_signal(number))
        if handler is not None and signal.getsignal(number) != handler:
            signal.signal(number, handler)
    handlers, level, disabled = before["the root logger"]
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.disable(disabled)
    kept = before["the warning filters"]
    warnings.filters[:] = [  # type: ignore[index]
        *[entry for entry in warnings.filters if entry[3] is not None], *kept,
    ]  # fmt: skip
    if RANDOM in before:
        random.setstate(before[RANDOM])
    _restore_torch(before)


def _environment() -> dict[str, str]:
    left = SWITCHES | {"PYTEST_CURRENT_TEST"}
    return {name: value for name, value in os.environ.items() if name not in left}


def _umask() -> int:
    found = os.umask(0)
    os.umask(found)
    return found


def _signal(number: int) -> str:
    """A signal's name; real-time signals between the first and the last have none."""
    return signal.Signals(number).name if number in signal.Signals.__members__.values() else f"signal {number}"


def _signals() -> list[int]:
    """Those whose handler Python knows; only the main thread may put them back."""
    if threading.current_thread() is not threading.main_thread():
        return []
    return sorted(number for number in signal.valid_signals() if signal.getsignal(number) is not None)


def _torch() -> dict[str, Any]:
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "get_num_threads"):
        return {}
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        TORCH: torch.random.get_rng_state().tolist(),
    }


def _restore_torch(before: Mapping[str, Any]) -> None:
    torch = sys.modules.get("torch")
    if torch is None or "torch's default dtype" not in before:
        return
    torch.set_default_dtype(before["torch's default dtype"])
    if torch.get_num_threads() != before["torch's number of threads"]:
        torch.set_num_threads(before["torch's number of threads"])
    torch.set_grad_enabled(before["torch's gradient mode"])
    torch.use_deterministic_algorithms(before["torch's deterministic mode"])
    if TORCH in before:
        torch.random.set_rng_state(torch.tensor(before[TORCH], dtype=torch.uint8))
