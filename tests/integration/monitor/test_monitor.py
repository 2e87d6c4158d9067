"""The monitor on a real bus: telemetry, alerts as stored events, restarts, notifications, and what it costs."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from msgspec.structs import replace

from appliance.alerts import orders
from appliance.alerts.notifier import ALERTS, FAILURES, Notifier, send
from appliance.alerts.send import Order
from appliance.alerts.settings import Alerts, Notify, RuleChange
from appliance.monitor.latest import HostView, latest
from appliance.monitor.service import Monitor, boot_clock
from appliance.service import STARTED_S
from appliance.settings import Bus as BusSection
from appliance.settings import Config
from appliance.storage.sample import STALE_AFTER, StorageSample, latest_storage
from appliance.supervisor.programs import monitor_program
from bus.connection import Bus, StreamState
from bus.events import AlertCleared, AlertRaised, ClipFailed
from bus.ids import new_id
from bus.tap import history
from tests.integration.conftest import NatsBox, nats_box
from tests.lean import lean_environment
from tests.unit.monitor.recorded import Err, RecordedNvml, l4

A = "GPU-aaaa0000-1111-2222-3333-444455556666"
COST_S = 4.0
MAX_RSS_MIB = 45
MAX_CORE_SHARE = 0.01
MANY = 1000
"""Failures that are one message."""


def config_of(data_dir: Path, *, notify: Notify = Notify(), **rules: RuleChange) -> Config:  # noqa: B008 - frozen
    """Alerts without waiting; `rules` with `_` for the dots."""
    changes = {name.replace("_", "."): change for name, change in rules.items()}
    alerts = Alerts(boot_grace_s=0.0, rules={"clock.sync": RuleChange(enabled=False), **changes})
    return Config(data_dir=data_dir, bus=BusSection(port=0), alerts=alerts, notify=notify)


FULL = RuleChange(warning=(0.001, 0.0005), for_s=0, hold_s=0)
"""Any volume is fuller than this."""


async def alerts_of(bus: Bus) -> list[AlertRaised | AlertCleared]:
    found = [stored.event async for stored in history(bus, "evt.alert.>")]
    return [event for event in found if isinstance(event, AlertRaised | AlertCleared)]


@asynccontextmanager
async def sending(
    bus: Bus, config: Config, nvml: RecordedNvml | None = None, *, box_started: float | None = 0.0
) -> AsyncIterator[Monitor]:
    """A monitor with its sender at work; its rounds are taken by the test."""
    monitor = await asyncio.to_thread(Monitor, bus, config, load=lambda: nvml, box_started=box_started)
    task = asyncio.create_task(monitor._send_events())
    try:
        yield monitor
        async with asyncio.timeout(10):
            while monitor._events:
                await asyncio.sleep(0.01)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        monitor._executor.shutdown()


async def one_view(bus: Bus) -> HostView:
    async with asyncio.timeout(10):
        while not (views := await latest(bus)):
            await asyncio.sleep(0.02)
    return views[0]


async def test_samples_and_alerts_are_there_for_everybody(nats: NatsBox, tmp_path: Path) -> None:
    config = config_of(tmp_path, disk_data_used=FULL)
    bus, reader = await nats.bus("monitor"), await nats.bus("cli")
    async with sending(bus, config) as monitor:
        raised = await monitor.step()
        await monitor.step()
    assert [change.alert for change in raised] == ["disk-data-used-data"]
    view = await one_view(reader)
    assert (view.stale, view.sample.gpus and view.sample.gpus.state) == (False, "none")
    assert view.sample.cpu is not None
    assert view.sample.memory is not None
    assert view.sample.disks
    assert [alert.alert for alert in view.alerts] == ["disk-data-used-data"]
    (event,) = await alerts_of(reader)
    assert isinstance(event, AlertRaised)
    assert (event.alert, event.severity, event.rule, event.device) == (
        "disk-data-used-data", "warning", "disk.data.used", "data",
    )  # fmt: skip
    assert "The data volume is full" in event.message
    assert event.since is not None


async def test_what_jobs_will_need_is_remembered_while_nobody_tells(nats: NatsBox, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    told = StorageSample(
        ts=now, total_bytes=2**40, free_bytes=2**39, promised_bytes=2**35, reserve_bytes=2**30, floor_bytes=0,
        ballast_bytes=0, level="open", reason=None, exhausted=False,
    )  # fmt: skip
    guard, bus = await nats.bus("dispatcher"), await nats.bus("monitor", patience_s=0.3, attempt_s=0.2)
    guard.telemetry("storage", "box", told)
    async with sending(bus, config_of(tmp_path)) as monitor, asyncio.timeout(20):
        while monitor._beside.promised_bytes != 2**35:
            await monitor.look_at_bus()
        assert monitor._beside.events_used_percent is not None
        guard.telemetry("storage", "box", replace(told, ts=now - STALE_AFTER))
        while await latest_storage(guard, now) is not None:
            await asyncio.sleep(0.01)
        await monitor.look_at_bus()
        assert monitor._beside.promised_bytes == 2**35, "the guard is silent"
        await nats.kill()
        await monitor.look_at_bus()
        assert monitor._beside.promised_bytes == 2**35, "the bus is away"
        assert monitor._beside.events_used_percent is None


async def test_a_sample_grows_stale(nats: NatsBox, tmp_path: Path) -> None:
    bus = await nats.bus("monitor")
    async with sending(bus, config_of(tmp_path)) as monitor:
        await monitor.step()
    view = await one_view(bus)
    later = view.sample.ts.fromtimestamp(view.sample.ts.timestamp() + 10.5, view.sample.ts.tzinfo)
    (stale,) = await latest(bus, later)
    assert (stale.stale, stale.age_s) == (True, 10.5)


async def test_a_silence_made_by_a_command_mutes_and_an_alert_survives_a_restart(nats: NatsBox, tmp_path: Path) -> None:
    await asyncio.to_thread(orders.silence, tmp_path, "disk.*", for_s=600, author="ann", reason="a test")
    config = config_of(tmp_path, disk_data_used=FULL)
    bus = await nats.bus("monitor")
    async with sending(bus, config) as monitor:
        (raised,) = await monitor.step()
        assert raised.muted_by is not None
    async with sending(bus, config) as monitor:
        assert await monitor.step() == [], "known from before"
    calm = config_of(tmp_path, disk_data_used=RuleChange(warning=(100.5, 100.2), hold_s=0))
    async with sending(bus, calm) as monitor:
        (cleared,) = await monitor.step()
        assert cleared.kind == "cleared"
    assert [event.muted_by is not None for event in await alerts_of(bus)] == [True, True]


async def test_a_rule_that_was_taken_away_ends_its_alert(nats: NatsBox, tmp_path: Path) -> None:
    bus = await nats.bus("monitor")
    async with sending(bus, config_of(tmp_path, disk_data_used=FULL)) as monitor:
        await monitor.step()
    off = config_of(tmp_path, disk_data_used=RuleChange(enabled=False))
    async with sending(bus, off) as monitor:
        await monitor.step()
    assert [type(event).__name__ for event in await alerts_of(bus)] == ["AlertRaised", "AlertCleared"]


async def test_nothing_in_the_boot_grace(nats: NatsBox, tmp_path: Path) -> None:
    config = config_of(tmp_path, disk_data_used=FULL)
    config = replace(config, alerts=replace(config.alerts, boot_grace_s=3600.0))
    bus = await nats.bus("monitor")
    async with sending(bus, config, box_started=boot_clock()) as monitor:
        assert [await monitor.step() for _ in range(5)] == [[]] * 5
    assert await alerts_of(bus) == []


async def test_a_card_and_its_errors_reach_the_bus(nats: NatsBox, tmp_path: Path) -> None:
    nvml = RecordedNvml({A: l4()})
    config = config_of(tmp_path, gpu_lost=RuleChange(for_s=0))
    config = replace(config, hardware=replace(config.hardware, interval_s=0.2))
    bus = await nats.bus("monitor")
    async with sending(bus, config, nvml) as monitor:
        assert await monitor.step() == []
        assert monitor.sample is not None
        assert monitor.sample.gpus is not None
        assert monitor.sample.gpus.cards[0].power_w == 71.9
        nvml.events = [(A, 79)]
        nvml.cards[A]["everything"] = Err("GPU_IS_LOST")
        said: list[str] = []
        async with asyncio.timeout(10):
            while len(said) < 1:
                await asyncio.sleep(0.2)
                said += [change.rule.id for change in await monitor.step()]
    assert "gpu.lost" in said
    events = await alerts_of(bus)
    assert any("GPU 0 NVIDIA L4" in event.message for event in events)


async def test_events_wait_for_the_bus_in_order(tmp_path: Path) -> None:
    async with nats_box(tmp_path) as nats:
        bus = await nats.bus("monitor", patience_s=0.5, attempt_s=0.3)
        config = config_of(tmp_path, disk_data_used=FULL, mem_available=RuleChange(warning=(100, 101), for_s=0))
        async with sending(bus, config) as monitor:
            await nats.kill()
            changes = await monitor.step()
            assert len(changes) == 2
            await monitor.step()
            await nats.start()
        events = await alerts_of(await nats.bus("cli"))
        assert [event.alert for event in events] == [change.alert for change in changes]


class Hook:
    """A webhook on loopback that keeps what it was sent."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.port = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        self.messages.put_nowait(json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()


