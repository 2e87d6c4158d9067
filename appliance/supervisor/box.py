"""The whole box as one object: `async with` nothing, just `start` and `stop`.

Order of start: nats-server, then the dispatcher (it makes stream and database agree before anybody publishes), then the
cache and the workers together. Every death is a `service:down`, every return a `service:up`; a worker that dies while
it holds a claim has its attempt ended on its behalf, so that the next one starts at once and a video that kills its
worker each time runs out of attempts.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from contextlib import suppress
from pathlib import Path

from appliance import lifecycle
from appliance.config import Config
from appliance.dispatcher.said import last_said
from appliance.errors import ProcessFailed
from appliance.lifecycle import Attempt, Failure
from appliance.listening import listen
from appliance.supervisor.bus_watch import BusWatch
from appliance.supervisor.child import Child, ChildSpec, Death, Restart
from appliance.supervisor.lock import lock_box, wait_for_lock
from appliance.supervisor.log_files import LogFiles
from appliance.supervisor.pool import Pool
from appliance.supervisor.programs import (
    bus_program,
    cache_program,
    dispatcher_program,
    monitor_program,
    web_program,
    worker_program,
)
from appliance.supervisor.staffing import Staffing
from appliance.tasks import in_background
from bus.commit import Expect
from bus.connection import Bus
from bus.errors import BusError, Permanent, Retryable, Stale
from bus.events import STAGES, Event, ServiceDown, ServiceUp, StageName, StageStarted, WorkerOffline
from bus.health import HealthProbe
from bus.provision import provision
from bus.registry import Registry
from bus.selftest import self_test
from bus.server import ServerSpec, credentials, prepare, remove_endpoint, wait_ready, write_endpoint
from bus.streams import DAY_S, Limits
from bus.subjects import item_filter

log = logging.getLogger(__name__)
SOURCE = "supervisor"
MAX_UNSAID = 1000
"""Events kept while the bus is away; beyond that the oldest are dropped (they are reports, not work)."""


class Box:
    """One running appliance. `port` -1 lets the bus pick a free one (an embedded box for a single job)."""

    def __init__(self, config: Config, *, port: int | None = None) -> None:
        self._config = config
        self._port = (config.bus.port or -1) if port is None else port
        self._data_dir = config.data_dir
        self._services: dict[str, Child] = {}
        self._pools: dict[StageName, Pool] = {}
        self._bus: Bus | None = None
        self._server: ServerSpec | None = None
        self._lock: int | None = None
        self._unsaid: asyncio.Queue[Event | Death] = asyncio.Queue(MAX_UNSAID)
        self._reporter: asyncio.Task[None] | None = None
        self._staffing: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._log_files: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bring everything up. On an error everything that was started is ended again and the error raised."""
        self._lock = lock_box(self._data_dir)
        try:
            for folder in ("run", "input", "jobs", "output"):
                (self._data_dir / folder).mkdir(parents=True, exist_ok=True)
            logs, logging_ = self._config.logs_dir, self._config.logging
            logs.mkdir(parents=True, exist_ok=True)
            log_files = LogFiles(logs, max_bytes=logging_.max_file_bytes, keep=logging_.keep_files)
            self._log_files = in_background(log_files.serve(), "keeping log files to a size")
            await self._start()
        except BaseException:
            await self.stop(grace_s=0.0)
            raise

    async def _start(self) -> None:
        # What outlived a killed supervisor by a moment still holds its port.
        for name in ("bus", "web"):
            lock = self._data_dir / "run" / f"{name}.lock"
            os.close(await wait_for_lock(lock, self._config.supervisor.start_timeout_s))
        if self._config.web.enabled:
            # Asked before anything runs: a box that ends again because its pages cannot be shown helps nobody.
            (await asyncio.to_thread(listen, self._config.web.host, self._config.web.port)).close()
        bus = self._config.bus
        self._server = await asyncio.to_thread(
            prepare, self._data_dir, port=self._port, binary=bus.binary, limits=bus_limits(self._config)
        )
        await self._add(bus_program(self._server, self._bus_ready))
        assert self._bus is not None
        probe = HealthProbe(self._data_dir, self._server.url)
        watch = BusWatch(probe, self._data_dir, self._services["bus"].kill)
        self._watching = in_background(watch.serve(), "watching the bus")
        self._reporter = in_background(self._report(), "reporting what happens to processes")
        await self._add(dispatcher_program(self._config))
        bounds = {stage: self._config.workers.bounds(stage) for stage in STAGES}
        self._pools = {stage: self._pool(stage, most) for stage, (_, most) in bounds.items()}
        await self._forget_workers(self._bus)
        staffing = Staffing(self._bus, self._pools, bounds)
        others = [cache_program(self._config), monitor_program(self._config), web_program(self._config)]
        specs = [spec for spec in others if spec is not None]
        await asyncio.gather(staffing.start(), *(self._add(spec) for spec in specs))
        await self._forget_services(self._bus)
        self._staffing = in_background(staffing.serve(), "staffing the stages")

    def _pool(self, stage: StageName, most: int) -> Pool:
        return Pool(
            stage,
            most=most,
            hire=lambda number: self._child(worker_program(self._config, stage, number)),
            on_left=self._on_left,
        )

    async def _forget_workers(self, bus: Bus) -> None:
        """What died with an earlier life of the box would be in the registry until its entries expire."""
        for state in await Registry(bus).all():
            if state.host == platform.node() and not _lives(state.pid):
                reason = "gone with an earlier life of the box"
                self._say(WorkerOffline(source=SOURCE, worker=state.worker, stage=state.stage, reason=reason))

    async def _forget_services(self, bus: Bus) -> None:
        """What an earlier life of the box ran and this one does not is neither up nor down."""
        facts = [stored.event for stored in await last_said(bus, "evt.service.*.*")]
        said = {fact.service: fact for fact in facts if isinstance(fact, ServiceUp | ServiceDown)}
        for service, last in said.items():
            if service not in self.processes() and not (isinstance(last, ServiceDown) and last.on_purpose):
                self._on_left(service, 0)

    async def _add(self, spec: ChildSpec) -> None:
        child = self._services[spec.name] = self._child(spec)
        try:
            await child.start()
        except ProcessFailed as error:
            if spec.needed:
                raise
            log.warning("the box starts without %s, which is tried again: %s", spec.name, error)

    def _child(self, spec: ChildSpec) -> Child:
        settings = self._config.supervisor
        return Child(
            spec,
            run_dir=self._data_dir / "run",
            log_dir=self._config.logs_dir,
            restart=Restart(delay_s=settings.restart_delay_s, delay_max_s=settings.restart_delay_max_s),
            on_ready=self._on_ready,
            on_death=self._on_death,
        )

    async def stop(self, grace_s: float | None = None) -> None:
        """End everything: workers first, the bus last. What is still there after the grace period is killed."""
        grace = self._config.supervisor.stop_grace_s if grace_s is None else grace_s
        await _end(self._staffing)
        first = [child for name, child in self._services.items() if name not in ("dispatcher", "bus")]
        await asyncio.gather(*(one.stop(grace) for one in first), *(one.stop(grace) for one in self._pools.values()))
        await _end(self._reporter)
        await _end(self._watching)
        await _end(self._log_files)
        for name in ("dispatcher", "bus"):
            if name == "bus" and self._bus is not None:
                await self._bus.close()
            if name in self._services:
                await self._services[name].stop(grace)
        if self._lock is not None:
            remove_endpoint(self._data_dir)
            os.close(self._lock)
            self._lock = None

    def processes(self) -> dict[str, int | None]:
        """Name and process id of everything that is kept alive."""
        workers = [child for pool in self._pools.values() for child in pool.children]
        return {child.spec.name: child.pid for child in (*self._services.values(), *workers)}

    def kill(self) -> None:
        """The second signal: end everything now."""
        for child in self._services.values():
            child.kill()
        for pool in self._pools.values():
            pool.kill()

    async def _bus_ready(self) -> None:
        """After each start of nats-server: same port, so clients come back by themselves."""
        assert self._server is not None
        url = await wait_ready(self._server, self._config.supervisor.start_timeout_s)
        if self._bus is None:
            self._bus = await Bus.connect(credentials(self._data_dir, "supervisor", url=url), timeout_s=10.0)
        await provision(self._bus.jetstream, bus_limits(self._config))
        await self_test(self._bus)
        write_endpoint(self._data_dir, url)

    async def _on_ready(self, name: str, pid: int) -> None:
        self._say(ServiceUp(source=SOURCE, service=name, pid=pid))

    async def _on_death(self, death: Death) -> None:
        if death.status.worker is not None and death.status.stage is not None:
            self._say(death)
            offline = WorkerOffline(
                source=SOURCE, worker=death.status.worker, stage=death.status.stage, reason=death.reason
            )
            self._say(offline)
        self._say(ServiceDown(source=SOURCE, service=death.name, reason=death.reason, restarts=death.restarts))

    def _on_left(self, name: str, restarts: int) -> None:
        reason = "not wanted any more"
        self._say(ServiceDown(source=SOURCE, service=name, reason=reason, restarts=restarts, on_purpose=True))

    def _say(self, news: Event | Death) -> None:
        if self._unsaid.full():
            self._unsaid.get_nowait()
        self._unsaid.put_nowait(news)

    async def _report(self) -> None:
        """Publish what happened, in order; wait while the bus is away."""
        assert self._bus is not None
        while True:
            news = await self._unsaid.get()
            while True:
                try:
                    if isinstance(news, Death):
                        await self._end_attempt(self._bus, news)
                    elif isinstance(news, WorkerOffline):
                        await _say_offline(self._bus, news)
                    else:
                        await self._bus.publish(news)
                    break
                except Retryable:
                    await asyncio.sleep(0.5)
                except (Permanent, BusError):
                    log.exception("could not report %s", news)
                    break

    async def _end_attempt(self, bus: Bus, death: Death) -> None:
        """Record the failed attempt of a worker that can no longer do it itself."""
        held = death.status
        if held.job is None or held.stage is None or held.worker is None:
            return
        last = await bus.last_fact(held.job, held.clip)
        if last is None or not isinstance(last.event, StageStarted) or last.event.worker != held.worker:
            return
        attempt = Attempt(
            stage=held.stage, job=held.job, clip=held.clip, attempt=last.event.attempt, worker=held.worker
        )
        failure = Failure(error=f"the {held.stage} worker is gone: {death.reason}", code="worker-lost")
        with suppress(Stale):
            await bus.commit(
                lifecycle.on_failed(attempt, failure, self._config.retry),
                Expect(item_filter(held.job, held.clip), last.seq),
            )


async def _say_offline(bus: Bus, fact: WorkerOffline) -> None:
    """Unless the log says so already; and out of the registry, which would have it there until its entry expires."""
    said = await bus.last_facts(f"evt.worker.*.{fact.worker}")
    if said and not isinstance(said[-1].event, WorkerOffline):
        with suppress(Stale):
            await bus.commit([fact], Expect(f"evt.worker.*.{fact.worker}", said[-1].seq))
    await Registry(bus).remove(fact.worker)


async def _end(task: asyncio.Task[None] | None) -> None:
    """End it. That it had failed before must not keep the rest of the box from being ended."""
    if task is not None:
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            pass
        except Exception:
            log.exception("a part of the supervisor had failed")


def bus_limits(config: Config) -> Limits:
    """The bus's tunables as configured."""
    return Limits(
        ack_wait_s=config.bus.ack_wait_s,
        events_max_bytes=config.bus.max_bytes,
        events_max_age_s=config.bus.max_age_days * DAY_S,
    )


def _lives(pid: int) -> bool:
    return Path("/proc", str(pid)).exists()
