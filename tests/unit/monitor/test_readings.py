"""Windows, differences, forecasts, rates: what samples mean."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.alerts.signals import SIGNALS
from appliance.monitor.fill import FillForecast
from appliance.monitor.rates import Rates
from appliance.monitor.readings import Beside, ReadingsMaker, Window
from appliance.monitor.sample import Cpu, Disk, Memory, Pressure, Sample, Temperature, Wear

GIB = 2**30
PRESSURE = Pressure(avg10_percent=1.0, avg60_percent=2.0, avg300_percent=3.0)


def cpu(**more: Any) -> Cpu:
    known = {
        "busy_percent": 10.0, "per_core_percent": [10.0], "iowait_percent": 0.0, "steal_percent": 0.0, "cores": 4,
        "load_1m": 2.0, "load_5m": 1.0, "load_15m": 1.0, "pressure": PRESSURE, "frequency_mhz": None,
    }  # fmt: skip
    return Cpu(**{**known, **more})


def memory(**more: Any) -> Memory:
    known = {
        "total_bytes": 16 * GIB, "available_bytes": 4 * GIB, "used_percent": 75.0, "pressure": None, "oom_kills": 0,
        "swap_total_bytes": 0, "swap_used_bytes": 0, "swap_in_bytes_s": None, "swap_out_bytes_s": None,
    }  # fmt: skip
    return Memory(**{**known, **more})


def disk(*roles: str, **more: Any) -> Disk:
    known = {
        "roles": list(roles), "path": "/data", "device": "sda1", "total_bytes": 100 * GIB, "free_bytes": 30 * GIB,
        "used_percent": 70.0, "inodes_used_percent": None, "read_bytes_s": None, "write_bytes_s": None,
        "busy_percent": None, "full_in_s": None,
    }  # fmt: skip
    return Disk(**{**known, **more})


def sample(**more: Any) -> Sample:
    known = {
        "host": "box", "ts": datetime(2026, 5, 1, tzinfo=UTC), "interval_s": 1.0, "uptime_s": 5000.0, "cpu": None,
        "memory": None, "disks": None, "wear": None, "networks": None, "temperatures": None, "gpus": None,
        "clock_synchronised": None, "ages_s": {},
    }  # fmt: skip
    return Sample(**{**known, **more})


def test_a_sample_in_signals() -> None:
    found = ReadingsMaker().readings(
        10.0,
        sample(
            cpu=cpu(),
            memory=memory(swap_total_bytes=GIB, swap_used_bytes=GIB // 4),
            disks=[disk("data", "nats", reserve_bytes=20 * GIB, marker=True), disk("os", inodes_used_percent=5.0)],
            wear=[Wear(disk="mmcblk0", used_percent=30.0)],
            temperatures=[Temperature(sensor="cpu 0", celsius=51.0, high_c=None, critical_c=None)],
            clock_synchronised=True,
        ),
        Beside(
            to_full_h={"data": math.inf},
            overdue_s={"host": -0.5, "gpus": 4.0},
            events_used_percent=12.0,
            promised_bytes=10 * GIB,
        ),
    )
    assert found == {
        "cpu.busy": {"host": 10.0},
        "cpu.load": {"host": 0.5},
        "cpu.pressure": {"host": 3.0},
        "cpu.iowait": {"host": None},
        "mem.available": {"host": 25.0},
        "mem.oom": {"host": 0.0},
        "swap.used": {"host": 25.0},
        "disk.data.used": {"data": 70.0},
        "disk.data.floor": {"data": 1.0},
        "disk.data.ttf": {"data": math.inf},
        "disk.mount": {"data": 0.0},
        "disk.os.used": {"os": 70.0},
        "disk.inodes": {"data": None, "os": 5.0},
        "disk.busy": {"data": None, "os": None},
        "disk.wear": {"mmcblk0": 30.0},
        "temp": {"cpu 0": 51.0},
        "clock.sync": {"host": 0.0},
        "monitor.blind": {"host": 0.0, "gpus": 4.0},
        "bus.events.used": {"host": 12.0},
    }
    assert set(found) <= set(SIGNALS)


def test_an_empty_sample_has_no_signals_but_none_is_zero() -> None:
    assert ReadingsMaker().readings(10.0, sample(), Beside()) == {"bus.events.used": {"host": None}}


def test_new_kills_are_told_once() -> None:
    maker = ReadingsMaker()
    told = [
        maker.readings(float(n), sample(memory=memory(oom_kills=kills)), Beside())["mem.oom"]["host"]
        for n, kills in enumerate([3, 3, 5, 5, None, 5, 0, 1])
    ]
    assert told == [0, 0, 2, 0, None, 0, 0, 1]


def test_an_unsynchronised_clock_gets_time_after_a_boot() -> None:
    maker = ReadingsMaker()
    assert "clock.sync" not in maker.readings(1.0, sample(uptime_s=900.0, clock_synchronised=False), Beside())
    late = maker.readings(1.0, sample(uptime_s=1100.0, clock_synchronised=False), Beside())
    assert late["clock.sync"] == {"host": 1.0}


def test_waiting_for_disks_is_a_mean_of_ten_minutes() -> None:
    maker = ReadingsMaker()

    def at(now: float, wait: float) -> float | None:
        return maker.readings(now, sample(cpu=cpu(iowait_percent=wait)), Beside())["cpu.iowait"]["host"]

    assert [at(float(n), 90.0) for n in range(299)] == [None] * 299, "five minutes at least"
    for n in range(299, 600):
        at(float(n), 0.0)
    mean = at(600.0, 0.0)
    assert mean is not None
    assert 40 < mean < 50


@given(st.lists(st.tuples(st.floats(0.5, 20), st.floats(0, 100)), min_size=1, max_size=200))
def test_a_window_is_close_to_the_true_mean(points: list[tuple[float, float]]) -> None:
    window, now = Window(300.0), 0.0
    seen: list[tuple[float, float]] = []
    for wait_s, value in points:
        now += wait_s
        window.add(now, value)
        seen.append((now, value))
        if (mean := window.mean(now)) is None:
            continue
        inside = [value for at, value in seen if now - at <= 300.0]
        assert min(inside) - 1e-9 <= mean <= max(inside) + 1e-9 or len(seen) > len(inside)
        assert len(window._buckets) <= 61


def fill(per_s: float, hours: float, start: float = 100.0 * GIB) -> FillForecast:
    forecast = FillForecast()
    for minute in range(int(hours * 60) + 1):
        forecast.add(minute * 60.0, start - per_s * minute * 60)
    return forecast


def test_time_to_full_needs_both_windows() -> None:
    assert fill(1e6, 0.5).seconds is None
    assert fill(1e6, 5.0).seconds is None
    steady = fill(1e6, 6.0).seconds
    assert steady == pytest.approx((100 * GIB - 1e6 * 6 * 3600) / 1e6, rel=0.01)


def test_a_volume_that_empties_will_not_be_full() -> None:
    assert fill(-1e6, 6.0).seconds == math.inf
    assert fill(0.0, 6.0).seconds == math.inf


def test_one_burst_of_writing_alarms_nobody() -> None:
    """The last hour alone would say two hours; six hours say much more."""
    forecast = fill(0.0, 6.0)
    for minute in range(1, 61):
        forecast.add(6 * 3600.0 + minute * 60, 100 * GIB - minute * 60 * 9e6)
    burst = forecast.seconds
    assert burst is not None
    assert burst > 12 * 3600
    for minute in range(61, 3 * 60):
        forecast.add(6 * 3600.0 + minute * 60, 100 * GIB - minute * 60 * 9e6)
    lasting = forecast.seconds
    assert lasting is not None
    assert lasting < burst / 2, "when it goes on it is told"


def test_rates() -> None:
    rates = Rates()
    assert rates.per_s("a", 100, 1.0) is None
    assert rates.per_s("a", 300, 3.0) == 100.0
    assert rates.per_s("a", 10, 4.0) is None, "a counter set anew"
    assert rates.per_s("a", 20, 5.0) == 10.0
    assert rates.per_s("a", 20, 5.0) is None, "no time passed"
