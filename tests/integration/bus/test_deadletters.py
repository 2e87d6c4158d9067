"""Dead letters and the server's advisories."""

from __future__ import annotations

from pathlib import Path

from bus.deadletters import AdvisoryReader, DeadLetter, list_dead_letters, publish_dead_letter
from bus.events import Command
from bus.ids import new_id
from bus.streams import ADVISORY_READER, DLQ, Limits
from tests.integration.bus.samples import created, download
from tests.integration.conftest import NatsBox, nats_box


async def test_a_dead_letter_is_kept_once(nats: NatsBox) -> None:
    bus = await nats.bus("worker")
    job = new_id()
    letter = DeadLetter(
        stage="cut",
        job=job,
        clip=3,
        attempts=3,
        error="the encoder died",
        code="crash",
        command=Command(stage="cut", job=job, clip=3, attempt=3),
        failed_event=new_id(),
    )
    assert await publish_dead_letter(bus, letter) == await publish_dead_letter(bus, letter) == 1
    other = DeadLetter(stage="download", job=job, attempts=1, error="e", code="c", failed_event=new_id())
    await publish_dead_letter(bus, other)
    reader = await nats.bus("cli")
    listed = await list_dead_letters(reader)
    assert [stored.letter for stored in listed] == [letter, other]
    assert [stored.letter for stored in await list_dead_letters(reader, after_seq=listed[0].seq)] == [other]
    assert len(await list_dead_letters(reader, limit=1)) == 1


async def test_a_terminated_command_comes_back_as_an_advisory_with_its_reason(nats: NatsBox) -> None:
    worker, dispatcher = await nats.bus("worker"), await nats.bus("dispatcher")
    job = new_id()
    command = download(job)
    stored = await worker.commit([created(job), command])
    async with worker.work("download") as work:
        delivery = await work.next(5)
        assert delivery is not None
        await delivery.reject("no such job\nanywhere")
    async with AdvisoryReader(dispatcher) as reader:
        advisory = await reader.next(5)
        assert advisory is not None
        assert (advisory.kind, advisory.stage, advisory.seq, advisory.reason, advisory.command) == (
            "terminated",
            "download",
            stored.last,
            "no such job anywhere",
            command,
        )
    async with AdvisoryReader(dispatcher) as reader:  # was not marked done
        assert await reader.next(5) == advisory
        assert await reader.done()
        assert await reader.next(0.3) is None
        assert not await reader.done()


async def test_too_many_deliveries_are_an_advisory(tmp_path: Path) -> None:
    impatient = Limits(ack_wait_s=0.3, max_deliver=2)
    async with nats_box(tmp_path, impatient) as nats:
        worker, dispatcher = await nats.bus("worker"), await nats.bus("dispatcher")
        job = new_id()
        command = download(job)
        await worker.commit([created(job), command])
        async with worker.work("download", impatient) as work:
            for delivered in (1, 2):
                delivery = await work.next(5)
                assert delivery is not None
                assert delivery.delivered == delivered  # and dies without a word
            async with AdvisoryReader(dispatcher, impatient) as reader:
                asked = work.next(1.5)  # the server notices when somebody asks again
                assert await asked is None
                advisory = await reader.next(5)
                assert advisory is not None
                assert (advisory.kind, advisory.deliveries, advisory.command) == ("max_deliveries", 2, command)
                assert await reader.done()


async def test_an_advisory_on_a_purged_or_unreadable_command_is_still_one(nats: NatsBox) -> None:
    admin, dispatcher = await nats.bus("supervisor"), await nats.bus("dispatcher")
    await admin.wire.request("cmd.download.junk", b"{not json", timeout_s=2)
    worker = await nats.bus("worker")
    async with worker.work("download") as work:
        assert await work.next(0.5) is None
    async with AdvisoryReader(dispatcher) as reader:
        advisory = await reader.next(5)
        assert advisory is not None
        assert advisory.command is None
        assert advisory.reason.startswith("undecodable command")
        assert await reader.done()


async def test_the_reader_makes_its_consumer_again(nats: NatsBox) -> None:
    admin, dispatcher, worker = await nats.bus("supervisor"), await nats.bus("dispatcher"), await nats.bus("worker")
    await admin.jetstream.delete_consumer(DLQ, ADVISORY_READER)
    job = new_id()
    await worker.commit([created(job), download(job)])
    async with worker.work("download") as work:
        delivery = await work.next(5)
        assert delivery is not None
        await delivery.reject("no")
    async with AdvisoryReader(dispatcher) as reader:
        advisory = await reader.next(5)
        assert advisory is not None
        assert advisory.reason == "no"
        assert await reader.done()