@asynccontextmanager
async def hook() -> AsyncIterator[Hook]:
    found = Hook()
    server = await asyncio.start_server(found.answer, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with server:
        yield found


needs_apprise = pytest.mark.skipif(find_spec("apprise") is None, reason="notifications need the package apprise")


@needs_apprise
async def test_people_are_told_in_one_message(nats: NatsBox, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = await nats.bus("monitor")
    worker = await nats.bus("worker")
    async with hook() as told:
        settings = Notify(urls=[f"json://127.0.0.1:{told.port}/hook"], group_s=3.0, urgent_s=3.0)
        notifier = Notifier(bus, settings)
        following, stream_state = asyncio.Semaphore(0), bus.stream_state

        async def asked() -> StreamState:
            """What follows facts asks for the stream's end when its subscription stands."""
            try:
                return await stream_state()
            finally:
                following.release()

        monkeypatch.setattr(bus, "stream_state", asked)
        task = asyncio.create_task(notifier.run())
        try:
            async with asyncio.timeout(10):
                for _ in ALERTS + FAILURES:
                    await following.acquire()
            job = new_id()
            failed = [
                ClipFailed(job=job, clip=n, stage="cut", attempts=3, error="crashed", code="crash")
                for n in range(1, MANY + 1)
            ]
            await worker.commit(failed)
            await bus.publish(
                AlertRaised(alert="disk-x", severity="critical", message="The disk is full.", rule="disk.x")
            )
            message = await asyncio.wait_for(told.messages.get(), 30)
            async with asyncio.timeout(10):
                while notifier.sent == 0:
                    await asyncio.sleep(0.01)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    assert message["title"].endswith(f": 1 alert, {MANY} failures")
    assert message["message"].startswith("CRITICAL: The disk is full.\n")
    assert f"(×{MANY})" in message["message"]
    assert message["type"] == "failure"
    assert told.messages.empty()
    assert "apprise" not in sys.modules, "only the child that sends imports it"


@needs_apprise
async def test_an_address_that_hangs_is_given_up_and_others_are_served() -> None:
    came, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.set()
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        gone.set()

    async with hook() as told, await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        dead = server.sockets[0].getsockname()[1]
        message = {"title": "t", "body": "b", "severity": "info"}
        order = msgspec.convert({"urls": [f"json://127.0.0.1:{told.port}", "nope://x"], **message}, Order)
        outcomes = await send(order, 20.0)
        assert [outcome.ok for outcome in outcomes] == [True, False]
        assert "nope" in outcomes[1].error
        hanging = msgspec.convert({"urls": [f"json://user:secret@127.0.0.1:{dead}"], **message}, Order)
        for limit_s in (2.0, 4.0, 8.0, 16.0):  # the sender must have come so far that it hangs
            (outcome,) = await send(hanging, limit_s)
            assert not outcome.ok
            assert "secret" not in outcome.error
            if came.is_set():
                break
        await asyncio.wait_for(gone.wait(), 30)


async def test_nobody_to_tell_costs_nothing(nats: NatsBox) -> None:
    await asyncio.wait_for(Notifier(await nats.bus("monitor"), Notify()).run(), 1)


async def test_the_process_is_cheap_and_comes_back_after_a_kill(tmp_path: Path) -> None:
    async with nats_box(tmp_path) as nats:
        spec = monitor_program(config_of(tmp_path))
        assert spec is not None
        reader = await nats.bus("cli")

        environment = {**lean_environment(tmp_path), **spec.env}

        def start() -> subprocess.Popen[bytes]:
            with (tmp_path / "monitor.log").open("ab") as log:
                return subprocess.Popen(spec.argv, env=environment, stdout=log, stderr=log)

        process = await asyncio.to_thread(start)
        try:
            await one_view(reader)
            used, rss_mib = await asyncio.to_thread(_cost, process.pid)
            assert rss_mib <= MAX_RSS_MIB, f"{rss_mib:.1f} MiB"
            assert used / COST_S <= MAX_CORE_SHARE, f"{used / COST_S:.2%} of a core"
            process.send_signal(signal.SIGKILL)
            await asyncio.to_thread(process.wait)
            killed_at = time.clock_gettime(time.CLOCK_BOOTTIME)
            process = await asyncio.to_thread(start)
            async with asyncio.timeout(20):
                while (await one_view(reader)).sample.uptime_s <= killed_at:
                    await asyncio.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(process.wait, 10) == 0
        finally:
            process.kill()
            process.wait()
        assert "error" not in (tmp_path / "monitor.log").read_text()


def _cost(pid: int) -> tuple[float, float]:
    """Processor seconds in `COST_S`, and resident memory in MiB at its end."""
    process = psutil.Process(pid)
    time.sleep(STARTED_S + 0.5)  # it has told something: by then it has cleared away what its start left behind
    before_s = _on_processor_s(pid)
    time.sleep(COST_S)
    return _on_processor_s(pid) - before_s, process.memory_info().rss / 2**20


def _on_processor_s(pid: int) -> float:
    """In nanoseconds' steps: those of `/proc/<pid>/stat` are a hundredth of a second, a quarter of what is allowed."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9
