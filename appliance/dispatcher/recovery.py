"""Making stream and database agree at start.

Three cases. The stream is the one that the database knows: nothing to do. The database is new: it starts at the
stream's beginning. The stream is new or was cut back (its folder was lost or restored): every fact that it lacks is put
back from the database under its old id, the database is rebuilt on the new sequence numbers, and for each open item the
command that its last fact calls for is queued again. All of it can be interrupted and run again.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncIterator

import msgspec
from msgspec import Struct

from appliance import lifecycle
from appliance.store.projection import NO, REQUEUE, YES, StoredFact
from appliance.store.writer import Writer
from bus.commit import MAX_COMMIT_BYTES, Outgoing
from bus.connection import Bus
from bus.errors import Duplicate

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
        if await store.meta(REQUEUE) == YES:  # it was interrupted here
            await _requeue(bus, store)
        return
    log.warning("the stream lost facts that the database holds: putting them back", extra={"cursor": cursor})
    present = {_id_of(fact) async for batch in stream_facts(bus) for fact in batch}
    restored = 0
    after = 0
    while facts := await store.facts(after, BATCH):
        after = facts[-1].seq
        restored += await _put_back(bus, [fact for fact in facts if _id_of(fact) not in present])
    await store.renumber_begin()
    try:
        async for batch in stream_facts(bus):
            await store.renumber_add(batch)
        await store.renumber_end(state.epoch)
    except BaseException:
        await store.rollback()
        raise
    queued = await _requeue(bus, store)
    log.warning("stream restored from the database", extra={"facts": restored, "commands": queued})


async def _requeue(bus: Bus, store: Writer) -> int:
    """Queue what each open item waits for; how many. A command too many is harmless, one too few is not."""
    queued = 0
    for job, clip, last in await store.live_items():
        command = lifecycle.pending_command(job, clip, last)
        if command is not None:
            await bus.commit([command], None)
            queued += 1
    await store.set_meta(REQUEUE, NO)
    return queued


async def _put_back(bus: Bus, facts: list[StoredFact]) -> int:
    """Store the facts as they are, in order, many in one commit: one wait for the disk instead of hundreds. How many.

    Not even those that this program can read are encoded anew: what a newer one added to them would be lost.
    """
    messages: dict[str, Outgoing] = {}
    size_bytes = 0
    for fact in facts:
        ident = _id_of(fact)
        if size_bytes + len(fact.data) > MAX_COMMIT_BYTES:
            await _store(bus, list(messages.values()))
            messages, size_bytes = {}, 0
        messages[ident] = Outgoing(fact.subject, fact.data, {"Nats-Msg-Id": ident})
        size_bytes += len(fact.data)
    await _store(bus, list(messages.values()))
    return len(facts)


async def _store(bus: Bus, messages: list[Outgoing]) -> None:
    if len(messages) > 1:
        try:
            await bus.store_again(messages)
        except Duplicate:  # cut short a moment ago: the stream remembers some of them
            pass
        else:
            return
    for message in messages:
        await bus.store(message.subject, message.data, message.headers)


class _Id(Struct):
    id: str = ""


def _id_of(fact: StoredFact) -> str:
    """The event's id, also of one that this program cannot read; a sum of its bytes when it has none."""
    try:
        found = msgspec.json.decode(fact.data, type=_Id).id
    except msgspec.DecodeError:
        found = ""
    return found or hashlib.sha256(fact.data).hexdigest()


async def stream_facts(bus: Bus) -> AsyncIterator[list[StoredFact]]:
    """Every fact that the stream holds, in order, in batches."""
    seq = 0
    while batch := await bus.read(seq, "evt.>", BATCH):
        seq = batch[-1].seq
        yield [StoredFact(stored.seq, stored.subject, stored.data) for stored in batch]
