"""Proof, on the running server, of what the bus relies on. Made at each start of the box."""

from __future__ import annotations

import contextlib

import msgspec
from nats.errors import Error as ClientError
from nats.js.api import AckPolicy, ConsumerConfig, Header, RetentionPolicy, StorageType, StreamConfig

from bus.commit import Expect, Outgoing, send
from bus.connection import Bus
from bus.errors import BusUnavailable, ServerStartError, Stale
from bus.ids import new_id
from bus.streams import MIB
from bus.wire import API, as_reply

MIN_VERSION = (2, 15, 1)
"""Older servers lose synced data in block compaction, or lack batches and schedules."""
_STREAM = "SELFTEST"
_ACK_TOKENS = 9
"""`$JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time>.<pending>`; the v2 form has 11 or 12."""
_TIMEOUT_S = 5.0


async def self_test(bus: Bus) -> None:
    """Checks version, atomic batch, compare-and-set, round trip and the form of acknowledgements (trap 1).

    Works on a stream of its own in memory and removes it, so it leaves nothing behind. Needs the supervisor's rights.
    Raises ServerStartError naming what failed, BusUnavailable without an answer.
    """
    if bus.server_version < MIN_VERSION:
        found, needed = (".".join(map(str, version)) for version in (bus.server_version, MIN_VERSION))
        raise ServerStartError(f"nats-server {found} is too old: {needed} or newer is needed")
    jetstream = bus.jetstream
    try:
        await jetstream.add_stream(
            StreamConfig(
                name=_STREAM,
                subjects=["selftest.>"],
                storage=StorageType.MEMORY,
                retention=RetentionPolicy.LIMITS,
                max_bytes=MIB,
                allow_atomic=True,
            )
        )
        try:
            await _prove_batch(bus)
            await _prove_acknowledgement(bus)
        finally:
            with contextlib.suppress(ClientError):
                await jetstream.delete_stream(_STREAM)
    except TimeoutError as error:
        raise BusUnavailable("nats-server did not answer its self-test") from error
    except ClientError as error:
        raise ServerStartError(f"nats-server failed its self-test: {error}") from error


async def _prove_batch(bus: Bus) -> None:
    messages = [Outgoing(f"selftest.batch.{n}", b"{}", {Header.MSG_ID.value: new_id()}) for n in range(3)]
    ack = await send(bus.wire, messages, Expect("selftest.batch.*", 0), _TIMEOUT_S)
    if (ack.seq, ack.count) != (3, 3):
        raise ServerStartError(f"nats-server stored an atomic batch of 3 as {ack}")
    again = [Outgoing(message.subject, b"{}", {Header.MSG_ID.value: new_id()}) for message in messages]
    try:
        await send(bus.wire, again, Expect("selftest.batch.*", 0), _TIMEOUT_S)
    except Stale as stale:
        if stale.current != ack.seq:
            raise ServerStartError(f"nats-server reports a lost compare-and-set as {stale}") from stale
    else:
        raise ServerStartError("nats-server accepted a stale compare-and-set: results could be stored twice")


async def _prove_acknowledgement(bus: Bus) -> None:
    name = f"selftest-{new_id()}"
    await bus.jetstream.add_consumer(
        _STREAM, ConsumerConfig(name=name, ack_policy=AckPolicy.EXPLICIT, mem_storage=True)
    )
    pull = msgspec.json.encode({"batch": 1, "expires": int(_TIMEOUT_S * 1e9)})
    inbox = bus.client.new_inbox()
    subscription = await bus.client.subscribe(inbox)
    try:
        await bus.wire.publish(f"{API}.CONSUMER.MSG.NEXT.{_STREAM}.{name}", pull, reply=inbox)
        reply = as_reply(await subscription.next_msg(_TIMEOUT_S))
    finally:
        await subscription.unsubscribe()
    tokens = reply.ack_subject.split(".")
    if len(tokens) != _ACK_TOKENS or tokens[:4] != ["$JS", "ACK", _STREAM, name] or tokens[4:6] != ["1", "1"]:
        raise ServerStartError(
            f"nats-server uses another form of acknowledgement ({reply.ack_subject}): "
            "keep feature_flags.js_ack_fc_v2 false"
        )
    await bus.wire.request(reply.ack_subject, b"+ACK", timeout_s=_TIMEOUT_S)
