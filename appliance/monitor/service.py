"""The monitor's loop: sample, send as telemetry, judge by the rules, publish what changed.

Everything that may block runs in threads, each collector at its own pace; the loop itself only puts the latest readings
together. In an outage of the bus it goes on judging: telemetry is dropped, events wait in a bounded queue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import psutil

from appliance.alerts import ledger
from appliance.alerts.engine import Engine, Entry, Transition
from appliance.alerts.orders import Orders, OrdersDamaged, path_of, read
from appliance.alerts.rules import rules_with
from appliance.alerts.words import message
from appliance.config import Config
from appliance.monitor import disks, host
from appliance.monitor.collectors import Collector
from appliance.monitor.gpu import LOOK_S, GpuReader, load_nvml
from appliance.monitor.readings import Beside, ReadingsMaker, labels
from appliance.monitor.sample import (
    ALERTS_TELEMETRY,
    TELEMETRY,
    ActiveAlert,
    ActiveAlerts,
    Cpu,
    Disk,
    Gpus,
    Memory,
    Network,
    Sample,
    Temperature,
    Wear,
    host_id,
)
from appliance.storage.sample import latest_storage
from appliance.storage.volume import marks
from bus.connection import Bus
from bus.errors import BusError, Retryable
from bus.events import AlertCleared, AlertRaised, Event

log = logging.getLogger(__name__)
SOURCE = "monitor"
DISKS_EVERY_S = 2.0
SLOW_EVERY_S = 5.0
BUS_EVERY_S = 15.0
WAIT_S = 0.1
FIRST_WAIT_S = 3.0
ALERTS_EVERY_S = 10.0
SAVE_EVERY_S = 60.0
MAX_UNSENT = 1000
RETRY_S = 1.0
GPU_STAGES = ("transcribe", "faces", "cut")


def boot_clock() -> float:
    """Seconds since the machine's start, suspended time included: the clock of all timers here."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Monitor:
    """One per machine. `run` until cancelled; `step` is one round. Making one reads files: not on an event loop."""

    def __init__(
        self, bus: Bus, config: Config, *, load: Callable[[], Any | None] = load_nvml, box_started: float | None = None
    ) -> None:
        self._bus = bus
        self._config = config
        self._data_dir = config.data_dir
        self._host = host_id()
        now = boot_clock()
        self._grace_until = (_box_start() if box_started is None else box_started) + config.alerts.boot_grace_s
        settings = config.hardware
        self._host_reader = host.HostReader()
        self._disk_reader = disks.DiskReader(
            self._data_dir, lambda total: marks(config.admission, config.retention, total).reserve_bytes
        )
        self._gpu_reader = GpuReader(load)
        every = settings.interval_s
        self._of_host: Collector[tuple[Cpu, Memory, list[Network]]] = Collector(
            "host", self._read_host, every, boot_clock
        )
        self._of_disks: Collector[tuple[list[Disk], dict[str, float | None]]] = Collector(
            "disks", self._read_disks, max(DISKS_EVERY_S, every), boot_clock
        )
        self._of_slow: Collector[tuple[list[Temperature], list[Wear], bool | None, Orders]] = Collector(
            "slow", self._read_slow, max(SLOW_EVERY_S, every), boot_clock
        )
        self._of_gpus: Collector[Gpus] = Collector("gpus", self._read_gpus, every, boot_clock)
        self._collectors: list[Collector[Any]] = [self._of_host, self._of_disks, self._of_slow]
        if settings.gpu == "auto":
            self._collectors.append(self._of_gpus)
        self._executor = ThreadPoolExecutor(max_workers=4, thread_name_prefix="collect")
        self._maker = ReadingsMaker()
        entries = ledger.load(self._data_dir, now)
        rules = rules_with(config.alerts.rules)
        self._engine = Engine(rules, config.alerts, entries)
        self._orders = Orders()
        self._orders_seen: tuple[int, int] | None = None
        self._events: deque[Event] = deque(maxlen=MAX_UNSENT)
        self._events_wait = asyncio.Event()
        self._beside = Beside()
        self._messages = {entry.id: "" for entry in entries}
        self._alerts_sent_at = 0.0
        self._saved_at = now
        self.sample: Sample | None = None
        for entry in entries:
            if entry.active and entry.rule not in {rule.id for rule in rules}:
                self._publish(
                    AlertCleared(source=SOURCE, alert=entry.id, message=f"Over: no rule {entry.rule} any more.")
                )

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._sample_for_ever())
                tasks.create_task(self._look_at_bus())
                tasks.create_task(self._send_events())
        finally:
            self._gpu_reader.close()
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _sample_for_ever(self) -> None:
        loop = asyncio.get_running_loop()
        interval = self._config.hardware.interval_s
        due = loop.time()
        while True:
            await self.step()
            due = max(due + interval, loop.time())
            await asyncio.sleep(due - loop.time())

    async def step(self) -> list[Transition]:
        """One round with the readings that are there; returns what the rules made of them."""
        for collector in self._collectors:
            collector.poll(self._executor)
        await self._wait_for_readings(FIRST_WAIT_S if self.sample is None else WAIT_S)
        now = boot_clock()
        self.sample = sample = self._put_together(now)
        self._bus.telemetry(TELEMETRY, self._host, sample)
        transitions = self._judge(now, sample)
        for transition in transitions:
            self._publish(self._event(transition, sample))
        if transitions or now - self._alerts_sent_at >= ALERTS_EVERY_S:
            self._alerts_sent_at = now
            self._bus.telemetry(ALERTS_TELEMETRY, self._host, self._active(sample))
        if transitions or (now - self._saved_at >= SAVE_EVERY_S and self._engine.active()):
            self._saved_at = now
            await self._save()
        return transitions

    async def _wait_for_readings(self, longest_s: float) -> None:
        """Readings take milliseconds: with this short wait a sample holds this moment's, not the last one's."""
        running = [reading for collector in self._collectors if (reading := collector.running) is not None]
        if running:
            await asyncio.wait(running, timeout=longest_s)
            await asyncio.sleep(0)  # their callbacks

    def _put_together(self, now: float) -> Sample:
        of_host, of_disks, of_slow = self._of_host.value(now), self._of_disks.value(now), self._of_slow.value(now)
        gpus = Gpus(state="off", note="hardware.gpu is off")
        if self._of_gpus in self._collectors:
            found = self._of_gpus.value(now)
            gpus = found if found is not None else Gpus(state="none", note="not read yet")
            # A machine without a card is asked once a minute, not once a second.
            self._of_gpus.every_s = LOOK_S if found and found.state == "none" else self._config.hardware.interval_s
        if of_slow is not None:
            self._orders = of_slow[3]
        return Sample(
            host=self._host,
            ts=datetime.now(UTC),
            interval_s=self._config.hardware.interval_s,
            uptime_s=round(now, 1),
            cpu=None if of_host is None else of_host[0],
            memory=None if of_host is None else of_host[1],
            networks=None if of_host is None else of_host[2],
            disks=None if of_disks is None else of_disks[0],
            temperatures=None if of_slow is None else of_slow[0],
            wear=None if of_slow is None else of_slow[1],
            clock_synchronised=None if of_slow is None else of_slow[2],
            gpus=gpus,
            ages_s={c.name: None if (age := c.age_s(now)) is None else round(age, 2) for c in self._collectors},
        )

    def _judge(self, now: float, sample: Sample) -> list[Transition]:
        of_disks = self._of_disks.value(now)
        beside = Beside(
            to_full_h=of_disks[1] if of_disks else {},
            overdue_s={collector.name: collector.overdue_s(now) for collector in self._collectors},
            gpu_work=self._beside.gpu_work,
            events_used_percent=self._beside.events_used_percent,
            promised_bytes=self._beside.promised_bytes,
        )
        readings = self._maker.readings(now, sample, beside)
        return self._engine.step(now, time.time(), readings, self._orders, may_raise=now >= self._grace_until)

    # -- collectors, in threads ---------------------------------------------------------------------------------------

    def _read_host(self) -> tuple[Cpu, Memory, list[Network]]:
        return self._host_reader.cpu(), self._host_reader.memory(), self._host_reader.networks()

    def _read_disks(self) -> tuple[list[Disk], dict[str, float | None]]:
        return self._disk_reader.disks(), self._disk_reader.to_full_h()

    def _read_gpus(self) -> Gpus:
        return self._gpu_reader.read(boot_clock())

    def _read_slow(self) -> tuple[list[Temperature], list[Wear], bool | None, Orders]:
        return host.temperatures(), disks.wear(), host.clock_synchronised(), self._read_orders()

    def _read_orders(self) -> Orders:
        """Silences and acknowledgements, read again when their file has changed."""
        try:
            found = path_of(self._data_dir).stat()
        except OSError:
            return Orders()
        seen = (found.st_mtime_ns, found.st_ino)
        if seen == self._orders_seen:
            return self._orders
        self._orders_seen = seen
        try:
            return read(self._data_dir)
        except OrdersDamaged as error:
            log.warning("%s", error)
            return self._orders

    # -- the bus ------------------------------------------------------------------------------------------------------

    def _event(self, transition: Transition, sample: Sample) -> Event:
        text = message(transition, labels(sample).get(transition.device, transition.device))
        self._messages[transition.alert] = text
        log.info("alert %s", transition.kind, extra={"alert": transition.alert, "said": text})
        if transition.kind == "cleared":
            self._messages.pop(transition.alert, None)
            return AlertCleared(
                source=SOURCE, alert=transition.alert, message=text, rule=transition.rule.id, device=transition.device,
                severity=None if transition.was == "ok" else transition.was, muted_by=transition.muted_by,
            )  # fmt: skip
        assert transition.level != "ok"
        return AlertRaised(
            source=SOURCE, alert=transition.alert, severity=transition.level, message=text, value=transition.value,
            threshold=transition.threshold, rule=transition.rule.id, device=transition.device,
            transition=transition.kind, since=_moment(transition.since_s), muted_by=transition.muted_by,
        )  # fmt: skip

    def _active(self, sample: Sample) -> ActiveAlerts:
        return ActiveAlerts(host=self._host, ts=sample.ts, alerts=[self._row(entry) for entry in self._engine.active()])

    def _row(self, entry: Entry) -> ActiveAlert:
        return ActiveAlert(
            alert=entry.id, rule=entry.rule, device=entry.device, severity=entry.track.level,
            message=self._messages.get(entry.id) or f"{entry.rule} ({entry.device})", value=entry.track.value,
            since=_moment(entry.since_s), flapping=entry.track.flapping, acknowledged=entry.acknowledged,
            muted_by=entry.muted_by,
        )  # fmt: skip

    def _publish(self, event: Event) -> None:
        if len(self._events) == MAX_UNSENT:
            log.warning("the bus is away for long: the oldest alert event is dropped")
        self._events.append(event)
        self._events_wait.set()

    async def _send_events(self) -> None:
        """In order, each until it is stored."""
        while True:
            await self._events_wait.wait()
            self._events_wait.clear()
            while self._events:
                event = self._events[0]
                try:
                    await self._bus.publish(event)
                except Retryable:
                    await asyncio.sleep(RETRY_S)
                    continue
                except (BusError, ValueError):
                    log.exception("an alert event cannot be stored", extra={"event": event.id})
                if self._events and self._events[0] is event:
                    self._events.popleft()

    async def _look_at_bus(self) -> None:
        while True:
            await self.look_at_bus()
            await asyncio.sleep(BUS_EVERY_S)

    async def look_at_bus(self) -> None:
        """The event stream's size, what open jobs will still need on the disk, and the work that waits for cards.

        While nobody tells what open jobs need, they need what they did: nothing of it was done meanwhile, and a margin
        that jumps would clear an alert that stands.
        """
        used, work, promised = None, None, self._beside.promised_bytes
        try:
            used = 100 * (await self._bus.stream_state()).bytes / self._config.bus.max_bytes
            if self.sample is not None and self.sample.gpus is not None and self.sample.gpus.cards:
                depths = await self._bus.queue_depths()
                work = sum(depth.pending + depth.in_flight for stage, depth in depths.items() if stage in GPU_STAGES)
            storage = await latest_storage(self._bus, datetime.now(UTC))
            if storage is not None:
                promised = storage.promised_bytes
        except BusError as error:
            log.info("the bus is away: open jobs are taken to need what they did", extra={"error": str(error)})
        self._beside = Beside(gpu_work=work, events_used_percent=used, promised_bytes=promised)

    async def _save(self) -> None:
        try:
            await asyncio.to_thread(
                ledger.save, self._data_dir, [e for e in self._engine.entries() if not e.track.idle]
            )
        except OSError as error:
            log.warning("the alerts cannot be kept over a restart", extra={"error": str(error)})


def _box_start() -> float:
    """When the supervisor started, on the boot clock: a monitor that is restarted alone gets no second grace."""
    try:
        started = psutil.Process(os.getppid()).create_time()
    except psutil.Error:
        return boot_clock()
    return boot_clock() - max(0.0, time.time() - started)


def _moment(unix_s: float | None) -> datetime | None:
    return None if unix_s is None else datetime.fromtimestamp(unix_s, UTC)
