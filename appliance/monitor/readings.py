"""From samples to the signals that rules look at: windows, differences, margins. Pure: the time comes in."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from msgspec import Struct

from appliance.alerts.rules import HOST
from appliance.monitor.gpu import DRIVER
from appliance.monitor.gpu_fields import HARMFUL
from appliance.monitor.sample import Disk, Gpu, Sample

IOWAIT_S = 600.0
THROTTLE_S = 300.0
DEFAULT_SLOWDOWN_C = 90.0
STARVED_BELOW_PERCENT = 10.0
CLOCK_AFTER_S = 17 * 60.0
"""Time synchronisation may take this long after a boot (Netdata's timex rule)."""

Readings = dict[str, dict[str, float | None]]


class Beside(Struct, frozen=True, kw_only=True):
    """What the sample itself does not hold."""

    to_full_h: Mapping[str, float | None] = {}
    overdue_s: Mapping[str, float] = {}
    gpu_work: int | None = None
    """Commands for the stages that may use a card, waiting and in work."""
    events_used_percent: float | None = None
    promised_bytes: int = 0
    """What the open jobs will still need on the data volume, as last told; 0 until it is told for the first time."""


class Window:
    """The mean of the last `span_s`, in buckets; None until the readings cover half of it."""

    def __init__(self, span_s: float, buckets: int = 60) -> None:
        self._span_s = span_s
        self._bucket_s = span_s / buckets
        self._buckets: deque[tuple[float, float, int]] = deque(maxlen=buckets + 1)

    def add(self, now: float, value: float) -> None:
        if self._buckets and now - self._buckets[-1][0] < self._bucket_s:
            start, total, count = self._buckets[-1]
            self._buckets[-1] = (start, total + value, count + 1)
        else:
            self._buckets.append((now, value, 1))

    def mean(self, now: float) -> float | None:
        while self._buckets and now - self._buckets[0][0] > self._span_s:
            self._buckets.popleft()
        if not self._buckets or now - self._buckets[0][0] < self._span_s / 2:
            return None
        return sum(total for _, total, _ in self._buckets) / sum(count for _, _, count in self._buckets)


class ReadingsMaker:
    """Keeps what is needed for windows and differences."""

    def __init__(self) -> None:
        self._iowait = Window(IOWAIT_S)
        self._throttle: dict[str, Window] = {}
        self._counters: dict[tuple[str, str], int] = {}
        self._starved_since: dict[str, float] = {}
        self._out: Readings = {}

    def readings(self, now: float, sample: Sample, beside: Beside) -> Readings:
        """The signals of this moment. A signal that cannot be told has no device or the value None."""
        self._out = {}
        self._host(now, sample)
        for disk in sample.disks or ():
            self._disk(disk, beside.promised_bytes)
        for worn in sample.wear or ():
            self._put("disk.wear", worn.disk, worn.used_percent)
        for sensor in sample.temperatures or ():
            self._put("temp", sensor.sensor, sensor.celsius)
        for name, hours in beside.to_full_h.items():
            self._put("disk.data.ttf", name, hours)
        for collector, seconds in beside.overdue_s.items():
            self._put("monitor.blind", collector, max(0.0, seconds))
        self._put("bus.events.used", HOST, beside.events_used_percent)
        if sample.gpus is not None:
            if sample.gpus.state == "failed" and not sample.gpus.cards:
                self._put("gpu.lost", DRIVER, 1.0)
            elif sample.gpus.cards:
                self._put("gpu.lost", DRIVER, 0.0)
            for gpu in sample.gpus.cards:
                self._gpu(now, gpu, beside)
        return self._out

    def _put(self, signal: str, device: str, value: float | None) -> None:
        self._out.setdefault(signal, {})[device] = value

    def _host(self, now: float, sample: Sample) -> None:
        cpu, memory = sample.cpu, sample.memory
        if cpu is not None:
            self._put("cpu.busy", HOST, cpu.busy_percent)
            self._put("cpu.load", HOST, cpu.load_1m / cpu.cores)
            if cpu.iowait_percent is not None:
                self._iowait.add(now, cpu.iowait_percent)
            self._put("cpu.iowait", HOST, self._iowait.mean(now))
            if cpu.pressure is not None:
                self._put("cpu.pressure", HOST, cpu.pressure.avg300_percent)
        if memory is not None:
            self._put("mem.available", HOST, 100 * memory.available_bytes / memory.total_bytes)
            self._put("mem.oom", HOST, self._new("oom", HOST, memory.oom_kills))
            if memory.pressure is not None:
                self._put("mem.pressure", HOST, memory.pressure.avg60_percent)
            if memory.swap_total_bytes:
                self._put("swap.used", HOST, 100 * memory.swap_used_bytes / memory.swap_total_bytes)
        if sample.clock_synchronised is not None and sample.uptime_s >= CLOCK_AFTER_S:
            self._put("clock.sync", HOST, 0.0 if sample.clock_synchronised else 1.0)

    def _disk(self, disk: Disk, promised_bytes: int) -> None:
        name = disk.roles[0]
        signal = {"data": "disk.data.used", "nats": "disk.nats.used", "os": "disk.os.used"}[name]
        self._put(signal, name, disk.used_percent)
        self._put("disk.inodes", name, disk.inodes_used_percent)
        self._put("disk.busy", name, disk.busy_percent)
        if disk.reserve_bytes:
            self._put("disk.data.floor", name, (disk.free_bytes - promised_bytes) / disk.reserve_bytes)
        if disk.marker is not None:
            self._put("disk.mount", name, 0.0 if disk.marker else 1.0)

    def _gpu(self, now: float, gpu: Gpu, beside: Beside) -> None:
        name = gpu.uuid
        self._put("gpu.lost", name, 1.0 if gpu.lost else 0.0)
        if gpu.lost:
            return
        self._put("gpu.util", name, gpu.util_percent)
        self._put("gpu.enc", name, gpu.encoder_percent)
        self._put("gpu.dec", name, gpu.decoder_percent)
        if gpu.memory_total_bytes and gpu.memory_used_bytes is not None:
            self._put("gpu.mem", name, 100 * gpu.memory_used_bytes / gpu.memory_total_bytes)
        if gpu.temperature_c is not None:
            self._put("gpu.temp", name, gpu.temperature_c - (gpu.slowdown_c or DEFAULT_SLOWDOWN_C))
        if gpu.slowed_by is not None:
            window = self._throttle.setdefault(name, Window(THROTTLE_S))
            window.add(now, 100.0 if HARMFUL & set(gpu.slowed_by) else 0.0)
            self._put("gpu.throttle", name, window.mean(now))
        self._put("gpu.xid", name, self._new("xid", name, gpu.xids))
        self._put("gpu.ecc_unc", name, self._new("ecc", name, gpu.ecc_uncorrected))
        parts = (gpu.remapped_rows, gpu.retired_pages, None if gpu.remap_failed is None else int(gpu.remap_failed))
        known = [part for part in parts if part is not None]
        self._put("gpu.row_remap", name, self._new("remap", name, sum(known) if known else None))
        self._put("gpu.starved", name, self._starved(now, gpu, beside.gpu_work))

    def _new(self, counter: str, device: str, count: int | None) -> float | None:
        """What a counter has grown by since the last sample. A counter that fell was set anew with the driver."""
        if count is None:
            return None
        before = self._counters.get((counter, device))
        self._counters[counter, device] = count
        return 0.0 if before is None else float(max(0, count - before))

    def _starved(self, now: float, gpu: Gpu, work: int | None) -> float | None:
        """Only a card that some process holds can starve: stages may as well run on the processor."""
        if gpu.util_percent is None or gpu.processes is None or work is None:
            self._starved_since.pop(gpu.uuid, None)
            return None
        if not gpu.processes or not work or gpu.util_percent >= STARVED_BELOW_PERCENT:
            self._starved_since.pop(gpu.uuid, None)
            return 0.0
        return now - self._starved_since.setdefault(gpu.uuid, now)


def labels(sample: Sample) -> dict[str, str]:
    """How people call the devices of a sample's signals."""
    named = {HOST: sample.host, DRIVER: "the NVIDIA driver"}
    for disk in sample.disks or ():
        named[disk.roles[0]] = disk.path
    for gpu in sample.gpus.cards if sample.gpus else ():
        named[gpu.uuid] = f"GPU {gpu.index} {gpu.name or ''}".strip()
    return named
