"""The dispatcher against a real bus: projection, actions, and recovery of a lost stream."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from appliance.dispatcher.service import Dispatcher
from appliance.dispatcher.settings import Dispatcher as Settings
from appliance.intake import cancel_job, create_job, delete_job, retry_job
from appliance.lifecycle import decide, first_command
from appliance.sqlite import sqlite3
from appliance.store.queries import Store, dump
from appliance.store.schema import PROJECTED
from appliance.store.writer import Writer
from bus.commit import Expect
from bus.connection import Bus
from bus.deadletters import list_dead_letters
from bus.errors import Stale
from bus.events import AnyEvent, JobCompleted, JobCreated, JobFailed, JobOptions, JobSource
from bus.provision import provision
from bus.subjects import item_filter
from tests.integration.conftest import NatsBox
from tests.unit.appliance import facts

SOURCE = JobSource(kind="file", location="/v/talk.mp4", name="talk.mp4", fingerprint="f")


@asynccontextmanager
async def dispatcher(nats: NatsBox) -> AsyncIterator[Dispatcher]:
    store = await Writer.open(nats.data_dir / "appliance.db")
    bus = await nats.bus("dispatcher")
    running = Dispatcher(bus, store, nats.data_dir, Settings(batch_events=64))
    await running.prepare()
    task = asyncio.create_task(running.serve())
    try:
        yield running
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


async def eventually(bus: Bus, job: str, *kinds: type) -> AnyEvent:
    """The job's last own fact, once it is one of `kinds`."""
    async with asyncio.timeout(10), bus.live(item_filter(job)) as feed:
        while True:
            last = await bus.last_fact(job)
            if last is not None and isinstance(last.event, kinds):
                return last.event
            await feed.next(0.5)


async def store_all(bus: Bus, events: list[AnyEvent]) -> None:
    for event in events:
        await bus.publish(event)


async def projected(path: Path, seq: int) -> None:
    """Wait until the database includes `seq`."""

    def cursor() -> int:
        with Store(path) as store:
            return store.cursor()

    async with asyncio.timeout(10):
        while await asyncio.to_thread(cursor) < seq:
            await asyncio.sleep(0.02)


def jobs_in(path: Path) -> dict[str, tuple[str, int]]:
    with Store(path) as store:
        return {row.job: (row.state, row.clips_ready) for row in store.jobs()}


def tables(path: Path) -> bytes:
    connection = sqlite3.connect(path)
    try:
        return dump(connection, PROJECTED)
    finally:
        connection.close()


async def test_a_job_whose_clips_are_all_made_is_completed(nats: NatsBox) -> None:
    bus = await nats.bus("cli")
    worker = await nats.bus("supervisor")
    async with dispatcher(nats):
        job = await create_job(bus, SOURCE, JobOptions())
        await store_all(worker, [facts.done(job, "moments", clips=2), facts.planned(job, 1), facts.planned(job, 2)])
        await store_all(worker, [facts.done(job, "cut", 1), facts.clip_failed(job, 2)])
        ended = await eventually(bus, job, JobCompleted)
        assert isinstance(ended, JobCompleted)
        assert (ended.clips_ready, ended.clips_failed) == (1, 1)
        async with asyncio.timeout(5):
            while not (letters := await list_dead_letters(worker)):
                await asyncio.sleep(0.05)
        assert [(one.letter.stage, one.letter.clip, one.letter.error) for one in letters] == [("cut", 2, "no")]


