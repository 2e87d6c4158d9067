"""The live feed over real sockets: what is shown is what is stored, whatever dies meanwhile."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bus.connection import Bus
from bus.events import AlertRaised, Command, UserAction
from tests.integration.conftest import NatsBox
from tests.integration.live.conftest import Start, stored_after
from tests.unit.appliance import facts


async def told(connection: ClientConnection, kind: str | None = None) -> dict[str, Any]:
    """The next message (of this kind)."""
    while True:
        async with asyncio.timeout(10):
            message: dict[str, Any] = msgspec.json.decode(await connection.recv())
        if kind is None or message["kind"] == kind:
            return message


async def flood(connection: ClientConnection) -> None:
    for _ in range(1000):
        await connection.send('{"kind":"ping"}')
        await told(connection, "heartbeat")


async def publish_many(bus: Bus, count: int, pause_s: float = 0.0) -> None:
    for number in range(count):
        await bus.commit([facts.created(f"j{number % 7}"), Command(stage="cut", job=f"j{number % 7}")])
        if pause_s:
            await asyncio.sleep(pause_s)


async def test_everything_is_shown_as_it_is_stored(nats: NatsBox, feed_box: Start) -> None:
    box = await feed_box()
    bus = await nats.bus()
    async with connect(f"{box.url}?rooms=admin,monitoring,jobs,job.a") as connection:
        hello = await told(connection)
        assert hello == {
            "kind": "hello",
            "epoch": (await bus.stream_state()).epoch,
            "seq": 0,
            "rooms": {"admin": 0, "job.a": 0, "jobs": 0, "monitoring": 0},
            "heartbeat_s": 30.0,
            "bus": "up",
        }
        seq = await bus.publish(created := facts.created("a"))
        event = await told(connection)
        assert (event["seq"], event["rooms"]) == (seq, {"admin": 1, "jobs": 1, "job.a": 1})
        assert event["event"] == msgspec.to_builtins(created)
        bus.telemetry(
            "progress", "a", {"job": "a", "clip": None, "stage": "cut", "done": 0.5, "eta_s": 1.0, "elapsed_s": 1.0}
        )
        assert (await told(connection))["kind"] == "progress"
        bus.telemetry("host", "h", {"host": "h"})
        assert await told(connection) == {"kind": "host", "host": "h"}
        await connection.send('{"kind":"ping"}')
        assert (await told(connection))["rooms"] == {"admin": 1, "job.a": 1, "jobs": 1, "monitoring": 0}


async def test_joining_leaving_and_what_is_not_understood(nats: NatsBox, feed_box: Start) -> None:
    box = await feed_box()
    box.role = "viewer"
    async with connect(f"{box.url}?rooms=jobs") as connection:
        await told(connection, "hello")
        await connection.send('{"kind":"join","rooms":["job.a","admin"]}')
        assert (await told(connection, "error"))["code"] == "forbidden"
        assert list((await told(connection, "hello"))["rooms"]) == ["job.a", "jobs"]
        for nonsense in ("", "{", '{"kind":"shout"}', '{"kind":"join","rooms":7}', "[" * 5000, b"\xff\xfe"):
            await connection.send(nonsense)
            assert (await told(connection))["code"] == "bad-message"
        await connection.send('{"kind":"leave","rooms":["jobs"]}')
        assert list((await told(connection, "hello"))["rooms"]) == ["job.a"]


async def test_limits_refuse_before_the_connection_begins(feed_box: Start) -> None:
    box = await feed_box(per_ip=2, max_connections=3)
    async with connect(box.url) as one, connect(box.url):
        await told(one)
        with pytest.raises(InvalidStatus) as refused:
            await connect(box.url)
        assert refused.value.response.status_code == 429
        assert msgspec.json.decode(refused.value.response.body)["code"] == "too-many-from-address"
        async with connect(box.url, local_addr=("127.0.0.2", 0)):
            with pytest.raises(InvalidStatus) as refused:
                await connect(box.url, local_addr=("127.0.0.3", 0))
            assert refused.value.response.status_code == 503
    for query in ("?seq=1", "?epoch=e&seq=-1", f"?rooms={','.join('x' * 99)}"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"{box.url}{query}")
        assert refused.value.response.status_code == 400
    async with asyncio.timeout(10):
        while box.hub.connections:
            await asyncio.sleep(0.01)
    assert box.hub.figures().refused == {"too-many-from-address": 1, "too-many": 1, "bad-query": 3}


async def test_too_large_and_too_many_messages_end_the_connection(feed_box: Start) -> None:
    box = await feed_box(max_message_bytes=2048)
    async with connect(box.url) as connection:
        await connection.send("x" * 3000)
        with pytest.raises(ConnectionClosed) as closed:
            await told(connection, "nothing")
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    async with connect(box.url) as connection:
        with pytest.raises(ConnectionClosed) as closed:
            await flood(connection)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008


async def test_a_login_that_is_over_ends_the_connection(feed_box: Start) -> None:
    box = await feed_box()
    async with connect(box.url) as connection:
        await told(connection)
        box.hub.end_login("l1")
        with pytest.raises(ConnectionClosed) as closed:
            await told(connection)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4401


async def test_a_reader_that_does_not_read_is_cut_and_the_others_see_everything(nats: NatsBox, feed_box: Start) -> None:
    box = await feed_box(max_queue_bytes=64 * 1024)
    bus = await nats.bus()
    stalled = socket.socket()
    stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    stalled.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(stalled, ("127.0.0.1", box.port))
    request = "GET /ws?rooms=monitoring HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    request += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    await loop.sock_sendall(stalled, request.encode())
    try:
        async with box.client("monitoring") as client:
            await client.until(lambda state: state.bus == "up")
            async with asyncio.timeout(60):
                while not box.hub.figures().ended.get("slow"):
                    await bus.publish(AlertRaised(alert="x", severity="info", message="x" * 20_000))
            wanted = await stored_after(bus, 0)
            await client.until(lambda state: state.applied[-1:] == wanted[-1:])
            assert client.state.applied == wanted
            assert client.connections == 1
    finally:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        stalled.close()


async def test_nothing_is_missed_or_doubled_when_the_bus_dies(nats: NatsBox, feed_box: Start) -> None:
    box = await feed_box()
    bus = await nats.bus(patience_s=30.0)
    async with box.client("admin") as client, box.client("jobs", "job.j3") as other:
        await client.until(lambda state: state.bus == "up")
        await other.until(lambda state: state.bus == "up")
        writing = asyncio.create_task(publish_many(bus, 300, 0.005))
        for _ in range(3):
            await asyncio.sleep(0.3)
            await nats.kill()
            await client.until(lambda state: state.bus == "down")
            await nats.start()
            await client.until(lambda state: state.bus == "up")
        await writing
        wanted = await stored_after(bus, 0)
        assert len(wanted) == 300
        for one in (client, other):
            await one.until(lambda state: len(state.applied) >= 300)
            assert one.state.applied == wanted
            assert one.connections == 1, "the sockets stay open"
    assert box.hub.figures().gaps_filled >= 3


async def test_nothing_is_missed_or_doubled_when_the_server_restarts_or_cables_are_pulled(
    nats: NatsBox, feed_box: Start
) -> None:
    box = await feed_box()
    bus = await nats.bus()
    rng = random.Random(5)
    async with box.client("admin") as client:
        await client.until(lambda state: state.bus == "up")
        writing = asyncio.create_task(publish_many(bus, 300, 0.005))
        for round_ in range(12):
            await asyncio.sleep(rng.uniform(0.02, 0.2))
            if round_ % 4 == 3:
                await box.stop()
                await box.start()
            else:
                client.cut()
        await writing
        await client.until(lambda state: len(state.applied) >= 300)
        assert client.state.applied == await stored_after(bus, 0)
        assert client.connections > 8
        assert client.resyncs == 1, "a restarted server helps readers of the one before"


async def test_another_stream_makes_readers_start_over(nats: NatsBox, feed_box: Start) -> None:
    box = await feed_box()
    bus = await nats.bus()
    await publish_many(bus, 3)
    async with box.client("admin") as client:
        await client.until(lambda state: state.bus == "up")
        epoch = client.state.epoch
        await bus.jetstream.delete_stream("EVENTS")
        from bus.provision import provision

        await provision(bus.jetstream)
        await nats.restart()
        await client.until(lambda state: state.epoch not in (None, epoch) and state.bus == "up")
        client.state.applied.clear()
        await publish_many(bus, 3)
        await client.until(lambda state: len(state.applied) == 3)
        assert client.state.applied == await stored_after(bus, 0)


async def test_other_events_do_not_make_a_reader_late(nats: NatsBox, feed_box: Start) -> None:
    """A heartbeat moves the position of one who saw nothing."""
    box = await feed_box(heartbeat_s=1.0)
    bus = await nats.bus()
    async with box.client("job.a") as client:
        await client.until(lambda state: state.bus == "up")
        await bus.publish(UserAction(user="ada", action="x"))
        last = await bus.publish(AlertRaised(alert="x", severity="info", message=""))
        await client.until(lambda state: state.seq == last)
        assert client.state.applied == []
