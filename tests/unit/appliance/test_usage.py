"""What a worker holds: its memory with its stage's, and the memory on cards, only where a driver tells."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from appliance.worker import usage
from appliance.worker.usage import UsageReader

MIB = 1024**2


class NVMLError(Exception):
    pass


class Driver:
    """Two cards; what each process holds by pid."""

    NVMLError = NVMLError

    def __init__(self, cards: list[dict[int, int | None]]) -> None:
        self.cards = cards
        self.lost = False

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetComputeRunningProcesses(self, card: int) -> list[Any]:
        if self.lost:
            raise NVMLError("GPU is lost")
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in self.cards[card].items()]


def test_without_a_driver_the_card_is_unknown_not_empty() -> None:
    found = UsageReader(lambda: None).read(at_work=True)
    assert found.gpu_memory_bytes is None
    assert 0.5 < found.rss_bytes / psutil.Process().memory_info().rss < 2


def test_the_stage_counts_with_its_worker_and_nobody_else() -> None:
    block = "x = bytearray(200 * 2**20); print(flush=True); input()"
    child = subprocess.Popen([sys.executable, "-c", block], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    driver = Driver([{os.getpid(): 10 * MIB, 1: 999 * MIB}, {child.pid: 500 * MIB}])
    reader = UsageReader(lambda: driver)
    with_stage = reader.read(at_work=True)
    child.communicate(b"\n")
    assert with_stage.rss_bytes > 200 * MIB
    assert with_stage.gpu_memory_bytes == 510 * MIB
    assert reader.read(at_work=False).gpu_memory_bytes == 10 * MIB
    after = reader.read(at_work=True)
    assert after.gpu_memory_bytes == 10 * MIB
    assert after.rss_bytes < with_stage.rss_bytes - 150 * MIB


def test_a_card_that_does_not_tell_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = Driver([{os.getpid(): None}])
    reader = UsageReader(lambda: driver)
    monkeypatch.setattr(usage, "sees_own_pids", lambda: True)
    assert reader.read(at_work=True).gpu_memory_bytes == 0
    monkeypatch.setattr(usage, "sees_own_pids", lambda: False)
    assert reader.read(at_work=True).gpu_memory_bytes is None, "the driver names other processes than we know"
    monkeypatch.setattr(usage, "sees_own_pids", lambda: True)
    driver.lost = True
    assert reader.read(at_work=True).gpu_memory_bytes is None
