"""The box's volumes: space, inodes, traffic, time to full, and whether the data folder is still the one it was.

Blocking; a hung network mount blocks it for good, so it has a thread of its own.
"""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from appliance.monitor.fill import FillForecast
from appliance.monitor.rates import Rates
from appliance.monitor.sample import Disk, Wear

if TYPE_CHECKING:
    from psutil._ntuples import sdiskio as Traffic

log = logging.getLogger(__name__)
MARKER = ".volume"
MARKER_EVERY_S = 30.0


class DiskReader:
    """Call from one thread at a time. Volumes that lie on one device are read once, with all their roles.

    `reserve`: bytes that should stay free on a data volume of so many bytes in all.
    """

    def __init__(self, data_dir: Path, reserve: Callable[[int], int]) -> None:
        self._data_dir = data_dir
        self._reserve = reserve
        self._marker = Marker(data_dir / "run" / MARKER)
        self._rates = Rates()
        self._forecasts: dict[int, FillForecast] = {}
        self._names: dict[int, str | None] = {}

    def disks(self) -> list[Disk]:
        volumes: dict[int, tuple[Path, list[str]]] = {}
        for role, path in (("data", self._data_dir), ("nats", self._data_dir / "nats"), ("os", Path("/"))):
            try:
                volumes.setdefault(path.stat().st_dev, (path, []))[1].append(role)
            except OSError:
                continue  # data: the marker says so; nats: a bus elsewhere
        counters = psutil.disk_io_counters(perdisk=True) or {}
        found = []
        for number, (path, roles) in volumes.items():
            try:
                found.append(self._disk(number, path, roles, counters))
            except OSError as error:
                log.warning("a volume cannot be read", extra={"path": str(path), "error": str(error)})
        return found

    def _disk(self, number: int, path: Path, roles: list[str], counters: dict[str, Traffic]) -> Disk:
        space = os.statvfs(path)
        now = time.monotonic()
        total, free = space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize
        used = (space.f_blocks - space.f_bfree) * space.f_frsize
        forecast = self._forecasts.setdefault(number, FillForecast())
        forecast.add(now, free)
        name = self._device(number)
        traffic = counters.get(name) if name else None
        is_data = "data" in roles
        return Disk(
            roles=roles,
            path=str(path),
            device=name,
            total_bytes=total,
            free_bytes=free,
            used_percent=round(100 * used / (used + free), 1) if used + free else 0.0,
            inodes_used_percent=round(100 * (1 - space.f_ffree / space.f_files), 1) if space.f_files else None,
            read_bytes_s=self._rates.per_s(f"{name} read", traffic.read_bytes, now) if traffic else None,
            write_bytes_s=self._rates.per_s(f"{name} write", traffic.write_bytes, now) if traffic else None,
            busy_percent=self._busy(f"{name} busy", traffic, now),
            full_in_s=None if forecast.seconds is None or math.isinf(forecast.seconds) else round(forecast.seconds),
            reserve_bytes=self._reserve(total) if is_data else None,
            marker=self._marker.good(now) if is_data else None,
        )

    def to_full_h(self) -> dict[str, float | None]:
        """Hours until the data volume is full; inf when it is not filling up."""
        try:
            forecast = self._forecasts.get(self._data_dir.stat().st_dev)
        except OSError:
            return {}
        seconds = None if forecast is None else forecast.seconds
        return {"data": None if seconds is None else seconds / 3600}

    def _busy(self, name: str, traffic: Traffic | None, now: float) -> float | None:
        if traffic is None:
            return None
        share = self._rates.per_s(name, getattr(traffic, "busy_time", 0) / 10, now)  # ms a second into percent
        return None if share is None else min(100.0, share)

    def _device(self, number: int) -> str | None:
        """The block device of a volume by its number (`sda1`); None for what has none (overlay, network)."""
        if number not in self._names:
            try:
                link = os.readlink(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")  # noqa: PTH115 - text only
            except OSError:
                link = ""
            self._names[number] = link.rpartition("/")[2] or None
        return self._names[number]


class Marker:
    """A file in the data folder: its absence tells an unmounted volume, a refused write a read-only one.

    It is made when the monitor starts, and never again: what is missing later was taken away.
    """

    def __init__(self, path: Path, every_s: float = MARKER_EVERY_S) -> None:
        self._path = path
        self._every_s = every_s
        self._looked_at = -math.inf
        self._good = True
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError as error:
            self._good = False
            log.warning("the data folder cannot be written", extra={"path": str(path), "error": str(error)})

    def good(self, now: float) -> bool:
        if now - self._looked_at >= self._every_s:
            self._looked_at = now
            try:
                os.utime(self._path)
                self._good = True
            except OSError:
                self._good = False
        return self._good


def wear(sys_block: Path = Path("/sys/block")) -> list[Wear]:
    """eMMC disks tell their wear to everybody: `life_time` holds two steps from 1 (0-10 %) to 11 (used up).

    NVMe and SATA disks tell it to root only.
    """
    found = []
    for path in sorted(sys_block.glob("mmcblk*/device/life_time")):
        try:
            steps = [int(word, 16) for word in re.findall(r"0x[0-9a-fA-F]+", path.read_text())]
        except OSError:
            continue
        if any(1 <= step <= 11 for step in steps):
            found.append(Wear(disk=path.parts[-3], used_percent=10.0 * (max(steps) - 1)))
    return found
