"""The dispatcher's loop: read facts in order, project them, then act on them.

The stream position lives in the database, in the same transaction as the rows; the position of the actions beside it.
After a kill at any point the loop goes on where both say. When the stream is another one than the database knows (its
folder was lost), the facts are put back into it first and the work that was due is queued again: see
`appliance.dispatcher.recovery`.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from appliance import lifecycle
from appliance.dispatcher.actions import SOURCE, Actions, undeliverable
from appliance.dispatcher.recovery import reconcile
from appliance.dispatcher.table import ACTIONS
from appliance.lifecycle import Attempt
from appliance.settings import Retry
from appliance.store.projection import StoredFact
from appliance.store.writer import Writer
from bus.commit import Expect
from bus.connection import Bus
from bus.deadletters import AdvisoryReader
from bus.errors import Gap, NewEpoch, Retryable, Stale
from bus.events import Command
from bus.projection import FactReader
from bus.subjects import item_filter

log = logging.getLogger(__name__)
READ_WAIT_S = 5.0
RETRY_S = 1.0
ACTION_BATCH = 64


class Dispatcher:
    """One per box. `serve` runs until cancelled."""

    def __init__(self, bus: Bus, store: Writer, data_dir: Path, *, batch_events: int) -> None:
        self._bus = bus
        self._store = store
        self._batch_events = batch_events
        self._actions = Actions(bus, store, data_dir)
        self._wake_actions = asyncio.Event()

    async def prepare(self) -> None:
        """Make stream and database agree. Call before anything else publishes."""
        await reconcile(self._bus, self._store)

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._project())
            tasks.create_task(self._act())
            tasks.create_task(self._read_advisories())

    async def _project(self) -> None:
        while True:
            try:
                cursor, epoch = await self._store.cursor(), await self._store.meta("epoch")
                if cursor == 0:  # a new database takes what the stream still has
                    cursor = (await self._bus.stream_state()).first_seq - 1
                async with FactReader(self._bus, max(0, cursor), epoch=epoch) as reader:
                    while True:
                        batch = await reader.batch(self._batch_events, wait_s=READ_WAIT_S)
                        if not batch:
                            continue
                        await self._store.apply([StoredFact(raw.seq, raw.subject, raw.data) for raw in batch])
                        self._wake_actions.set()
            except Retryable as error:
                log.warning("the bus is away: projection waits", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)
            except (Gap, NewEpoch):
                log.warning("the stream is not the one the database knows: reconciling")
                await reconcile(self._bus, self._store)

    async def _act(self) -> None:
        types = list(ACTIONS)
        while True:
            done = int(await self._store.meta("actions_cursor") or 0)
            due = await self._store.facts_after(done, types, ACTION_BATCH)
            if not due:
                self._wake_actions.clear()
                if not await self._store.facts_after(done, types, 1):
                    await self._wake_actions.wait()
                continue
            try:
                for seq, event in due:
                    for action in ACTIONS[str(event.__struct_config__.tag)]:
                        await self._actions.run(action, event)
                    await self._store.set_meta("actions_cursor", str(seq))
            except Retryable as error:
                log.warning("the bus is away: actions wait", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)

    async def _read_advisories(self) -> None:
        """Commands that the server gave up on end their item, with a reason."""
        while True:
            try:
                async with AdvisoryReader(self._bus) as advisories:
                    while True:
                        advisory = await advisories.next(READ_WAIT_S)
                        if advisory is None:
                            continue
                        if advisory.kind == "max_deliveries" and advisory.command is not None:
                            await self._give_up(advisory.command, advisory.deliveries)
                        await advisories.done()
            except Retryable as error:
                log.warning("the bus is away: advisories wait", extra={"error": str(error)})
                await asyncio.sleep(RETRY_S)

    async def _give_up(self, command: Command, deliveries: int) -> None:
        item = await self._bus.last_fact(command.job, command.clip)
        job = item if command.clip is None else await self._bus.last_fact(command.job)
        verdict = lifecycle.decide(command, item.event if item else None, job.event if job else None)
        if item is None or isinstance(verdict, lifecycle.Skip):
            return
        attempt = Attempt(
            stage=command.stage, job=command.job, clip=command.clip, attempt=command.attempt, worker=SOURCE
        )
        messages = lifecycle.on_failed(attempt, undeliverable(deliveries), Retry())
        try:
            await self._bus.commit(messages, Expect(item_filter(command.job, command.clip), item.seq))
        except Stale:
            log.info("the item moved on: advisory dropped", extra={"job": command.job})
