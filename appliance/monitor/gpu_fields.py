"""What is asked of a card and how often: one function a question, each giving the fields of `Gpu` that it answers.

`nvml` is NVIDIA's module. Names and units follow its API reference; a question that a card cannot answer raises
`NVMLError` and leaves its fields null.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from appliance.monitor.sample import GpuProcess

THROTTLE_REASONS: dict[int, str] = {
    0x002: "clock setting",
    0x004: "power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal",
    0x040: "hardware thermal",
    0x080: "power brake",
    0x100: "display clocks",
}
"""Bits of nvmlClocksEventReasons. 0x1, idle, holds nothing down."""
HARMFUL = frozenset({"hardware slowdown", "software thermal", "hardware thermal", "power brake"})
"""Reasons that mean heat or a failing supply; a power cap alone is how cards are meant to run."""
MAX_PROCESSES = 64


class Handle(Protocol):
    """What a question needs of an open card."""

    handle: Any
    seen_us: int


Source = Callable[[Any, Any], dict[str, Any]]


def _one(field: str, function: str, constant: str = "") -> Source:
    """A field that is the plain answer of one function, asked with an NVML constant or without."""

    def ask(nvml: Any, card: Handle) -> dict[str, Any]:
        arguments = (getattr(nvml, constant),) if constant else ()
        return {field: getattr(nvml, function)(card.handle, *arguments)}

    return ask


def _watts(field: str, function: str) -> Source:
    def ask(nvml: Any, card: Handle) -> dict[str, Any]:
        return {field: round(getattr(nvml, function)(card.handle) / 1000, 1)}  # milliwatts

    return ask


def _pstate(nvml: Any, card: Handle) -> dict[str, Any]:
    state = int(nvml.nvmlDeviceGetPerformanceState(card.handle))
    return {"pstate": state if state <= 15 else None}  # 32 is "unknown"


def _utilization(nvml: Any, card: Handle) -> dict[str, Any]:
    rates = nvml.nvmlDeviceGetUtilizationRates(card.handle)
    return {"util_percent": int(rates.gpu), "memory_util_percent": int(rates.memory)}


def _encoder(nvml: Any, card: Handle) -> dict[str, Any]:
    return {"encoder_percent": int(nvml.nvmlDeviceGetEncoderUtilization(card.handle)[0])}


def _decoder(nvml: Any, card: Handle) -> dict[str, Any]:
    return {"decoder_percent": int(nvml.nvmlDeviceGetDecoderUtilization(card.handle)[0])}


def _memory(nvml: Any, card: Handle) -> dict[str, Any]:
    """Version 2 tells what the driver keeps for itself apart from what is used; old drivers know version 1 only."""
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(card.handle, version=nvml.nvmlMemory_v2)
        reserved: int | None = int(memory.reserved)
    except nvml.NVMLError as error:
        if error.value not in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_FUNCTION_NOT_FOUND,
                               nvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH):  # fmt: skip
            raise
        memory, reserved = nvml.nvmlDeviceGetMemoryInfo(card.handle), None
    return {
        "memory_total_bytes": int(memory.total),
        "memory_used_bytes": int(memory.used),
        "memory_reserved_bytes": reserved,
    }


def _slowed_by(nvml: Any, card: Handle) -> dict[str, Any]:
    try:
        bits = nvml.nvmlDeviceGetCurrentClocksEventReasons(card.handle)
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_FUNCTION_NOT_FOUND:
            raise
        bits = nvml.nvmlDeviceGetCurrentClocksThrottleReasons(card.handle)  # its name before driver 535
    return {"slowed_by": [name for bit, name in THROTTLE_REASONS.items() if bits & bit]}


def _ecc(field: str, kind: str, counter: str) -> Source:
    def ask(nvml: Any, card: Handle) -> dict[str, Any]:
        return {
            field: int(
                nvml.nvmlDeviceGetTotalEccErrors(
                    card.handle, getattr(nvml, f"NVML_MEMORY_ERROR_TYPE_{kind}"), getattr(nvml, f"NVML_{counter}_ECC")
                )
            )
        }

    return ask


def _retired(nvml: Any, card: Handle) -> dict[str, Any]:
    causes = (
        nvml.NVML_PAGE_RETIREMENT_CAUSE_MULTIPLE_SINGLE_BIT_ECC_ERRORS,
        nvml.NVML_PAGE_RETIREMENT_CAUSE_DOUBLE_BIT_ECC_ERROR,
    )
    return {"retired_pages": sum(len(nvml.nvmlDeviceGetRetiredPages(card.handle, cause)) for cause in causes)}


def _retirement_pending(nvml: Any, card: Handle) -> dict[str, Any]:
    return {"retirement_pending": bool(nvml.nvmlDeviceGetRetiredPagesPendingStatus(card.handle))}


def _remapped(nvml: Any, card: Handle) -> dict[str, Any]:
    corrected, uncorrected, pending, failed = nvml.nvmlDeviceGetRemappedRows(card.handle)
    return {
        "remapped_rows": int(corrected) + int(uncorrected),
        "remap_pending": bool(pending),
        "remap_failed": bool(failed),
    }


def _mig(nvml: Any, card: Handle) -> dict[str, Any]:
    return {"mig": nvml.nvmlDeviceGetMigMode(card.handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE}


def _pcie_throughput(field: str, counter: str) -> Source:
    """NVML counts for 20 ms while it is asked, hence slowly; its answer is in KB/s."""

    def ask(nvml: Any, card: Handle) -> dict[str, Any]:
        return {field: 1000 * int(nvml.nvmlDeviceGetPcieThroughput(card.handle, getattr(nvml, counter)))}

    return ask


def _processes(nvml: Any, card: Handle) -> dict[str, Any]:
    """Who holds memory, and who of them used what since the last look. Compute and graphics lists may overlap."""
    holders: dict[int, int | None] = {}
    for running in (nvml.nvmlDeviceGetComputeRunningProcesses, nvml.nvmlDeviceGetGraphicsRunningProcesses):
        for process in running(card.handle):
            holders[int(process.pid)] = None if process.usedGpuMemory is None else int(process.usedGpuMemory)
    shares: dict[int, Any] = {}
    try:
        for sample in nvml.nvmlDeviceGetProcessUtilization(card.handle, card.seen_us):
            shares[int(sample.pid)] = sample
            card.seen_us = max(card.seen_us, int(sample.timeStamp))
    except nvml.NVMLError:
        pass  # nobody used the card since, or this card does not tell
    return {
        "processes": [
            GpuProcess(
                pid=pid,
                memory_bytes=memory,
                sm_percent=int(shares[pid].smUtil) if pid in shares else None,
                encoder_percent=int(shares[pid].encUtil) if pid in shares else None,
                decoder_percent=int(shares[pid].decUtil) if pid in shares else None,
            )
            for pid, memory in sorted(holders.items())[:MAX_PROCESSES]
        ]
    }


FAST: dict[str, Source] = {
    "utilization": _utilization,
    "encoder": _encoder,
    "decoder": _decoder,
    "memory": _memory,
    "temperature": _one("temperature_c", "nvmlDeviceGetTemperature", "NVML_TEMPERATURE_GPU"),
    "power": _watts("power_w", "nvmlDeviceGetPowerUsage"),
    "clock sm": _one("clock_sm_mhz", "nvmlDeviceGetClockInfo", "NVML_CLOCK_SM"),
    "clock memory": _one("clock_memory_mhz", "nvmlDeviceGetClockInfo", "NVML_CLOCK_MEM"),
    "slowed by": _slowed_by,
}
"""Asked each time."""

SLOW: dict[str, Source] = {
    "name": _one("name", "nvmlDeviceGetName"),
    "vbios": _one("vbios", "nvmlDeviceGetVbiosVersion"),
    "slowdown": _one("slowdown_c", "nvmlDeviceGetTemperatureThreshold", "NVML_TEMPERATURE_THRESHOLD_SLOWDOWN"),
    "shutdown": _one("shutdown_c", "nvmlDeviceGetTemperatureThreshold", "NVML_TEMPERATURE_THRESHOLD_SHUTDOWN"),
    "power limit": _watts("power_limit_w", "nvmlDeviceGetEnforcedPowerLimit"),
    "clock sm max": _one("clock_sm_max_mhz", "nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_SM"),
    "clock memory max": _one("clock_memory_max_mhz", "nvmlDeviceGetMaxClockInfo", "NVML_CLOCK_MEM"),
    "pstate": _pstate,
    "fan": _one("fan_percent", "nvmlDeviceGetFanSpeed"),
    "pcie generation": _one("pcie_generation", "nvmlDeviceGetCurrPcieLinkGeneration"),
    "pcie width": _one("pcie_width", "nvmlDeviceGetCurrPcieLinkWidth"),
    "pcie rx": _pcie_throughput("pcie_rx_bytes_s", "NVML_PCIE_UTIL_RX_BYTES"),
    "pcie tx": _pcie_throughput("pcie_tx_bytes_s", "NVML_PCIE_UTIL_TX_BYTES"),
    "ecc corrected": _ecc("ecc_corrected", "CORRECTED", "VOLATILE"),
    "ecc uncorrected": _ecc("ecc_uncorrected", "UNCORRECTED", "VOLATILE"),
    "ecc corrected ever": _ecc("ecc_corrected_ever", "CORRECTED", "AGGREGATE"),
    "ecc uncorrected ever": _ecc("ecc_uncorrected_ever", "UNCORRECTED", "AGGREGATE"),
    "retired": _retired,
    "retirement pending": _retirement_pending,
    "remapped": _remapped,
    "mig": _mig,
    "processes": _processes,
}
"""Asked every 30 s: what changes rarely, or what costs."""
