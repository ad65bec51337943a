"""Seconds and peak memory of one step of this process."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import sys
import time
from pathlib import Path


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


class Meter:
    """Starts on making. On Linux the kernel's high-water mark is reset, so that each step has a peak of its own."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        with contextlib.suppress(OSError):  # elsewhere the peak is that of the process so far, an upper bound
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM

    def seconds(self) -> float:
        return round(time.monotonic() - self.start, 3)

    def peak_rss_bytes(self) -> int:
        try:
            status = Path("/proc/self/status").read_text()
            return int(status.partition("VmHWM:")[2].split()[0]) * 1024
        except (OSError, IndexError, ValueError):
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def resident() -> int:
    """Bytes of memory that this process holds now; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return 0