async def test_a_job_without_a_single_clip_fails_with_the_reason(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    async with dispatcher(nats):
        job = await create_job(bus, SOURCE, JobOptions())
        await store_all(bus, [facts.done(job, "moments"), facts.planned(job, 1), facts.clip_failed(job, 1, "faces")])
        ended = await eventually(bus, job, JobFailed)
        assert isinstance(ended, JobFailed)
        assert (ended.code, ended.stage, ended.error) == ("no-clips", "faces", "no clip could be made: no")


async def test_actions_missed_by_a_dead_dispatcher_are_made_up(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    job = await create_job(bus, SOURCE, JobOptions())
    await store_all(bus, [facts.done(job, "moments"), facts.planned(job, 1), facts.done(job, "cut", 1)])
    async with dispatcher(nats):
        assert isinstance(await eventually(bus, job, JobCompleted), JobCompleted)


async def test_a_job_whose_maker_was_killed_before_its_command_is_queued_once(nats: NatsBox) -> None:
    person = await nats.bus("cli")
    made = facts.created("a" * 26)
    assert isinstance(made, JobCreated)

    async def queued(job: str) -> list[str]:
        return [stored.subject for stored in await person.read(0, f"cmd.*.{job}")]

    async with dispatcher(nats) as running, asyncio.timeout(20):
        stored = await person.commit([made], Expect(item_filter("a" * 26), 0))
        while not (found := await queued("a" * 26)):
            await asyncio.sleep(0.02)
        assert found == [f"cmd.download.{'a' * 26}"]
        await running.handlers()["queue_first"](made)  # once more, late
        # And the maker was only slow: it comes with its command after all.
        assert await person.queue(first_command(made), Expect(item_filter("a" * 26), stored.last))
        assert len(await queued("a" * 26)) == 1


async def test_a_job_that_has_moved_on_is_not_queued_any_more(nats: NatsBox) -> None:
    person = await nats.bus("cli")
    made = facts.created("b" * 26)
    assert isinstance(made, JobCreated)
    stored = await person.commit([made], Expect(item_filter("b" * 26), 0))
    assert await cancel_job(person, "b" * 26, by="anna")
    async with dispatcher(nats) as running:
        await running.handlers()["queue_first"](made)
        assert not await person.queue(first_command(made), Expect(item_filter("b" * 26), stored.last))
    assert not await person.read(0, f"cmd.*.{'b' * 26}")


async def test_what_is_queued_for_a_cancelled_job_goes_and_what_a_retry_queues_stays(nats: NatsBox) -> None:
    person = await nats.bus("cli")

    async def queued(job: str) -> int:
        return len(await person.read(0, f"cmd.*.{job}"))

    async with dispatcher(nats) as running, asyncio.timeout(20):
        job, other = [await create_job(person, SOURCE, JobOptions()) for _ in range(2)]
        assert await cancel_job(person, job, by="anna")
        cancelled = await person.last_fact(job)
        assert cancelled is not None
        while await queued(job):
            await asyncio.sleep(0.02)
        await retry_job(person, nats.data_dir / "appliance.db", job, by="anna")
        await running.handlers()["forget_commands"](cancelled.event)  # once more, late
        assert (await queued(job), await queued(other)) == (1, 1)


async def test_a_lost_stream_is_put_back_from_the_database(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    async with dispatcher(nats):
        finished = await create_job(bus, SOURCE, JobOptions())
        waiting = await create_job(bus, SOURCE, JobOptions())
        await store_all(bus, [facts.done(finished, "moments"), facts.planned(finished, 1)])
        await store_all(bus, [facts.done(finished, "cut", 1)])
        await eventually(bus, finished, JobCompleted)
        await projected(nats.data_dir / "appliance.db", (await bus.stream_state()).last_seq)
    before = await asyncio.to_thread(jobs_in, nats.data_dir / "appliance.db")
    await nats.kill()
    await asyncio.to_thread(shutil.rmtree, nats.data_dir / "nats" / "store")
    await nats.start()
    await provision(bus.jetstream, nats.limits)
    async with dispatcher(nats):
        assert await asyncio.to_thread(jobs_in, nats.data_dir / "appliance.db") == before
        async with bus.work("download") as work:
            delivery = await work.next(5.0)
            assert delivery is not None
            assert delivery.command.job == waiting
            last = await bus.last_fact(waiting)
            assert last is not None
            assert not hasattr(decide(delivery.command, last.event, last.event), "reason")
            await delivery.done()
            assert await work.next(0.5) is None


async def test_the_database_of_a_killed_dispatcher_equals_a_fresh_one(nats: NatsBox, tmp_path: Path) -> None:
    bus = await nats.bus("supervisor")
    path = nats.data_dir / "appliance.db"
    async with dispatcher(nats):
        jobs = [await create_job(bus, SOURCE, JobOptions()) for _ in range(3)]
        await store_all(bus, [facts.started(jobs[0], "download"), facts.done(jobs[0], "download")])
        await projected(path, 5)
    await store_all(bus, [facts.started(jobs[1], "download"), facts.job_failed(jobs[1])])
    async with dispatcher(nats):
        await projected(path, (await bus.stream_state()).last_seq)
    fresh = await Writer.open(tmp_path / "fresh.db")
    from appliance.dispatcher.recovery import stream_facts

    async for batch in stream_facts(bus):
        await fresh.apply(batch)
    await fresh.close()
    one, other = [await asyncio.to_thread(tables, db) for db in (path, tmp_path / "fresh.db")]
    assert one == other


async def test_what_was_stored_last_is_written_before_a_box_is_down(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    async with dispatcher(nats):
        job = await create_job(bus, SOURCE, JobOptions())
    last = await bus.publish(facts.started(job, "download"))
    store = await Writer.open(nats.data_dir / "appliance.db")
    late = Dispatcher(await nats.bus("dispatcher"), store, nats.data_dir, Settings())
    await late.finish()
    assert await store.cursor() == last
    await store.set_meta("epoch", "another")
    await bus.publish(facts.done(job, "download"))
    await late.finish()
    assert await store.cursor() == last, "a cursor of another stream means nothing in this one"
    await store.close()


async def test_cancel_takes_queued_work_back_and_retry_goes_on(nats: NatsBox) -> None:
    bus = await nats.bus("cli")
    admin = await nats.bus("supervisor")
    path = nats.data_dir / "appliance.db"
    async with dispatcher(nats):
        job = await create_job(bus, SOURCE, JobOptions())
        assert await cancel_job(bus, job, by="me", reason="wrong file")
        assert not await cancel_job(bus, job, by="me")
        async with asyncio.timeout(10):
            while await bus.read(0, "cmd.>"):
                await asyncio.sleep(0.02)
        async with admin.work("download") as work:
            assert await work.next(0.5) is None
        await projected(path, (await admin.stream_state()).last_seq)
        assert await asyncio.to_thread(jobs_in, path) == {job: ("cancelled", 0)}
        items = await retry_job(bus, path, job, by="me")
        assert [(item.clip, item.stage) for item in items] == [(None, "download")]
        async with admin.work("download") as work:
            delivery = await work.next(5.0)
            assert delivery is not None
            await delivery.done()


async def test_deleting_a_job_removes_its_files(nats: NatsBox) -> None:
    bus = await nats.bus("cli")
    async with dispatcher(nats):
        job = await create_job(bus, SOURCE, JobOptions())
        folders = [nats.data_dir / kind / job for kind in ("jobs", "output")]
        for folder in folders:
            folder.mkdir(parents=True)
            (folder / "file").write_text("x")
        await delete_job(bus, job, by="me")
        async with asyncio.timeout(5):
            while any(folder.exists() for folder in folders):
                await asyncio.sleep(0.02)


async def test_two_claims_on_one_item_cannot_both_be_stored(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    job = await create_job(bus, SOURCE, JobOptions())
    last = await bus.last_fact(job)
    assert last is not None
    first = await bus.commit([facts.started(job, "download")], Expect(item_filter(job), last.seq))
    with pytest.raises(Stale) as stale:
        await bus.commit([facts.started(job, "download")], Expect(item_filter(job), last.seq))
    assert stale.value.current == first.first


async def test_a_box_that_slept_longer_than_the_stream_remembers_goes_on(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    path = nats.data_dir / "appliance.db"
    async with dispatcher(nats):
        first = await create_job(bus, SOURCE, JobOptions())
        await projected(path, 1)
    await create_job(bus, SOURCE, JobOptions())
    await bus.jetstream.purge_stream("EVENTS")  # as when all of it has expired
    async with dispatcher(nats):
        last = await create_job(bus, SOURCE, JobOptions())
        await projected(path, (await bus.stream_state()).last_seq - 1)
        assert {first, last} <= set(await asyncio.to_thread(jobs_in, path))
