"""The server dies, hangs, comes back: nothing is lost, nothing is doubled, nobody waits for ever."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import signal
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bus.connection import Bus, BusSettings
from bus.errors import BusUnavailable, Denied, NewEpoch
from bus.events import Command, UserAction
from bus.ids import new_id
from bus.projection import FactReader
from bus.provision import provision
from bus.server import wait_ready
from bus.transport import Transport
from bus.wire import Reply
from tests.integration.bus.samples import created, download
from tests.integration.conftest import NatsBox, nats_box


def action(number: int = 0) -> UserAction:
    return UserAction(user="ada", action=f"a{number}")


async def test_connect_gives_up_in_time_when_nothing_listens(nats: NatsBox) -> None:
    """Trap 5: endless reconnects make the library's first connect endless."""
    settings = await asyncio.to_thread(nats.settings, "web")
    await nats.kill()
    started = time.monotonic()
    with pytest.raises(BusUnavailable, match="is nats-server running"):
        await Bus.connect(settings, timeout_s=0.5)
    assert time.monotonic() - started < 2
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []


async def test_a_wrong_password_is_denied_at_once(nats: NatsBox) -> None:
    settings = BusSettings(url=nats.spec.url, user="web", password="wrong")
    started = time.monotonic()
    with pytest.raises(Denied, match="'web'"):
        await Bus.connect(settings, timeout_s=10)
    assert time.monotonic() - started < 2
    assert "wrong" not in repr(settings)


async def test_publish_during_an_outage_is_stored_once(nats: NatsBox) -> None:
    """Trap 4: the library would time out and still send later."""
    bus = await nats.bus("web")
    await nats.kill()
    pending = asyncio.create_task(bus.publish(action()))
    await asyncio.sleep(0.3)
    assert not pending.done()
    await nats.start()
    seq = await pending
    assert (await bus.stream_state()).messages == 1
    assert (await bus.get(seq)) is not None
    assert bus.reconnects == 1


async def test_an_outage_longer_than_patience_ends_in_bus_unavailable(nats: NatsBox) -> None:
    bus = await nats.bus("web", patience_s=0.4)
    await nats.kill()
    for call in (bus.publish(action()), bus.commit([action()]), bus.last_fact(new_id()), bus.stream_state()):
        with pytest.raises(BusUnavailable, match="outcome unknown"):
            await call
    bus.telemetry("progress", "x", {"done": 0.5})
    assert bus.telemetry_dropped == 1


async def test_a_kill_under_load_loses_nothing_and_doubles_nothing(nats: NatsBox) -> None:
    bus, reader_bus = await nats.bus("web"), await nats.bus("dispatcher")
    acknowledged: dict[str, int] = {}
    seen: list[tuple[int, str | None]] = []
    total = 240

    async def publish_all() -> None:
        async def one(number: int) -> None:
            event = action(number)
            acknowledged[event.id] = await bus.publish(event)

        for start in range(0, total, 8):
            await asyncio.gather(*(one(number) for number in range(start, start + 8)))

    async def read_all() -> None:
        async with FactReader(reader_bus, 0) as reader:
            while len(seen) < total:
                seen.extend((fact.seq, fact.message_id) for fact in await reader.batch(64, wait_s=1))

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(read_all())
        publishing = group.create_task(publish_all())
        for kill_at in (60, 120, 180):
            while len(acknowledged) < kill_at and not publishing.done():
                await asyncio.sleep(0.002)
            await nats.restart()
    assert len(acknowledged) == total
    assert [seq for seq, _ in seen] == sorted(set(acknowledged.values()))
    assert {message_id: seq for seq, message_id in seen} == acknowledged


async def test_a_schedule_survives_a_crash_of_the_server(nats: NatsBox) -> None:
    bus = await nats.bus("worker")
    job = new_id()
    at = datetime.now(UTC) + timedelta(seconds=1.5)
    command = Command(stage="download", job=job, attempt=2, not_before=at)
    await bus.commit([created(job), command])
    await nats.restart()
    async with bus.work("download") as work:
        delivery = await work.next(15)
        assert delivery is not None
        assert delivery.command == command
        assert datetime.now(UTC) >= at
        assert await delivery.done()
        assert await work.next(0.3) is None


