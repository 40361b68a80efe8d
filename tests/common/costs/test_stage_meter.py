from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from common.costs.stage_meter import StageMeter


def _busy(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_sleep_costs_wall_time_and_no_cpu_time():
    meter = StageMeter()
    time.sleep(0.2)
    cost = meter.read()
    assert 0.2 <= cost["wall_seconds"] < 2
    assert cost["cpu_seconds"] < 0.15


def test_cpu_time_of_all_threads_is_counted():
    meter = StageMeter()
    threads = [threading.Thread(target=_busy, args=(0.15,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.3 <= meter.read()["cpu_seconds"] < 0.6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux starts the peak anew")
def test_peak_is_that_of_the_stage():
    try:
        open("/proc/self/clear_refs", "w").close()
    except OSError:
        pytest.skip("this system doesn't let a process start its peak anew")
    # a process of its own: after hundreds of tests the allocator has room for the block without growing
    code = """
import numpy as np
from common.costs.stage_meter import StageMeter
first = StageMeter()
block = np.ones(200 * 2**20, dtype=np.uint8)
high = first.read()["peak_memory_mib"]
del block
second = StageMeter().read()["peak_memory_mib"]
assert high - second > 150, (high, second)
assert first.read()["peak_memory_mib"] == high, "what was read stays the peak"
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[3])
