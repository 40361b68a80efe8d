"""What a stretch of a process costs: wall and CPU seconds, peak memory."""

from __future__ import annotations

import resource
import sys
import time

import torch


class StageMeter:
    """Measures from its construction on; `read()` may be called any number of times.

    A new meter starts the process's peak of resident memory anew where the system can (Linux), so whoever holds an
    older meter reads it first. Elsewhere the peak is that of the whole process.
    """

    def __init__(self) -> None:
        self._wall = time.perf_counter()
        self._cpu = cpu_seconds()
        self._peaks = {"peak_memory_mib": 0.0}
        _restart_peak()
        if _uses_cuda():
            self._peaks["peak_gpu_memory_mib"] = 0.0
            torch.cuda.reset_peak_memory_stats()

    def read(self) -> dict[str, float]:
        """Return wall_seconds, cpu_seconds (all threads and ended child processes), peak_memory_mib, times_run = 1."""
        self._peaks["peak_memory_mib"] = max(self._peaks["peak_memory_mib"], peak_memory_mib())
        if "peak_gpu_memory_mib" in self._peaks:
            peak = torch.cuda.max_memory_allocated() / 2**20
            self._peaks["peak_gpu_memory_mib"] = max(self._peaks["peak_gpu_memory_mib"], peak)
        return {
            "wall_seconds": time.perf_counter() - self._wall,
            "cpu_seconds": cpu_seconds() - self._cpu,
            **self._peaks,
            "times_run": 1,
        }


def cpu_seconds() -> float:
    """CPU seconds of this process, all threads, and of its child processes that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_memory_mib() -> float:
    """Peak resident memory in MiB since the last `StageMeter` was made (Linux) or since the process began."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _restart_peak() -> None:
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as clear:
            clear.write("5")  # proc(5): reset the peak resident set size to the current one
    except OSError:
        pass


def _uses_cuda() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()
