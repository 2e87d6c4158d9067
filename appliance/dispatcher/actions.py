"""What the dispatcher does about facts: one handler for each action of `appliance.dispatcher.table`.

A handler may run again for the same fact (after a crash, on a retry, when a person asks) and out of date: each looks
at what is true now. It raises `bus.errors.Retryable` when the bus is away, anything else when it failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from appliance.dispatcher.said import SOURCE
from appliance.dispatcher.table import Action
from appliance.lifecycle import NO_CLIPS, Failure, first_command
from appliance.storage.removal import Remover, remove_tree
from appliance.store import failures
from appliance.store.writer import Writer
from bus.commit import Expect
from bus.connection import Bus
from bus.deadletters import DeadLetter, publish_dead_letter
from bus.errors import Stale
from bus.events import AnyEvent, ClipFailed, Event, JobCompleted, JobCreated, JobFailed, UserAction
from bus.subjects import item_filter
from stages.folder import JobFolder

log = logging.getLogger(__name__)
REPLAY = "events.replay"
DISCARD = "events.discard"
"""`UserAction.action` of the two requests about failed actions; `target` is `FailedAction.target` or `all`."""

Handler = Callable[[AnyEvent], Awaitable[object]]


class Actions:
    """The handlers over one bus and store, but for those that belong to other parts of the dispatcher."""

    def __init__(self, bus: Bus, store: Writer, data_dir: Path) -> None:
        self._bus = bus
        self._store = store
        self._data_dir = data_dir
        self._remover = Remover(store, data_dir)

    @property
    def handlers(self) -> Mapping[Action, Handler]:
        return {
            "queue_first": self.queue_first,
            "complete_job": self.complete_job,
            "dead_letter": self.dead_letter,
            "sweep_parts": self.sweep_parts,
            "forget_commands": self.forget_commands,
            "remove_files": self.remove_files,
            "remove_file": self._remover.remove_file,
            "measure_job": self._remover.measure_job,
            "replay_failed": self.replay_failed,
        }

    async def queue_first(self, event: AnyEvent) -> None:
        """Queue the job's first command unless it is in the stream, or the job has moved on without it."""
        if not isinstance(event, JobCreated) or event.job is None:
            return
        created = await self._bus.last_fact(event.job)
        if created is None or created.message_id != event.id:
            return
        command = first_command(event)
        if not await self._bus.read(created.seq, f"cmd.{command.stage}.{event.job}", 1):
            await self._bus.queue(command, Expect(item_filter(event.job), created.seq))

    async def complete_job(self, event: Event) -> None:
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

    async def dead_letter(self, event: AnyEvent) -> None:
        """Keep what was given up. A job that only ended because its clips did has letters for those."""
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

    async def sweep_parts(self, event: Event) -> None:
        """Remove what killed processes left half-written."""
        assert event.job is not None
        await asyncio.to_thread(JobFolder.of(self._data_dir, event.job).sweep)

    async def forget_commands(self, event: Event) -> None:
        """Remove what was queued for the job before it was cancelled; what a retry has queued since then stays."""
        assert event.job is not None
        for cancelled in await self._bus.last_facts(f"evt.job.cancelled.{event.job}"):
            await self._bus.purge_commands(event.job, cancelled.seq)

    async def remove_files(self, event: Event) -> None:
        """Remove the job's folders. Raises OSError for what cannot be removed."""
        assert event.job is not None
        folder = JobFolder.of(self._data_dir, event.job)
        for path in (folder.root, folder.output):
            await asyncio.to_thread(remove_tree, path)
        await self._remover.measure_job(event)

    async def replay_failed(self, event: AnyEvent) -> None:
        """What a person asked about failed actions; any other `user:action` is only recorded."""
        if not isinstance(event, UserAction) or event.target is None:
            return
        target = event.target
        if event.action == REPLAY:
            count = await self._store.call(lambda db: failures.replay(db, target))
        elif event.action == DISCARD:
            count = await self._store.call(lambda db: failures.drop(db, target))
        else:
            return
        log.warning("%s by %s", event.action, event.user, extra={"target": target, "actions": count})


def undeliverable(deliveries: int) -> Failure:
    """The reason given when the server itself stopped delivering a command."""
    text = f"the command was delivered {deliveries} times and never finished: the box stopped each time"
    return Failure(error=text, code="undeliverable", final=True)
