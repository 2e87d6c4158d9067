"""One sample of the machine, as it goes out once a second on `tel.host.<host id>`.

Null means "this machine does not tell", never 0. `ages_s` says how old each part is: slow readings are made less often
than the sample is sent. Shares are 0 to 100. Rates are since the part's previous reading.
"""

from __future__ import annotations

import platform
import re
from datetime import datetime
from typing import Literal

from msgspec import Struct

TELEMETRY = "host"
ALERTS_TELEMETRY = "alerts"


def host_id() -> str:
    """The machine's name as a subject token: lower-case letters, digits and `-`."""
    return re.sub(r"[^a-z0-9]+", "-", platform.node().lower()).strip("-") or "host"


class Pressure(Struct, frozen=True, kw_only=True):
    """Share of the time in which work waited for a resource (PSI `some`): the last 10 s, minute, 5 minutes."""

    avg10_percent: float
    avg60_percent: float
    avg300_percent: float


class Cpu(Struct, frozen=True, kw_only=True):
    """Processors. `busy` leaves out waiting for disks (`iowait`)."""

    busy_percent: float | None
    per_core_percent: list[float] | None
    iowait_percent: float | None
    steal_percent: float | None
    cores: int
    load_1m: float
    load_5m: float
    load_15m: float
    pressure: Pressure | None
    frequency_mhz: float | None


class Memory(Struct, frozen=True, kw_only=True):
    """Memory and swap. `available` is what programs can still have."""

    total_bytes: int
    available_bytes: int
    used_percent: float
    pressure: Pressure | None
    oom_kills: int | None
    """Since the machine's start."""
    swap_total_bytes: int
    swap_used_bytes: int
    swap_in_bytes_s: float | None
    swap_out_bytes_s: float | None


class Disk(Struct, frozen=True, kw_only=True):
    """A volume of the box; `roles` says what lies on it (data, nats, os)."""

    roles: list[str]
    path: str
    device: str | None
    total_bytes: int
    free_bytes: int
    """For programs that are not root."""
    used_percent: float
    inodes_used_percent: float | None
    read_bytes_s: float | None
    write_bytes_s: float | None
    busy_percent: float | None
    full_in_s: float | None
    """Time to full; null while it is not known or the volume is not filling up."""
    reserve_bytes: int | None = None
    """What should stay free on the data volume."""
    marker: bool | None = None
    """Data volume: whether the marker file is there and can be written."""


class Wear(Struct, frozen=True, kw_only=True):
    """Used share of an eMMC disk's life, in steps of ten."""

    disk: str
    used_percent: float


class Network(Struct, frozen=True, kw_only=True):
    """A network interface, loopback left out."""

    name: str
    received_bytes_s: float | None
    sent_bytes_s: float | None
    errors: int
    """Since the machine's start."""
    drops: int


class Temperature(Struct, frozen=True, kw_only=True):
    """A sensor of the machine."""

    sensor: str
    celsius: float
    high_c: float | None
    critical_c: float | None


class GpuProcess(Struct, frozen=True, kw_only=True):
    """A process that holds memory of a card."""

    pid: int
    memory_bytes: int | None
    sm_percent: int | None = None
    encoder_percent: int | None = None
    decoder_percent: int | None = None


class Gpu(Struct, frozen=True, kw_only=True):
    """An NVIDIA card. Its identity is the UUID; the index changes when a card is lost or added."""

    uuid: str
    index: int
    name: str | None = None
    lost: bool = False
    util_percent: int | None = None
    memory_util_percent: int | None = None
    encoder_percent: int | None = None
    decoder_percent: int | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    temperature_c: int | None = None
    slowdown_c: int | None = None
    shutdown_c: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    clock_sm_mhz: int | None = None
    clock_sm_max_mhz: int | None = None
    clock_memory_mhz: int | None = None
    clock_memory_max_mhz: int | None = None
    slowed_by: list[str] | None = None
    """Why the clocks are below their maximum, of `THROTTLE_REASONS`; [] when nothing holds them down."""
    pstate: int | None = None
    fan_percent: int | None = None
    pcie_generation: int | None = None
    pcie_width: int | None = None
    pcie_rx_bytes_s: int | None = None
    pcie_tx_bytes_s: int | None = None
    ecc_corrected: int | None = None
    """Since the driver's start."""
    ecc_uncorrected: int | None = None
    ecc_corrected_ever: int | None = None
    ecc_uncorrected_ever: int | None = None
    retired_pages: int | None = None
    retirement_pending: bool | None = None
    remapped_rows: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    xids: int | None = None
    """XID errors seen since the monitor's start."""
    last_xid: int | None = None
    mig: bool | None = None
    vbios: str | None = None
    processes: list[GpuProcess] | None = None


class Gpus(Struct, frozen=True, kw_only=True):
    """The cards. `none`: no driver or no card, which is no fault. `failed`: there is a driver and it does not work."""

    state: Literal["none", "ok", "failed", "off"]
    note: str = ""
    driver: str | None = None
    cards: list[Gpu] = []


class Sample(Struct, frozen=True, kw_only=True):
    """The machine at one moment. A part is null when its collector has failed or is long overdue."""

    v: int = 1
    host: str
    ts: datetime
    interval_s: float
    uptime_s: float
    cpu: Cpu | None
    memory: Memory | None
    disks: list[Disk] | None
    wear: list[Wear] | None
    networks: list[Network] | None
    temperatures: list[Temperature] | None
    gpus: Gpus | None
    clock_synchronised: bool | None
    ages_s: dict[str, float | None]
    """Collector to the age of its reading; null before the first."""


class ActiveAlert(Struct, frozen=True, kw_only=True):
    """An alert that is raised now."""

    alert: str
    rule: str
    device: str
    severity: str
    message: str
    value: float | None
    since: datetime | None
    flapping: bool
    acknowledged: bool
    muted_by: str | None


class ActiveAlerts(Struct, frozen=True, kw_only=True):
    """All alerts of the monitor that are raised now, on `tel.alerts.<host id>`."""

    v: int = 1
    host: str
    ts: datetime
    alerts: list[ActiveAlert]