async def test_a_hanging_server_is_noticed_and_left(nats: NatsBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bus.link._PING_INTERVAL_S", 0.2)
    bus = await nats.bus("web")
    await bus.publish(action())
    os.kill(nats.pid, signal.SIGSTOP)
    try:
        async with asyncio.timeout(5):
            while bus.connected:
                await asyncio.sleep(0.02)
    finally:
        os.kill(nats.pid, signal.SIGCONT)
    assert await bus.publish(action()) == 2


async def test_a_worker_goes_on_after_a_crash_of_the_server(nats: NatsBox) -> None:
    bus = await nats.bus("worker")
    first, second = new_id(), new_id()
    async with bus.work("download") as work:
        await bus.commit([created(first), download(first)])
        delivery = await work.next(5)
        assert delivery is not None
        await nats.restart()
        await delivery.heartbeat()
        # False when the crash came before the server had noted that the command is out: then it is handed out again.
        await delivery.done()
        waiting = asyncio.create_task(work.next(20))
        await asyncio.sleep(0.1)
        await nats.restart()
        await bus.commit([created(second), download(second)])
        while (delivery := await waiting) is not None and delivery.command.job == first:
            # The server may forget a confirmed acknowledgement in a crash: a replay that any worker must bear. One that
            # was handed out before the second crash comes once more, and this acknowledgement of it is unknown.
            await delivery.done()
            waiting = asyncio.create_task(work.next(20))
        assert delivery is not None
        assert delivery.command.job == second
        assert await delivery.done()


async def test_close_is_quick_after_idle_work_and_in_an_outage(nats: NatsBox) -> None:
    """Trap 3: a drain would hang for its whole time-out here."""
    idle, cut_off = await nats.bus("worker"), await nats.bus("worker")
    async with idle.work("cut") as work:
        for _ in range(6):
            assert await work.next(0.1) is None
    started = time.monotonic()
    await idle.close()
    assert time.monotonic() - started < 1
    await nats.kill()
    await asyncio.sleep(0.1)
    started = time.monotonic()
    await cut_off.close()
    await cut_off.close()
    assert time.monotonic() - started < 1
    assert cut_off.closed
    with pytest.raises(BusUnavailable, match="closed"):
        await cut_off.publish(action())


async def test_a_closed_connection_is_told_to_those_who_wait(nats: NatsBox) -> None:
    bus = await nats.bus("web")
    waiting = asyncio.create_task(bus.wait_closed())
    async with bus.live() as feed:
        reading = asyncio.create_task(feed.__anext__())
        await asyncio.sleep(0)
        await bus.close()
        with pytest.raises(StopAsyncIteration):
            await reading
        with pytest.raises(BusUnavailable):
            await feed.next(0.1)
    await asyncio.wait_for(waiting, 1)


async def test_the_server_is_found_again_after_each_restart(nats: NatsBox) -> None:
    url = nats.spec.url
    for _ in range(2):
        await nats.kill()
        with pytest.raises(Exception, match="did not answer"):
            await wait_ready(nats.spec, timeout_s=0.2)
        assert await nats.start() == url


async def test_something_else_on_the_port_meanwhile_does_not_end_the_reconnects(nats: NatsBox) -> None:
    bus = await nats.bus("web", patience_s=20.0)
    greetings = [b"", b"INFO {broken\r\n", b"SSH-2.0-x\r\n", b"INFO {}\r\n"]
    met: set[bytes] = set()

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        greeting = greetings[len(met)] if len(met) < len(greetings) else b""
        met.add(greeting)
        writer.write(greeting)
        writer.close()

    await nats.kill()
    other = await asyncio.start_server(greet, "127.0.0.1", nats.spec.port)
    async with other, asyncio.timeout(20):
        while len(met) < len(greetings):
            await asyncio.sleep(0.02)
    await nats.start()
    assert await bus.publish(action()) == 1
    gc.collect()  # a socket that a failed try left open would be told here


async def test_a_lost_store_is_a_new_epoch_once_it_is_provisioned(tmp_path: Path) -> None:
    async with nats_box(tmp_path) as nats:
        bus, admin = await nats.bus("dispatcher"), await nats.bus("supervisor")
        await bus.publish(action(1))
        async with FactReader(bus, 0) as reader:
            assert len(await reader.batch()) == 1
            await nats.kill()
            await asyncio.to_thread(shutil.rmtree, tmp_path / "nats" / "store")
            await nats.start()
            reading = asyncio.create_task(reader.batch(wait_s=5))
            depths = asyncio.create_task(bus.queue_depths())
            await asyncio.sleep(0.3)
            assert not reading.done()  # not provisioned yet is no verdict
            await admin.settle(5)
            await provision(admin.jetstream)
            with pytest.raises(NewEpoch):
                await reading
            assert (await depths)["cut"].pending == 0
        assert await bus.publish(action(2)) == 1


async def test_a_flush_that_is_given_up_costs_no_connection(nats: NatsBox) -> None:
    """The library answers a PONG whose flush was cancelled or timed out with an error that ends the connection."""
    bus = await nats.bus("web")
    for _ in range(20):
        settling = asyncio.create_task(bus.settle(5.0))
        await asyncio.sleep(0)
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
    await bus.settle(5.0)
    await bus.publish(action())
    assert bus.connected
    assert bus.reconnects == 0


async def test_a_cancelled_flush_is_cancelled_even_when_its_answer_is_there(nats: NatsBox) -> None:
    bus = await nats.bus("web")
    flushing = asyncio.create_task(bus.client.flush())
    while not bus.client._pongs:
        await asyncio.sleep(0)
    await bus.client._process_pong()  # the answer, in the same turn of the loop as
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing


async def test_a_connection_that_breaks_under_a_message_fails_what_waits_and_is_mended(nats: NatsBox) -> None:
    """A message goes to the socket at once, and nobody waits there to see that it broke."""
    bus = await nats.bus("web")
    transport = bus.client._transport
    assert isinstance(transport, Transport)
    assert transport._io_writer is not None
    with socket.socket(fileno=os.dup(transport._io_writer.get_extra_info("socket").fileno())) as same:
        same.shutdown(socket.SHUT_RDWR)
    with pytest.raises(BusUnavailable, match="lost before the answer"):
        await bus.wire.request("evt.user.action.a", b"{}", timeout_s=60)
    await bus.publish(action())
    assert bus.reconnects == 1
    assert (await bus.stream_state()).messages == 1


async def test_a_cancelled_request_is_cancelled_even_when_its_answer_is_there(nats: NatsBox) -> None:
    bus = await nats.bus("web")
    asking = asyncio.create_task(bus.wire.request("$JS.box.API.STREAM.INFO.EVENTS", timeout_s=60))
    while not bus.wire._waiting:
        await asyncio.sleep(0)
    (waiter,) = bus.wire._waiting.values()
    waiter.future.set_result(Reply(waiter.subject, {}, b"{}"))  # the answer, in the same turn of the loop as
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not bus.wire._waiting


async def test_a_request_without_an_answer_ends_in_time(nats: NatsBox) -> None:
    bus = await nats.bus("supervisor")
    silent = await bus.client.hand_over("_INBOX_supervisor.silent", lambda *_: None)
    await bus.settle(5)
    with pytest.raises(BusUnavailable, match=r"no answer on _INBOX_supervisor.silent within 0.05 s"):
        await bus.wire.request("_INBOX_supervisor.silent", b"{}", timeout_s=0.05)
    await silent.unsubscribe()
    assert not bus.wire._waiting
