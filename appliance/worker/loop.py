"""The worker: one stage, one item at a time, from command to stored outcome.

For each command: look at the item's last fact, claim the attempt (`appliance.lifecycle`), run the stage in a child
process while telling the bus that work goes on, store the outcome on condition that the claim still holds, acknowledge.
A kill at any point leaves either the command unacknowledged or the outcome stored; nothing in between is visible.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance import lifecycle
from appliance.control.ledger import Ledger
from appliance.joblog import note
from appliance.lifecycle import MAX_CLAIMS, Attempt, Claim, Failure
from appliance.parent import StatusPipe
from appliance.settings import Retry
from appliance.tasks import in_background
from appliance.uploads import located
from appliance.worker.protocol import StageRequest
from appliance.worker.report import Reporter
from appliance.worker.stage_process import StageFailed, StageProcess
from bus.commit import Expect
from bus.connection import Bus
from bus.consumer import Delivery, Work
from bus.errors import BusUnavailable, Retryable, Stale, UndecodableEvent
from bus.events import (
    STARTED,
    Command,
    Event,
    JobCancelled,
    JobCreated,
    JobDeleted,
    StageName,
    WorkerOffline,
    WorkerOnline,
)
from bus.ids import new_id
from bus.stored import Stored
from bus.subjects import item_filter
from stages.base import StageResult, Task
from stages.folder import JobFolder

log = logging.getLogger(__name__)
HEARTBEAT_S = 2.5
POLL_S = 10.0
STORE_AGAIN_S = 1.0


class WorkerSettings(Struct, frozen=True, kw_only=True):
    """All that a worker needs to know of the configuration."""

    stage: StageName
    data_dir: Path
    models_dir: Path
    options: msgspec.Raw
    retry: Retry
    timeout_s: float
    timeout_factor: float
    """Seconds added to `timeout_s` for each second of the source (or, for a clip stage, of the clip)."""
    stall_timeout_s: float
    max_memory_bytes: int
    stop_grace_s: float


class Worker:
    """Serves one stage until `stop` or `retire` is called. While the ledger holds its stage it takes nothing new."""

    def __init__(self, settings: WorkerSettings, bus: Bus, status: StatusPipe, ledger: Ledger) -> None:
        self.id = new_id()
        self._settings = settings
        self._bus = bus
        self._reporter = Reporter(self.id, settings.stage, bus, status)
        self._ledger = ledger
        self._leaving = asyncio.Event()
        self._stopping = asyncio.Event()
        self._failure: Exception | None = None
        self._running: asyncio.Task[StageResult] | None = None
        self._looked_seq = 0
        """The last fact of the item's job that the claim knew of: what ended the job before it was retried is past."""
        self._ended_seq = 0
        """Where the item's job was last cancelled or deleted, as far as was heard since the item was taken."""

    def stop(self) -> None:
        """Take no more work; what runs gets the grace period, then it is killed and its command given back."""
        self._leaving.set()
        self._stopping.set()

    def retire(self) -> None:
        """Take no more work; what runs is finished, however long that takes, and then `serve` ends."""
        self._leaving.set()

    async def serve(self) -> None:
        """Work until told to leave. Raises what makes the bus unusable for good, or the worker useless."""
        stage = self._settings.stage
        background = [
            in_background(self._reporter.serve(), "the worker's report", self._fail),
            in_background(self._watch_cancels(), "listening for cancels", self._fail),
        ]
        try:
            online = WorkerOnline(source=self.id, worker=self.id, stage=stage, pid=os.getpid(), host=platform.node())
            await self._bus.publish(online)
            self._reporter.ready()
            while not self._leaving.is_set():
                await self._first(self._ledger.until_running(stage))
                # Each stretch of work has a subscription of its own: leaving it gives back what has arrived, and the
                # server forgets the open request, so that a worker that is paused holds nothing.
                async with self._bus.work(stage) as work:
                    while self._may_work():
                        delivery = await self._next(work)
                        if delivery is not None:
                            await self._handle(delivery)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
            await self._reporter.leave()
        if self._failure is not None:
            raise self._failure
        if not self._stopping.is_set():
            with suppress(Retryable):  # the dispatcher says it, if we cannot
                await self._bus.publish(
                    WorkerOffline(
                        source=self.id, worker=self.id, stage=stage, reason="retired: fewer workers are wanted"
                    )
                )

    def _fail(self, error: Exception) -> None:
        """Nobody would see this worker, or it would hear no cancel: it gives back what it has, and its process ends."""
        self._failure = error
        self.stop()

    def _may_work(self) -> bool:
        return not self._leaving.is_set() and self._ledger.mode(self._settings.stage) == "run"

    async def _next(self, work: Work) -> Delivery | None:
        """The next command, or None: after a while, and at once when there is to be no more work."""
        fetching = asyncio.ensure_future(work.next(POLL_S))
        held = asyncio.ensure_future(self._ledger.until(self._settings.stage, "pause", "drain"))
        await self._first(fetching, held)
        delivery: Delivery | None = None
        with suppress(asyncio.CancelledError):
            delivery = await fetching
        if delivery is not None and not self._may_work():
            await delivery.release()  # no attempt: that would begin with the claim
            return None
        return delivery

    async def _first(self, *waiting: Awaitable[object]) -> None:
        """Until one of them is done, or the worker is to leave; the others are cancelled."""
        tasks = [asyncio.ensure_future(one) for one in (*waiting, self._leaving.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()

    async def _handle(self, delivery: Delivery) -> None:
        command = delivery.command
        self._reporter.begins(command.job, command.clip)
        self._ended_seq = 0
        try:
            await self._do(delivery)
        except Retryable as error:
            # The outcome is unknown or the bus is away; the command comes again and finds out.
            log.warning("bus trouble, the command will come again", extra={"job": command.job, "error": str(error)})
        except UndecodableEvent as error:
            await delivery.reject(str(error))
        finally:
            self._reporter.ends()

    async def _do(self, delivery: Delivery) -> None:
        command = delivery.command
        claimed = await self._claim(command)
        if claimed is None:
            await delivery.done()
            return
        attempt, claim, fence = claimed
        expect = Expect(item_filter(command.job, command.clip), fence)
        if claim > MAX_CLAIMS:
            text = f"{claim - 1} workers vanished while working on this item"
            messages = lifecycle.on_failed(attempt, Failure(error=text, code="lost", final=True), self._settings.retry)
        else:
            finished = await self._run(delivery, attempt)
            if finished is None:
                await delivery.release()
                return
            messages = finished
        if not messages:  # the job was cancelled: its facts are stored already
            await delivery.done()
            return
        if await self._store_outcome(delivery, messages, expect):
            await delivery.done()
        # Else the command may be that of the worker who took the attempt over: it is not ours to end any more. If it
        # is nobody's, it comes again and is found to be spent.

    async def _store_outcome(self, delivery: Delivery, messages: list[Event | Command], expect: Expect) -> bool:
        """Commit what was worked for; as long as the bus is away, hold on to it and to the command.

        False: the item moved on meanwhile, nothing was stored.
        """
        beating = in_background(_beat(delivery), "a heartbeat")
        try:
            while True:
                try:
                    await self._bus.commit(messages, expect)
                except Stale:
                    log.info("the item moved on meanwhile: result dropped", extra={"job": delivery.command.job})
                    return False
                except Retryable as error:
                    if self._stopping.is_set() or self._bus.closed:
                        raise
                    log.warning(
                        "the outcome waits for the bus", extra={"job": delivery.command.job, "error": str(error)}
                    )
                    self._reporter.moves()
                    await asyncio.sleep(STORE_AGAIN_S)
                    continue
                return True
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _claim(self, command: Command) -> tuple[Attempt, int, int] | None:
        """Store the start fact; None when the command is spent."""
        while True:
            item = await self._bus.last_fact(command.job, command.clip)
            job = item if command.clip is None else await self._bus.last_fact(command.job)
            verdict = lifecycle.decide(command, item.event if item else None, job.event if job else None)
            if not isinstance(verdict, Claim) or item is None or job is None:
                log.info("skipped: %s", verdict, extra={"job": command.job, "stage": command.stage})
                return None
            self._looked_seq = job.seq
            started = STARTED[command.stage](
                source=self.id,
                job=command.job,
                clip=command.clip,
                stage=command.stage,
                attempt=verdict.attempt,
                claim=verdict.claim,
                worker=self.id,
            )
            try:
                stored = await self._bus.commit([started], Expect(item_filter(command.job, command.clip), item.seq))
            except Stale:
                continue  # somebody wrote between our look and our claim: look again
            attempt = Attempt(
                stage=command.stage,
                job=command.job,
                clip=command.clip,
                attempt=verdict.attempt,
                worker=self.id,
            )
            return attempt, verdict.claim, stored.first

    async def _run(self, delivery: Delivery, attempt: Attempt) -> list[Event | Command] | None:
        """The messages that the attempt's outcome calls for: none after a cancel. None: interrupted by our own stop."""
        settings = self._settings
        first = await self._bus.read(0, f"evt.job.created.{attempt.job}", 1)
        created = first[0].event if first else None
        if not isinstance(created, JobCreated):
            text = "the log does not hold the job's creation any more"
            return lifecycle.on_failed(attempt, Failure(error=text, code="job-unknown", final=True), settings.retry)
        folder = JobFolder.of(settings.data_dir, attempt.job)
        item = f"{attempt.stage}" + ("" if attempt.clip is None else f" clip {attempt.clip}")
        await asyncio.to_thread(note, folder, f"{item}: attempt {attempt.attempt} starts on worker {self.id}")
        media_s = await asyncio.to_thread(media_seconds, folder, attempt.clip)
        process = StageProcess(
            StageRequest(
                task=Task(
                    stage=attempt.stage,
                    job=attempt.job,
                    clip=attempt.clip,
                    origin=located(settings.data_dir, created.origin),
                    options=created.options,
                ),
                root=str(folder.root.absolute()),
                output=str(folder.output.absolute()),
                options=settings.options,
                models_dir=str(settings.models_dir.absolute()),
                max_memory_bytes=settings.max_memory_bytes,
            ),
            log=folder.root / "job.log",
            timeout_s=settings.timeout_s + settings.timeout_factor * media_s,
            stall_timeout_s=settings.stall_timeout_s,
            on_progress=self._reporter.progress_of(attempt),
        )
        started = time.monotonic()
        self._running = asyncio.create_task(process.run())
        if self._ended_seq > self._looked_seq:  # it came while the attempt was being claimed
            self._running.cancel()
        beating = in_background(_beat(delivery), "a heartbeat")
        stopping = in_background(self._kill_after_grace(self._running), "stopping a stage")
        try:
            result = await self._running
        except StageFailed as failed:
            text = f"{item}: attempt {attempt.attempt} failed: {failed.failure.error}"
            await asyncio.to_thread(note, folder, text)
            return lifecycle.on_failed(attempt, failed.failure, settings.retry)
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                raise
            await asyncio.to_thread(note, folder, f"{item}: attempt {attempt.attempt} was stopped")
            return None if self._stopping.is_set() else []
        finally:
            self._running = None
            for task in (beating, stopping):
                task.cancel()
            await asyncio.gather(beating, stopping, return_exceptions=True)
            await asyncio.to_thread(folder.sweep)
        seconds = time.monotonic() - started
        told = f"{item}: done in {seconds:.1f} s" + "".join(f"\n  note: {text}" for text in result.notes)
        await asyncio.to_thread(note, folder, told)
        media_s = await asyncio.to_thread(media_seconds, folder, attempt.clip)
        return lifecycle.on_done(attempt, result, seconds, media_s)

    async def _kill_after_grace(self, running: asyncio.Task[StageResult]) -> None:
        await self._stopping.wait()
        await asyncio.wait([running], timeout=self._settings.stop_grace_s)
        running.cancel()

    async def _watch_cancels(self) -> None:
        async with self._bus.live("evt.job.*.*") as feed:
            async for fact in feed:
                self.hear(fact)
        raise BusUnavailable("the bus connection is closed")

    def hear(self, fact: Stored) -> None:
        """Kill the running stage when its job was cancelled or deleted after the stage's claim."""
        item = self._reporter.item
        try:
            event = fact.event
        except UndecodableEvent:  # of another version: no cancel of ours, and those to come are heard
            return
        if not isinstance(event, JobCancelled | JobDeleted) or item is None or item[0] != event.job:
            return
        self._ended_seq = fact.seq
        if self._running is not None and fact.seq > self._looked_seq:
            self._running.cancel()


async def _beat(delivery: Delivery) -> None:
    while True:
        await asyncio.sleep(HEARTBEAT_S)
        with suppress(Retryable):
            await delivery.heartbeat()


def media_seconds(folder: JobFolder, clip: int | None) -> float:
    """Length of what a stage works on: the source or the clip; 0 while it is unknown."""
    try:
        if clip is None:
            return folder.probe().duration_s
        return next((c.end_s - c.start_s for c in folder.moments().clips if c.n == clip), 0.0)
    except Exception:  # noqa: BLE001 - only a hint for limits and figures; the stage itself reports what is wrong
        return 0.0
