"""What the dispatcher does about facts (listed in `appliance.dispatcher.table`)."""

from __future__ import annotations

import asyncio
import logging
import shutil
from pathlib import Path

from appliance.dispatcher.table import Action
from appliance.lifecycle import Failure
from appliance.store.writer import Writer
from bus.commit import Expect
from bus.connection import Bus
from bus.deadletters import DeadLetter, publish_dead_letter
from bus.errors import Stale
from bus.events import AnyEvent, ClipFailed, Event, JobCompleted, JobFailed
from bus.subjects import item_filter
from stages.folder import JobFolder

log = logging.getLogger(__name__)
NO_CLIPS = "no-clips"
SOURCE = "dispatcher"


class Actions:
    """Carries out one action for one fact. Raises `bus.errors.Retryable` when the bus is away."""

    def __init__(self, bus: Bus, store: Writer, data_dir: Path) -> None:
        self._bus = bus
        self._store = store
        self._data_dir = data_dir

    async def run(self, action: Action, event: AnyEvent) -> None:
        assert event.job is not None
        match action:
            case "complete_job":
                await self._complete_job(event)
            case "dead_letter":
                await self._dead_letter(event)
            case "sweep_parts":
                await asyncio.to_thread(JobFolder.of(self._data_dir, event.job).sweep)
            case "remove_files":
                folder = JobFolder.of(self._data_dir, event.job)
                for path in (folder.root, folder.output):
                    await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)

    async def _complete_job(self, event: Event) -> None:
        """End the job when every planned clip is ready or failed."""
        assert event.job is not None
        job = await self._store.job_summary(event.job)
        if job is None or job.state != "clipping" or job.clips_ready + job.clips_failed < job.clips_planned:
            return
        ended: Event
        if job.clips_ready:
            ended = JobCompleted(
                source=SOURCE,
                job=event.job,
                clips_ready=job.clips_ready,
                clips_failed=job.clips_failed,
                seconds=round((event.ts - job.created_at).total_seconds(), 3),
            )
        else:
            ended = JobFailed(
                source=SOURCE,
                job=event.job,
                stage=job.failed_stage or "moments",
                attempts=event.attempts if isinstance(event, ClipFailed) else 1,
                error=f"no clip could be made: {job.failed_error}"
                if job.clips_failed
                else "nothing in this video makes a clip",
                code=NO_CLIPS,
            )
        try:
            await self._bus.commit([ended], Expect(item_filter(event.job), job.last_seq))
        except Stale:
            log.info("the job moved on before it could be completed", extra={"job": event.job})

    async def _dead_letter(self, event: AnyEvent) -> None:
        if not isinstance(event, ClipFailed | JobFailed) or event.code == NO_CLIPS:
            return
        assert event.job is not None
        letter = DeadLetter(
            stage=event.stage,
            job=event.job,
            clip=event.clip,
            attempts=event.attempts,
            error=event.error,
            code=event.code,
            failed_event=event.id,
        )
        await publish_dead_letter(self._bus, letter)


def undeliverable(deliveries: int) -> Failure:
    """The reason given when the server itself stopped delivering a command."""
    text = f"the command was delivered {deliveries} times and never finished: the box stopped each time"
    return Failure(error=text, code="undeliverable", final=True)
