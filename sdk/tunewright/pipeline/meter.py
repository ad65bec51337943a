"""Seconds and peak memory of one step of this process."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAXRSS = 1 if sys.platform == "darwin" else 1024  # bytes that `ru_maxrss` counts in


def machine(device: str) -> dict[str, str | int]:
    """What the training ran on: the number of threads changes the bytes of a result, so it is kept with it."""
    try:
        cpu = Path("/proc/cpuinfo").read_text().partition("model name")[2].partition(":")[2].partition("\n")[0].strip()
    except OSError:
        cpu = platform.processor()
    cores = os.cpu_count() or 1
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None else 1
    return {"cores": cores, "cpu": cpu, "threads": threads, "device": device}


@contextlib.contextmanager
def same_threads() -> Iterator[None]:
    """Leave torch's number of threads as it was: a training that is taken up goes on with its checkpoint's."""
    torch = sys.modules.get("torch")
    before = None if torch is None else torch.get_num_threads()
    try:
        yield
    finally:
        if torch is not None and torch.get_num_threads() != before:
            torch.set_num_threads(before)


class Meter:
    """Starts on making. On Linux the kernel's high-water mark is reset, so that each step has a peak of its own."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        if (cuda := _cuda()) is not None:
            cuda.reset_peak_memory_stats()
        with contextlib.suppress(OSError):  # elsewhere the peak is that of the process so far, an upper bound
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM

    def seconds(self) -> float:
        return round(time.monotonic() - self.start, 3)

    def peak_rss_bytes(self) -> int:
        return _high_water("self") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS

    def peak_device_bytes(self) -> int:
        """Most bytes that this process has taken of its GPU; 0 where it used none."""
        cuda = _cuda()
        return 0 if cuda is None else int(cuda.max_memory_reserved())


def held_on_device() -> int:
    """Bytes of its GPU that this process has taken, those that its allocator keeps for later among them; 0 where it
    uses none."""
    cuda = _cuda()
    return 0 if cuda is None else int(cuda.memory_reserved())


def peak_of_children() -> int:
    """Most bytes that this process's own have held: those that live, together, or the largest that has ended."""
    living = 0
    for listed in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            living += sum(map(_high_water, listed.read_text().split()))
    return max(living, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * MAXRSS)


def _high_water(process: str) -> int:
    """Most bytes that a process has held; 0 where the system does not say, or it has ended."""
    try:
        return int(Path(f"/proc/{process}/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return 0


def free_memory(device: str) -> int:
    """Bytes that a process could take now, on its GPU where it has one; 0 where the system does not say."""
    cuda = _cuda() if device == "cuda" else None
    if cuda is not None:
        return int(cuda.mem_get_info()[0])
    try:
        return int(Path("/proc/meminfo").read_text().partition("MemAvailable:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return 0


def _cuda() -> Any:
    """torch's module of that name, where torch is imported and uses a GPU: nothing is imported for it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def resident() -> int:
    """Bytes of memory that this process holds now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
