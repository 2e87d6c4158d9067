"""Processors, memory, network, temperatures and the clock, by psutil and /proc. Blocking, a few milliseconds."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path

import psutil

from appliance.monitor.rates import Rates
from appliance.monitor.sample import Cpu, Memory, Network, Pressure, Temperature

PROC = Path("/proc")
TIME_ERROR = 5
"""`ntp_gettime`: the clock is not synchronised (<sys/timex.h>)."""


class HostReader:
    """Keeps what is needed for rates. One per process; call from one thread at a time."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc
        self._rates = Rates()
        self._cores: list[tuple[float, float, float, float]] = []

    def cpu(self) -> Cpu:
        shares = self._shares()
        load_1m, load_5m, load_15m = os.getloadavg()
        busy = [busy for busy, _, _ in shares]
        count = max(1, len(shares))
        return Cpu(
            busy_percent=round(sum(busy) / count, 1) if shares else None,
            per_core_percent=[round(share, 1) for share in busy] if shares else None,
            iowait_percent=round(sum(wait for _, wait, _ in shares) / count, 1) if shares else None,
            steal_percent=round(sum(steal for _, _, steal in shares) / count, 1) if shares else None,
            cores=len(self._cores) or os.cpu_count() or 1,
            load_1m=round(load_1m, 2),
            load_5m=round(load_5m, 2),
            load_15m=round(load_15m, 2),
            pressure=self._pressure("cpu"),
            frequency_mhz=_frequency_mhz(),
        )

    def _shares(self) -> list[tuple[float, float, float]]:
        """Busy, iowait and steal of each core since the last call, in percent; [] the first time."""
        before, self._cores = self._cores, []
        shares = []
        for t in psutil.cpu_times(percpu=True):
            steal, iowait = getattr(t, "steal", 0.0), getattr(t, "iowait", 0.0)
            # guest time is counted inside user and nice already
            total = (
                t.user + t.nice + t.system + t.idle + iowait + getattr(t, "irq", 0) + getattr(t, "softirq", 0) + steal
            )
            self._cores.append((total, t.idle, iowait, steal))
        if len(before) != len(self._cores):
            return []
        for (total, idle, iowait, steal), (total0, idle0, iowait0, steal0) in zip(self._cores, before, strict=True):
            span = total - total0
            if span <= 0:
                shares.append((0.0, 0.0, 0.0))
                continue
            # idle and iowait may run backwards by a tick (proc(5))
            waited, idled = max(0.0, iowait - iowait0), max(0.0, idle - idle0)
            busy = 100 * max(0.0, span - idled - waited) / span
            shares.append((min(100.0, busy), min(100.0, 100 * waited / span), 100 * max(0.0, steal - steal0) / span))
        return shares

    def memory(self) -> Memory:
        memory, swap = psutil.virtual_memory(), psutil.swap_memory()
        now = time.monotonic()
        return Memory(
            total_bytes=memory.total,
            available_bytes=memory.available,
            used_percent=round(100 * (1 - memory.available / memory.total), 1),
            pressure=self._pressure("memory"),
            oom_kills=self._oom_kills(),
            swap_total_bytes=swap.total,
            swap_used_bytes=swap.used,
            swap_in_bytes_s=self._rates.per_s("swap in", swap.sin, now),
            swap_out_bytes_s=self._rates.per_s("swap out", swap.sout, now),
        )

    def _pressure(self, what: str) -> Pressure | None:
        """The `some` line of a PSI file; None where the kernel has none."""
        try:
            line = (self._proc / "pressure" / what).read_text().split("\n", 1)[0]
            fields = dict(word.split("=") for word in line.split()[1:])
            return Pressure(
                avg10_percent=float(fields["avg10"]),
                avg60_percent=float(fields["avg60"]),
                avg300_percent=float(fields["avg300"]),
            )
        except (OSError, ValueError, KeyError):
            return None

    def _oom_kills(self) -> int | None:
        try:
            for line in (self._proc / "vmstat").read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
        except (OSError, ValueError):
            pass
        return None

    def networks(self) -> list[Network]:
        now = time.monotonic()
        return [
            Network(
                name=name,
                received_bytes_s=self._rates.per_s(f"{name} in", card.bytes_recv, now),
                sent_bytes_s=self._rates.per_s(f"{name} out", card.bytes_sent, now),
                errors=card.errin + card.errout,
                drops=card.dropin + card.dropout,
            )
            for name, card in sorted(psutil.net_io_counters(pernic=True).items())
            if name != "lo"
        ]


def temperatures() -> list[Temperature]:
    """Every sensor with a plausible reading; [] on machines without any (virtual ones)."""
    if not hasattr(psutil, "sensors_temperatures"):
        return []
    found = []
    for chip, sensors in psutil.sensors_temperatures().items():
        for number, sensor in enumerate(sensors):
            if sensor.current is None or not -50 < sensor.current < 250:
                continue
            found.append(
                Temperature(
                    sensor=f"{chip} {sensor.label or number}",
                    celsius=round(sensor.current, 1),
                    high_c=sensor.high or None,
                    critical_c=sensor.critical or None,
                )
            )
    return found


def clock_synchronised() -> bool | None:
    """Whether the kernel's clock is disciplined by NTP or PTP; None where it cannot be asked."""
    try:
        state = ctypes.CDLL(None, use_errno=True).ntp_gettime(ctypes.create_string_buffer(256))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != TIME_ERROR


def _frequency_mhz() -> float | None:
    """The first core's clock now: all of them would be one more file a core."""
    try:
        return round(int(Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").read_text()) / 1000)
    except (OSError, ValueError):
        return None
