"""The client library's connection, with one slow path and two mistakes replaced.

A flush that was given up (cancelled, timed out) leaves its future behind; the answer that comes after all is then an
error that ends the connection. Here it is ignored. And a flush whose answer comes together with a cancellation forgets
the cancellation (`asyncio.wait_for` of Python 3.11 does): whoever was to end then goes on for ever.

Every message of a stream carries headers, and the library checks each character of each header's name in Python: half
the processor time of a reader of facts. Names come from a small vocabulary, so each is checked once and remembered.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache

from nats.aio.client import Client as LibraryClient
from nats.errors import ConnectionClosedError, FlushTimeoutError

_LINE_END = b"\r\n"
_NAMES = 512


class Client(LibraryClient):
    """As the library's, faster. What it makes of headers is the same (`tests/unit/bus/test_client.py`)."""

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
