"""A stream put back from the database: every fact once, in order, byte for byte, also when it is cut short."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from appliance.dispatcher import recovery
from appliance.dispatcher.recovery import reconcile
from appliance.store.projection import StoredFact
from appliance.store.writer import Writer
from bus.commit import Committed, Outgoing
from bus.connection import Bus
from bus.events import encode
from bus.ids import new_id
from bus.subjects import event_subject
from tests.integration.conftest import NatsBox
from tests.unit.appliance import facts

UNKNOWN = b'{"type":"clip:danced","id":"01jd3v5n8q2w4e6r8t0y2u4i6p","job":"j","steps":7}'
NEWER = b'{"type":"job:cancelled","id":"01jd3v5n8q2w4e6r8t0y2u4i7p","by":"a","v":2,"job":"j","why":{"a":[1, 2]}}'
"""One that this program can read, with a field of a newer one, written as this one would not."""
DAMAGED = b"\x00 no event at all"


async def a_box_of_before(nats: NatsBox, jobs: int) -> tuple[Writer, list[tuple[str, bytes]]]:
    """Its database, which knows a stream that is no more."""
    store = await Writer.open(nats.data_dir / "appliance.db")
    rows: list[tuple[str, bytes]] = []
    for number in range(jobs):
        job = new_id()
        events = [facts.created(job), facts.started(job, "download"), facts.done(job, "download")]
        rows += [(event_subject(event), encode(event)) for event in events]
        if number == 1:
            rows += [("evt.clip.danced.j", UNKNOWN), ("evt.clip.broken.j", DAMAGED), ("evt.job.cancelled.j", NEWER)]
    await store.apply([StoredFact(10 * seq, *row) for seq, row in enumerate(rows, 1)])
    await store.set_meta("epoch", "2020-01-01T00:00:00Z")
    return store, rows


async def in_stream(bus: Bus) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    after = 0
    while batch := await bus.read(after, "evt.>", 1000):
        after = batch[-1].seq
        found += [(stored.subject, stored.data) for stored in batch]
    return found


async def test_every_fact_comes_back_also_those_that_nobody_can_read(nats: NatsBox) -> None:
    bus = await nats.bus("dispatcher")
    store, rows = await a_box_of_before(nats, 400)
    await reconcile(bus, store)
    assert await in_stream(bus) == rows
    assert await store.meta("epoch") == (await bus.stream_state()).epoch
    assert len(await bus.read(0, "cmd.transcribe.>", 1000)) == 400
    await reconcile(bus, store)
    assert await in_stream(bus) == rows
    await store.close()


async def test_cut_short_it_goes_on_and_doubles_nothing(nats: NatsBox, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = await nats.bus("dispatcher")
    store, rows = await a_box_of_before(nats, 400)
    monkeypatch.setattr(recovery, "BATCH", 100)
    real, commits = Bus.store_again, 0

    async def commit(self: Bus, messages: Sequence[Outgoing]) -> Committed:
        nonlocal commits
        commits += 1
        if commits in (3, 7):
            raise asyncio.CancelledError
        return await real(self, messages)

    monkeypatch.setattr(Bus, "store_again", commit)
    for _ in range(2):
        with pytest.raises(asyncio.CancelledError):
            await reconcile(bus, store)
    await reconcile(bus, store)
    assert await in_stream(bus) == rows
    await store.close()
