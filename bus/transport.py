"""The client's TCP connection without the library's detours: out at once, in without waking a task.

asyncio's reader keeps what has come until a task asks for it. `_Reader` shows it to `take` first, which uses up whole
messages at its beginning. What else there is goes the library's way, and so does all that comes until the library has
worked that off: the order stays.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Protocol
from urllib.parse import ParseResult

from nats.aio.transport import TcpTransport
from nats.protocol.parser import MAX_CONTROL_LINE_SIZE

from bus.outlet import Outlet

LINE_END = b"\r\n"
_MSG = re.compile(rb"MSG (\S+) (\d+) (?:(\S+) )?()(\d+)\r\n")
_HMSG = re.compile(rb"HMSG (\S+) (\d+) (?:(\S+) )?(\d+) (\d+)\r\n")
"""As nats-server writes them: one space between two words."""
_H = b"H"[0]


class FirstLook(Protocol):
    """Who sees first what comes."""

    @property
    def between_messages(self) -> bool:
        """Nothing that came before is still to be worked off by the library."""

    def take(self, data: bytes) -> tuple[int, bool]:
        """Uses up whole messages at the beginning of `data`: how many bytes, and whether the rest is the beginning of
        what may be one more, to be shown again when more has come. If not, the rest is the library's."""


def message_at(data: bytes, at: int) -> tuple[int, bytes, bytes, int, int, int] | None:
    """The message whose control line begins at `at`, None when there is no whole control line of one.

    Its subscription's number, subject, reply subject (or b""), and where its headers and data begin and the data ends.
    That may lie behind the end of `data`: the rest has not come yet.
    """
    line = (_HMSG if data[at] == _H else _MSG).match(data, at)
    if line is None:
        return None
    subject, sid, reply, header_size, size = line.groups()
    headers_at = line.end()
    data_at, data_end = headers_at + int(header_size or 0), headers_at + int(size)
    return (int(sid), subject, reply or b"", headers_at, data_at, data_end) if data_at <= data_end else None


def may_be_cut(data: bytes, at: int) -> bool:
    """Whether what begins at `at` may be a control line that has not come to its end."""
    return data.find(LINE_END, at) < 0 and len(data) - at < MAX_CONTROL_LINE_SIZE


class _Reader(asyncio.StreamReader):
    _buffer: bytearray  # asyncio's: what no task has asked for yet

    def __init__(self, taker: FirstLook, limit: int) -> None:
        super().__init__(limit=limit, loop=asyncio.get_running_loop())
        self._taker = taker
        self._held = b""

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]  # never anything else
        if self._held:
            data, self._held = self._held + data, b""
        if not self._buffer and self._taker.between_messages:
            used, hold = self._taker.take(data)
            if hold:
                self._held = data[used:]
                return
            data = data[used:]
        super().feed_data(data)


class Transport(TcpTransport):
    """As the library's, for `taker`."""

    def __init__(self, taker: FirstLook) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._taker = taker
        self._outlet: Outlet | None = None

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:
        """Raises OSError, and TimeoutError after `connect_timeout` seconds."""
        loop = asyncio.get_running_loop()
        reader = _Reader(self._taker, buffer_size)
        async with asyncio.timeout(connect_timeout):
            transport, protocol = await loop.create_connection(
                lambda: asyncio.StreamReaderProtocol(reader, loop=loop),
                uri.hostname,  # type: ignore[arg-type]  # the library sees to both
                uri.port,  # type: ignore[arg-type]
            )
        self._bare_io_reader = self._io_reader = reader
        self._bare_io_writer = self._io_writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        self._outlet = Outlet(transport)

    async def connect_tls(self, *arguments: Any, **named: Any) -> None:
        await super().connect_tls(*arguments, **named)
        assert self._io_writer is not None
        self._outlet = Outlet(self._io_writer.transport)

    def write_at_once(self, data: bytes) -> bool:
        """Hands `data` to the network. False, and nothing is done, when something waits before it or it is closing."""
        if self._outlet is None or self._outlet.is_busy:
            return False
        self._outlet.write(data)
        return True
