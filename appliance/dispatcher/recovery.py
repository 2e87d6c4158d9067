"""Making stream and database agree at start.

Three cases. The stream is the one that the database knows: nothing to do. The database is new: it starts at the
stream's beginning. The stream is new or was cut back (its folder was lost or restored): every fact that it lacks is put
back from the database under its old id, the database is rebuilt on the new sequence numbers, and for each open item the
command that its last fact calls for is queued again. All of it can be interrupted and run again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator

from appliance import lifecycle
from appliance.store.projection import StoredFact
from appliance.store.writer import Writer
from bus.connection import Bus
from bus.events import decode_event

log = logging.getLogger(__name__)
BATCH = 500


async def reconcile(bus: Bus, store: Writer) -> None:
    """Bring both to the same facts. Raises `bus.errors.Retryable` when the bus is away."""
    state = await bus.stream_state()
    known = await store.meta("epoch")
    cursor = await store.cursor()
    if known is None or cursor == 0:
        await store.set_meta("epoch", state.epoch)
        return
    if known == state.epoch and cursor <= state.last_seq:
        return
    log.warning("the stream lost facts that the database holds: putting them back", extra={"cursor": cursor})
    present = {decode_event(fact.data).id async for batch in stream_facts(bus) for fact in batch}
    restored = 0
    after = 0
    while facts := await store.facts(after, BATCH):
        after = facts[-1].seq
        for fact in facts:
            event = decode_event(fact.data)
            if event.id not in present:
                await bus.publish(event)
                restored += 1
    await store.renumber_begin()
    try:
        async for batch in stream_facts(bus):
            await store.renumber_add(batch)
        await store.renumber_end(state.epoch)
    except BaseException:
        await store.rollback()
        raise
    queued = 0
    for job, clip, last in await store.live_items():
        command = lifecycle.pending_command(job, clip, last)
        if command is not None:
            await bus.commit([command], None)
            queued += 1
    log.warning("stream restored from the database", extra={"facts": restored, "commands": queued})


async def stream_facts(bus: Bus) -> AsyncIterator[list[StoredFact]]:
    """Every fact that the stream holds, in order, in batches."""
    seq = 0
    while batch := await bus.read(seq, "evt.>", BATCH):
        seq = batch[-1].seq
        yield [StoredFact(stored.seq, stored.subject, stored.data) for stored in batch]
