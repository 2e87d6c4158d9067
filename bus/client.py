"""The client library's connection, with two slow paths and two mistakes replaced.

A flush that was given up (cancelled, timed out) leaves its future behind; the answer that comes after all is then an
error that ends the connection. Here it is ignored. And a flush whose answer comes together with a cancellation forgets
the cancellation (`asyncio.wait_for` of Python 3.11 does): whoever was to end then goes on for ever.

Every message of a stream carries headers, and the library checks each character of each header's name in Python: half
the processor time of a reader of facts. Names come from a small vocabulary, so each is checked once and remembered.

And each message goes through a queue to a task of its subscription, two turns of the event loop after it was read. Who
only passes it on, or notes it, does not need that: `hand_over` calls them while it is read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import lru_cache

from nats.aio.client import Client as LibraryClient
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import ConnectionClosedError, FlushTimeoutError

_LINE_END = b"\r\n"
_NAMES = 512


class Client(LibraryClient):
    """As the library's, faster. What it makes of headers is the same (`tests/unit/bus/test_client.py`)."""

    def __init__(self) -> None:
        super().__init__()
        self._takers: dict[int, Callable[[Msg], None]] = {}

    async def hand_over(self, subject: str, taker: Callable[[Msg], None]) -> Subscription:
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
            return
        try:
            taker(self._build_message(sid, subject, reply, data, await self._process_headers(headers)))
        except Exception as error:  # noqa: BLE001 - whatever it is, the connection goes on
            await self._error_cb(error)

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        headers: dict[str, str] = {}
        for line in raw.split(_LINE_END):
            name, colon, value = line.partition(b":")
            if colon and (key := _name(name)) is not None:
                headers[key] = value.strip().decode("utf-8", "replace")
        return headers

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


@lru_cache(_NAMES)
def _name(raw: bytes) -> str | None:
    """A header's name; None for what cannot be one."""
    try:
        name = raw.strip().decode("ascii")
    except UnicodeDecodeError:
        return None
    return None if any(character.isspace() for character in name) else name
