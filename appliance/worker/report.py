"""What a worker tells about itself: its registry entry, its sign of life, how far the running stage is."""

from __future__ import annotations

import asyncio
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from msgspec import Struct

from appliance import __version__
from appliance.lifecycle import Attempt
from appliance.parent import Status, StatusPipe
from appliance.worker.usage import UsageReader
from bus.connection import Bus
from bus.errors import Retryable
from bus.events import StageName
from bus.registry import Registry, WorkerState

REGISTRY_EVERY_S = 5.0
PROGRESS_EVERY_S = 0.25


class JobProgress(Struct, frozen=True, kw_only=True):
    """Telemetry `tel.progress.<job>`: how far a running stage is. Not replayed; at most four a second."""

    job: str
    clip: int | None
    stage: StageName
    done: float
    eta_s: float | None
    elapsed_s: float


class Reporter:
    """One worker's. `serve` runs until cancelled."""

    def __init__(self, worker: str, stage: StageName, bus: Bus, status: StatusPipe) -> None:
        self.item: tuple[str, int | None] | None = None
        """Job and clip in hand."""
        self._worker = worker
        self._stage = stage
        self._bus = bus
        self._registry = Registry(bus)
        self._status = status
        self._usage = UsageReader()
        self._started_at = datetime.now(UTC)
        self._progress = 0.0
        self._progress_at: datetime | None = None

    def ready(self) -> None:
        """Able to take work."""
        self._status.send(Status(ready=True, worker=self._worker, stage=self._stage))

    def begins(self, job: str, clip: int | None) -> None:
        """Says so before a claim is stored: if this process dies now, its parent knows what to look after."""
        self.item = (job, clip)
        self._progress, self._progress_at = 0.0, datetime.now(UTC)
        self._send_status()

    def moves(self) -> None:
        """The work gets on, though no stage says so: its outcome waits for the bus."""
        self._progress_at = datetime.now(UTC)

    def ends(self) -> None:
        """Nothing in hand any more."""
        self.item = None
        self._send_status()

    def progress_of(self, attempt: Attempt) -> Callable[[float], None]:
        """What a running stage calls with the share that is done, 0 to 1."""
        started = time.monotonic()
        last = 0.0

        def on_progress(done: float) -> None:
            nonlocal last
            self._progress, self._progress_at = done, datetime.now(UTC)
            now = time.monotonic()
            if now - last < PROGRESS_EVERY_S and done < 1.0:
                return
            last = now
            elapsed_s = now - started
            eta_s = elapsed_s / done - elapsed_s if done > 0.02 else None
            progress = JobProgress(
                job=attempt.job,
                clip=attempt.clip,
                stage=attempt.stage,
                done=done,
                eta_s=None if eta_s is None else round(eta_s, 1),
                elapsed_s=round(elapsed_s, 1),
            )
            self._bus.telemetry("progress", attempt.job, progress)

        return on_progress

    async def serve(self) -> None:
        """Registry entry and sign of life, every few seconds."""
        while True:
            usage = await asyncio.to_thread(self._usage.read, at_work=self.item is not None)
            job, clip = self.item or (None, None)
            state = WorkerState(
                worker=self._worker,
                stage=self._stage,
                pid=os.getpid(),
                host=platform.node(),
                job=job,
                clip=clip,
                started_at=self._started_at,
                progress=self._progress if job else None,
                progress_at=self._progress_at if job else None,
                rss_bytes=usage.rss_bytes,
                gpu_memory_bytes=usage.gpu_memory_bytes,
                version=__version__,
            )
            with suppress(Retryable):
                await self._registry.put(state)
            self._send_status()
            await asyncio.sleep(REGISTRY_EVERY_S)

    async def leave(self) -> None:
        """Out of the registry; in an outage its entry expires."""
        with suppress(Retryable):
            await self._registry.remove(self._worker)

    def _send_status(self) -> None:
        job, clip = self.item or (None, None)
        self._status.send(Status(worker=self._worker, stage=self._stage, job=job, clip=clip))
