"""Unknown outcomes and refusals of commits, on a real server."""

from __future__ import annotations

import asyncio

import pytest

from bus.commit import Expect, Outgoing, prepare, send, stored_sequence
from bus.connection import Bus
from bus.errors import BusUnavailable, Denied, Duplicate, Stale
from bus.events import Command, Event, UserAction
from bus.ids import new_id
from bus.subjects import item_filter
from bus.wire import Reply
from tests.integration.bus.samples import created, download, downloaded, planned, started
from tests.integration.conftest import NatsBox


def lose_answers(bus: Bus, monkeypatch: pytest.MonkeyPatch, count: int) -> list[str]:
    """The server does what the next `count` requests ask, but their answers are lost. Returns their subjects."""
    plain = bus.wire.request
    lost: list[str] = []

    async def request(
        subject: str, data: bytes = b"", *, headers: dict[str, str] | None = None, timeout_s: float
    ) -> Reply:
        reply = await plain(subject, data, headers=headers, timeout_s=timeout_s)
        if len(lost) < count:
            lost.append(subject)
            raise BusUnavailable("answer lost by the test")
        return reply

    monkeypatch.setattr(bus.wire, "request", request)
    return lost


async def test_a_commit_whose_answer_was_lost_is_found_again(nats: NatsBox, monkeypatch: pytest.MonkeyPatch) -> None:
    job = new_id()
    bus = await nats.bus("worker")
    await bus.commit([created(job)])
    lost = lose_answers(bus, monkeypatch, 2)
    batch: list[Event | Command] = [started(job), downloaded(job), Command(stage="transcribe", job=job)]
    done = await bus.commit(batch, Expect(item_filter(job), 1))
    assert (done.first, done.last) == (2, 4)
    assert len(lost) == 2
    assert (await bus.stream_state()).last_seq == 4


async def test_a_lost_answer_is_resolved_after_others_went_on(nats: NatsBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between our commit and our repeat somebody else writes behind us: we still won."""
    job = new_id()
    bus, other = await nats.bus("worker", patience_s=0.2), await nats.bus("dispatcher")
    await other.commit([created(job)])
    ours = started(job)
    with monkeypatch.context() as broken:
        lose_answers(bus, broken, 1_000)
        with pytest.raises(BusUnavailable, match="outcome unknown"):
            await bus.commit([ours], Expect(item_filter(job), 1))
    await other.commit([started(job, worker="w2")], Expect(item_filter(job), 2))
    assert (await bus.commit([ours], Expect(item_filter(job), 1))).first == 2
    with pytest.raises(Stale):
        await bus.commit([started(job, worker="w3")], Expect(item_filter(job), 1))


async def test_an_unguarded_batch_is_stored_once(nats: NatsBox, monkeypatch: pytest.MonkeyPatch) -> None:
    job = new_id()
    bus = await nats.bus("cli")
    lose_answers(bus, monkeypatch, 1)
    batch: list[Event | Command] = [created(job), download(job)]
    first = await bus.commit(batch)
    assert (first.first, first.last) == (1, 2)
    assert await bus.commit(batch) == first
    assert (await bus.stream_state()).messages == 2


async def test_ids_of_another_commit_are_a_duplicate(nats: NatsBox) -> None:
    job = new_id()
    bus = await nats.bus("worker")
    one, two = planned(job, 1), planned(job, 2)
    await bus.commit([one])
    with pytest.raises(Duplicate):
        await bus.commit([two, one])
    assert (await bus.stream_state()).messages == 1


async def test_a_fact_is_stored_once_however_often_it_is_published(
    nats: NatsBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = await nats.bus("web")
    action = UserAction(user="ada", action="job:cancel")
    lose_answers(bus, monkeypatch, 3)
    seq = await bus.publish(action)
    assert await bus.publish(action) == seq == 1


async def test_the_memory_of_ids_survives_a_crash_of_the_server(nats: NatsBox) -> None:
    """Trap 15: on a Limits stream it does; on a work queue it would not."""
    bus = await nats.bus("web")
    action = UserAction(user="ada", action="job:cancel")
    seq = await bus.publish(action)
    await nats.restart()
    assert await bus.publish(action) == seq


async def test_asking_for_an_id_stores_nothing(nats: NatsBox) -> None:
    bus = await nats.bus("web")
    known, unknown = created(new_id()), created(new_id())
    await bus.publish(known)
    asked = [await stored_sequence(bus.wire, prepare([event], None)[0], 2.0) for event in (known, unknown)]
    assert asked == [1, None]
    assert (await bus.stream_state()).messages == 1


async def test_a_batch_that_lost_a_message_stores_nothing_and_is_sent_again(
    nats: NatsBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = new_id()
    bus = await nats.bus("worker")
    plain, dropped = bus.wire.publish, 0

    async def publish(subject: str, data: bytes, *, headers: dict[str, str] | None = None, reply: str = "") -> None:
        nonlocal dropped
        if headers and headers.get("Nats-Batch-Sequence") == "2" and dropped < 2:
            dropped += 1
            return
        await plain(subject, data, headers=headers, reply=reply)

    monkeypatch.setattr(bus.wire, "publish", publish)
    done = await bus.commit([created(job), planned(job, 1), planned(job, 2)], Expect(item_filter(job), 0))
    assert (done.first, done.last, dropped) == (1, 3, 2)


async def test_headers_of_a_prepared_commit_stay_as_they_were(nats: NatsBox) -> None:
    """Trap 14: the library's publish changes the caller's dict; a second try would send stale batch headers."""
    bus = await nats.bus("worker")
    job = new_id()
    messages = prepare([created(job), download(job)], None)
    before = [dict(message.headers) for message in messages]
    await send(bus.wire, messages, Expect(item_filter(job), 0), 2.0)
    assert [message.headers for message in messages] == before


async def test_a_message_in_a_batch_that_the_user_may_not_send_is_denied(nats: NatsBox) -> None:
    bus = await nats.bus("worker")
    job = new_id()
    action = UserAction(user="mallory", action="x")
    batches: tuple[list[Event | Command], ...] = (
        [created(job), action, download(job)],
        [created(job), action],
        [action, created(job)],
    )
    for batch in batches:
        with pytest.raises(Denied, match=r"evt\.user\.action"):
            await bus.commit(batch)
    assert (await bus.stream_state()).messages == 0


async def test_racing_commits_have_exactly_one_winner(nats: NatsBox) -> None:
    job = new_id()
    buses = [await nats.bus("worker") for _ in range(3)]
    await buses[0].commit([created(job)])
    tries = [
        bus.commit([started(job, worker=f"w{number}"), planned(job, number + 1)], Expect(item_filter(job), 1))
        for number, bus in enumerate(buses * 5)
    ]
    results = await asyncio.gather(*tries, return_exceptions=True)
    won = [result for result in results if not isinstance(result, BaseException)]
    assert len(won) == 1
    assert all(isinstance(result, Stale) for result in results if result not in won)
    assert (await buses[0].stream_state()).last_seq == 3


async def test_too_large_a_message_says_what_to_do(nats: NatsBox) -> None:
    bus = await nats.bus("web")
    with pytest.raises(Exception, match="put large content into a file"):
        await bus.publish(UserAction(user="x" * 300_000, action="a"))
    with pytest.raises(ValueError, match="send their paths"):
        await bus.commit([UserAction(user="x" * 200_000, action="a") for _ in range(6)])
    assert isinstance(prepare([created(new_id())], None)[0], Outgoing)
