"""The client library's connection with a short way out and in, and two mistakes replaced.

Out: the library puts each message on a list and wakes a task that sends the list. `publish` sends it at once when
nothing is before it; else, and without a connection, it goes the library's way.

In: the library wakes a task for each arrival, tries several regular expressions on it, and puts each message into the
queue of another task. Who only passes messages on, or notes them, does not need that: `hand_over` calls them while
their bytes come in. Everything else is left to the library (`_Reader`).

A flush that was given up (cancelled, timed out) leaves its future behind; the answer that comes after all is then an
error that ends the connection. Here it is ignored. And a flush whose answer comes together with a cancellation forgets
the cancellation (`asyncio.wait_for` of Python 3.11 does): whoever was to end then goes on for ever.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable

from nats.aio.client import DEFAULT_BUFFER_SIZE, Srv
from nats.aio.client import Client as LibraryClient
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, FlushTimeoutError
from nats.protocol.command import hpub_cmd, pub_cmd
from nats.protocol.parser import AWAITING_CONTROL_LINE

from bus.headers import block, parsed
from bus.transport import LINE_END, Transport, may_be_cut, message_at

Taker = Callable[[str, str, bytes, bytes], None]
"""Called with a message's subject, reply subject (or ""), header block (or b"") and data."""

_FIT = re.compile(r"[^ \t\r\n]+")
"""What the library takes for a subject."""


class Client(LibraryClient):
    """As the library's, faster. What it sends and what it makes of headers is the same (`tests/unit/bus`)."""

    def __init__(self) -> None:
        super().__init__()
        self._takers: dict[int, Taker] = {}
        self._tcp: Transport | None = None
        self._telling: set[asyncio.Future[None]] = set()

    async def _connect_to_server(self, s: Srv) -> None:
        if s.uri.scheme in ("ws", "wss"):
            await super()._connect_to_server(s)
            return
        s.last_attempt = time.monotonic()
        if self._tcp is None:
            self._transport = self._tcp = Transport(self)
        await self._tcp.connect(s.uri, DEFAULT_BUFFER_SIZE, self.options["connect_timeout"])

    # -- out ----------------------------------------------------------------------------------------------------------

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """As the library's; the message is with the network on return unless others wait before it."""
        if (
            self._tcp is not None
            and self._status == LibraryClient.CONNECTED
            and not self._pending
            and len(payload) <= self._max_payload
            and _FIT.fullmatch(subject)
            and (not reply or _FIT.fullmatch(reply))
        ):
            if headers is None:
                message = pub_cmd(subject, reply, payload)
            else:
                message = hpub_cmd(subject, reply, block(headers), payload)
            if self._tcp.write_at_once(message):
                self.stats["out_msgs"] += 1
                self.stats["out_bytes"] += len(payload)
                return
        await super().publish(subject, payload, reply, headers)  # which also says what is wrong

    async def flush(self, timeout: float = 10) -> None:
        """A round trip. Raises `nats.errors.FlushTimeoutError` after `timeout` seconds, ConnectionClosedError."""
        if self.is_closed:
            raise ConnectionClosedError
        if not self.is_connected:
            return  # as the library: what is buffered goes out with the reconnect
        pong = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(timeout):
                await self._send_ping(pong)
                await pong
        except TimeoutError as error:
            raise FlushTimeoutError from error

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():  # nobody waits for it any more
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    # -- in -----------------------------------------------------------------------------------------------------------

    async def hand_over(self, subject: str, taker: Taker) -> Subscription:
        """Subscribes `subject`; `taker` is called with each message at once, in their order, and must not wait.

        There is no queue: nothing is dropped, and the connection reads on when `taker` returns. What it raises goes to
        the connection's `error_cb`.
        """
        subscription = await self.subscribe(subject)
        self._takers[subscription._id] = taker  # the server has not been told of it yet: nothing came before this
        return subscription

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._takers.pop(sid, None)
        super()._remove_sub(sid, max_msgs)

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        taker = self._takers.get(sid)
        if taker is None:
            await super()._process_msg(sid, subject, reply, data, headers)
        else:
            self._hand(taker, subject, reply, headers or b"", data)  # None: it has none

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        return (parsed(headers) or None) if headers else None

    def _hand(self, taker: Taker, subject: bytes, reply: bytes, headers: bytes, data: bytes) -> None:
        try:
            taker(subject.decode(), reply.decode(), headers, data)
        except Exception as error:  # noqa: BLE001 - whatever it is, the connection goes on
            telling = asyncio.ensure_future(self._error_cb(error))
            self._telling.add(telling)
            telling.add_done_callback(self._telling.discard)

    @property
    def between_messages(self) -> bool:
        """`bus.transport.FirstLook`"""
        return self.is_connected and not self._ps.buf and self._ps.state == AWAITING_CONTROL_LINE

    def take(self, data: bytes) -> tuple[int, bool]:
        """`bus.transport.FirstLook`"""
        at, size = 0, len(data)
        while at < size:
            if (found := message_at(data, at)) is None:
                return at, may_be_cut(data, at)
            sid, subject, reply, headers_at, data_at, data_end = found
            if (taker := self._takers.get(sid)) is None:
                return at, False
            end = data_end + len(LINE_END)
            if end > size:
                return at, True
            self._hand(taker, subject, reply, data[headers_at:data_at], data[data_at:data_end])
            at = end
        return at, True
