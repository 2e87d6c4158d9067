"""The readers on this machine and on made-up files; collectors that fail or hang."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from appliance.monitor.collectors import Collector
from appliance.monitor.disks import DiskReader, Marker, wear
from appliance.monitor.host import HostReader, clock_synchronised, temperatures
from appliance.monitor.sample import Pressure, host_id
from bus.subjects import token


def test_the_processors() -> None:
    reader = HostReader()
    first = reader.cpu()
    assert (first.busy_percent, first.per_core_percent, first.iowait_percent) == (None, None, None), "no rate yet"
    until = time.process_time() + 0.15
    while time.process_time() < until:
        sum(range(1000))
    cpu = reader.cpu()
    assert cpu.cores == len(cpu.per_core_percent or []) == psutil.cpu_count()
    assert cpu.busy_percent is not None
    assert cpu.iowait_percent is not None
    assert 0 < cpu.busy_percent <= 100, "this test alone kept a core busy"
    assert 0 <= cpu.iowait_percent <= 100
    assert cpu.load_1m >= 0


def test_memory_and_networks() -> None:
    reader = HostReader()
    memory = reader.memory()
    assert memory.total_bytes == psutil.virtual_memory().total
    assert 0 < memory.available_bytes <= memory.total_bytes
    assert all(card.name != "lo" for card in reader.networks())


def test_pressure_and_kills_as_the_kernel_writes_them(tmp_path: Path) -> None:
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "cpu").write_text(
        "some avg10=74.90 avg60=65.89 avg300=52.04 total=2594925291\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
    )
    (tmp_path / "vmstat").write_text("nr_free_pages 1\noom_kill 3\n")
    reader = HostReader(tmp_path)
    assert reader.cpu().pressure == Pressure(avg10_percent=74.9, avg60_percent=65.89, avg300_percent=52.04)
    memory = reader.memory()
    assert (memory.oom_kills, memory.pressure) == (3, None), "a kernel without pressure tells null"


@pytest.mark.parametrize("text", ["", "some", "some avg10=x avg60=1 avg300=2", "some avg10=1"])
def test_pressure_that_cannot_be_read_is_null(tmp_path: Path, text: str) -> None:
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "cpu").write_text(text)
    assert HostReader(tmp_path).cpu().pressure is None


def test_sensors_and_the_clock_never_raise() -> None:
    assert all(-50 < sensor.celsius < 250 for sensor in temperatures())
    assert clock_synchronised() in (True, False, None)
    token(host_id())


def test_a_volume_is_read_once_with_all_its_roles(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    reader = DiskReader(tmp_path, lambda total: total // 7)
    reader.disks()
    data, *others = reader.disks()
    assert data.roles[:2] == ["data", "nats"]
    assert len({role for disk in (data, *others) for role in disk.roles}) == 3
    space = os.statvfs(tmp_path)
    assert data.total_bytes == space.f_blocks * space.f_frsize
    assert data.reserve_bytes == data.total_bytes // 7
    assert data.marker is True
    assert data.full_in_s is None
    assert reader.to_full_h() == {"data": None}
    assert 0 < data.used_percent <= 100


def test_a_data_folder_that_is_taken_away(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    marker = Marker(folder / "run" / ".volume", every_s=30.0)
    assert marker.good(100.0)
    folder.rename(tmp_path / "elsewhere")
    assert marker.good(129.0), "looked at every 30 s"
    assert not marker.good(130.0)
    folder.mkdir()
    assert not marker.good(170.0), "a bare folder in its place is not the volume"
    folder.rmdir()
    (tmp_path / "elsewhere").rename(folder)
    assert marker.good(210.0)
    reader = DiskReader(tmp_path / "never", lambda _: 0)
    (tmp_path / "never" / "run" / ".volume").unlink()
    (tmp_path / "never" / "run").rmdir()
    (tmp_path / "never").rmdir()
    assert [disk.roles for disk in reader.disks()] == [["os"]]


def test_wear_of_emmc(tmp_path: Path) -> None:
    for name, text in (("mmcblk0", "0x02 0x04\n"), ("mmcblk1", "0x00 0x00\n")):
        (tmp_path / name / "device").mkdir(parents=True)
        (tmp_path / name / "device" / "life_time").write_text(text)
    assert [(worn.disk, worn.used_percent) for worn in wear(tmp_path)] == [("mmcblk0", 30.0)]


async def test_a_collector_that_hangs_or_fails_tells_its_age_and_harms_no_other() -> None:
    release = threading.Event()
    clock = 100.0

    def now() -> float:
        return clock

    hangs: Collector[bool] = Collector("hangs", lambda: release.wait(20), 1.0, now)
    fails: Collector[int] = Collector("fails", lambda: 1 // 0, 1.0, now)
    works: Collector[int] = Collector("works", lambda: 7, 1.0, now)
    with ThreadPoolExecutor(3) as executor:
        for _ in range(10):
            clock += 1
            for collector in (hangs, fails, works):
                collector.poll(executor)
            ended = [one.running for one in (fails, works) if one.running is not None]
            assert ended
            await asyncio.wait(ended)
            await asyncio.sleep(0)
        assert (works.value(clock), works.age_s(clock), works.overdue_s(clock)) == (7, 0.0, -1.0)
        assert (fails.value(clock), fails.age_s(clock), fails.overdue_s(clock)) == (None, None, 9.0)
        assert (hangs.value(clock), hangs.overdue_s(clock)) == (None, 9.0)
        assert works.value(clock + 11) is None, "far too old is not known"
        release.set()
        assert hangs.running is not None
        await hangs.running
        await asyncio.sleep(0)
        assert hangs.value(clock) is True
