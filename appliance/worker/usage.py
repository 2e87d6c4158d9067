"""What a worker takes of the machine: its own memory and that of the stage it runs, on the card too. Blocking."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct

from appliance.monitor.gpu import load_nvml

log = logging.getLogger(__name__)
_FIRST_PID_NAMESPACE = "pid:[4026531836]"
"""`PROC_PID_INIT_INO` of Linux. In another one (a container) the driver may name processes as the host knows them."""


class Usage(Struct, frozen=True):
    """Of this process and everything below it, now."""

    rss_bytes: int
    gpu_memory_bytes: int | None
    """On all cards together; None without a driver, or when it does not tell (in a container it may not)."""


class UsageReader:
    """Call `read` from one thread at a time. `load` gives the NVML module, or None without a driver."""

    def __init__(self, load: Callable[[], Any | None] = load_nvml) -> None:
        self._load = load
        self._nvml: Any | None = None
        self._looked = False

    def read(self, *, at_work: bool) -> Usage:
        """Never raises for the driver's sake. `at_work`: whether to look for a stage, in all of /proc."""
        rss_bytes, pids = _own_rss_bytes(), {os.getpid()}
        if at_work:
            import psutil  # an idle worker does without its 3 MiB

            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    rss_bytes += process.memory_info().rss
                    pids.add(process.pid)
        return Usage(rss_bytes, self._gpu_memory_bytes(pids))

    def _gpu_memory_bytes(self, pids: set[int]) -> int | None:
        nvml = self._open()
        if nvml is None:
            return None
        try:
            used = 0
            for index in range(nvml.nvmlDeviceGetCount()):
                card = nvml.nvmlDeviceGetHandleByIndex(index)
                for process in nvml.nvmlDeviceGetComputeRunningProcesses(card):
                    if process.pid in pids:
                        used += process.usedGpuMemory or 0
        except nvml.NVMLError as error:
            log.debug("NVML does not tell: %s", error)
            return None
        return used if used or sees_own_pids() else None

    def _open(self) -> Any | None:
        """The module, opened at the first call; a driver that comes later is found by the next worker."""
        if not self._looked:
            self._looked = True
            self._nvml = self._load()
            if self._nvml is not None:
                try:
                    self._nvml.nvmlInit()
                except self._nvml.NVMLError as error:
                    log.warning("the NVIDIA driver does not answer: %s", error)
                    self._nvml = None
        return self._nvml


def sees_own_pids() -> bool:
    """Whether this process knows processes by the numbers that the driver does."""
    return str(Path("/proc/self/ns/pid").readlink()) == _FIRST_PID_NAMESPACE


def _own_rss_bytes() -> int:
    """Of this process, from proc(5)'s statm."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
