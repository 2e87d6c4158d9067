"""NVML answering from a script instead of a driver: the functions, constants and errors of NVIDIA's own module.

A card is a table of what each function answers: a value, or an `Err` with the name of NVML's error. Everything that
is not in the table is NOT_SUPPORTED, as on a card that lacks it. Figures are those of an L4 and of a GeForce under
load, as nvidia-smi shows them.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml

MIB = 2**20
Table = dict[Any, Any]
"""What a card answers, by function or by function and arguments."""


@dataclass(frozen=True)
class Err:
    """Answered instead of a value."""

    name: str

    def error(self) -> Exception:
        error: Exception = pynvml.NVMLError(getattr(pynvml, f"NVML_ERROR_{self.name}"))
        return error


def l4(**changes: Any) -> Table:
    """A data-centre card at work: no fan, ECC, row remapping, MIG not supported."""
    return {
        "nvmlDeviceGetName": "NVIDIA L4",
        "nvmlDeviceGetVbiosVersion": "95.04.29.00.06",
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97, memory=41),
        "nvmlDeviceGetEncoderUtilization": [63, 167000],
        "nvmlDeviceGetDecoderUtilization": [22, 167000],
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(
            total=24570 * MIB, used=9120 * MIB, free=14960 * MIB, reserved=490 * MIB
        ),
        "nvmlDeviceGetTemperature": 71,
        ("nvmlDeviceGetTemperatureThreshold", pynvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN): 92,
        ("nvmlDeviceGetTemperatureThreshold", pynvml.NVML_TEMPERATURE_THRESHOLD_SHUTDOWN): 97,
        "nvmlDeviceGetPowerUsage": 71_936,
        "nvmlDeviceGetEnforcedPowerLimit": 72_000,
        ("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_SM): 1245,
        ("nvmlDeviceGetClockInfo", pynvml.NVML_CLOCK_MEM): 6250,
        ("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_SM): 2040,
        ("nvmlDeviceGetMaxClockInfo", pynvml.NVML_CLOCK_MEM): 6251,
        "nvmlDeviceGetCurrentClocksEventReasons": pynvml.nvmlClocksEventReasonSwPowerCap,
        "nvmlDeviceGetPerformanceState": 0,
        "nvmlDeviceGetCurrPcieLinkGeneration": 4,
        "nvmlDeviceGetCurrPcieLinkWidth": 16,
        ("nvmlDeviceGetPcieThroughput", pynvml.NVML_PCIE_UTIL_RX_BYTES): 812_000,
        ("nvmlDeviceGetPcieThroughput", pynvml.NVML_PCIE_UTIL_TX_BYTES): 96_000,
        ("nvmlDeviceGetTotalEccErrors", 0, 0): 0,
        ("nvmlDeviceGetTotalEccErrors", 1, 0): 0,
        ("nvmlDeviceGetTotalEccErrors", 0, 1): 12,
        ("nvmlDeviceGetTotalEccErrors", 1, 1): 0,
        "nvmlDeviceGetRemappedRows": (1, 0, 0, 0),
        "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=4242, usedGpuMemory=9000 * MIB)],
        "nvmlDeviceGetGraphicsRunningProcesses": [],
        "nvmlDeviceGetProcessUtilization": [
            SimpleNamespace(pid=4242, timeStamp=1_700_000_000_000_000, smUtil=93, memUtil=40, encUtil=63, decUtil=22)
        ],
        "nvmlDeviceRegisterEvents": None,
        **changes,
    }


def geforce(**changes: Any) -> Table:
    """A consumer card with an old driver: a fan, no ECC, the old name of the clock reasons, memory version 1 only."""
    return {
        "nvmlDeviceGetName": "NVIDIA GeForce RTX 3060",
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=3, memory=1),
        ("nvmlDeviceGetMemoryInfo", "v2"): Err("FUNCTION_NOT_FOUND"),
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=12288 * MIB, used=611 * MIB, free=11677 * MIB),
        "nvmlDeviceGetTemperature": 38,
        "nvmlDeviceGetFanSpeed": 0,
        "nvmlDeviceGetPerformanceState": 32,
        "nvmlDeviceGetCurrentClocksEventReasons": Err("FUNCTION_NOT_FOUND"),
        "nvmlDeviceGetCurrentClocksThrottleReasons": pynvml.nvmlClocksEventReasonGpuIdle,
        "nvmlDeviceGetPowerUsage": Err("UNKNOWN"),
        **changes,
    }


@dataclass
class RecordedNvml:
    """Stands in for the module `pynvml`. Change `cards`, `init` and `events` between readings."""

    cards: dict[str, Table]
    init: Err | None = None
    driver: str = "580.95.05"
    events: list[tuple[str, int]] = field(default_factory=list)
    """XID errors to come: UUID and number."""
    asked: list[str] = field(default_factory=list)
    opened: int = 0
    closed: int = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvmlDevice"):
            return lambda uuid, *arguments, **named: self._answer(name, uuid, arguments, named)
        return getattr(pynvml, name)

    def _answer(self, name: str, uuid: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        self.asked.append(name)
        inspect.signature(getattr(pynvml, name)).bind(uuid, *arguments, **named)  # as the real function takes it
        table = self.cards.get(uuid)
        if table is None:
            raise Err("GPU_IS_LOST").error()
        if name == "nvmlDeviceGetUUID":
            return uuid
        if name == "nvmlDeviceGetProcessUtilization":
            arguments = ()
        if name == "nvmlDeviceRegisterEvents":
            arguments = ()
        key: Any = (name, "v2") if named.get("version") and (name, "v2") in table else name
        found = table.get((name, *arguments), table.get(key, Err("NOT_SUPPORTED")))
        found = table.get("everything", found)
        if isinstance(found, Err):
            raise found.error()
        return found

    def nvmlInit(self) -> None:
        self.opened += 1
        if self.init is not None:
            raise self.init.error()

    def nvmlShutdown(self) -> None:
        self.closed += 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return self.driver

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        return list(self.cards)[index]

    def nvmlEventSetCreate(self) -> object:
        return object()

    def nvmlEventSetWait_v2(self, _events: object, timeout_ms: int) -> SimpleNamespace:
        assert timeout_ms == 0, "the monitor never waits in the driver"
        if not self.events:
            raise Err("TIMEOUT").error()
        uuid, xid = self.events.pop(0)
        return SimpleNamespace(nvmlDevice=uuid, eventType=8, eventData=xid)
