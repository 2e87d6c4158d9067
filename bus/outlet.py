"""A connection's way out that does not wait for the event loop's turn to end.

uvloop's `write` puts the bytes on a list that is sent when all that is ready has run: what a program does next comes
before what it has just said. Here they are with the kernel when `write` returns.
"""

from __future__ import annotations

import os
from typing import Any, Protocol


class _Transport(Protocol):
    """What is used of asyncio's."""

    def write(self, data: bytes | memoryview) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def is_closing(self) -> bool: ...
    def get_extra_info(self, name: str) -> Any: ...


class Outlet:
    """Of `transport`, an open stream over a non-blocking socket. What it writes itself keeps its place in the order."""

    __slots__ = ("_fd", "_transport")

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport
        found = transport.get_extra_info("socket")
        encrypted = transport.get_extra_info("sslcontext") is not None
        self._fd: int | None = None if found is None or encrypted else found.fileno()

    @property
    def is_busy(self) -> bool:
        """Something waits to be taken by the network, or the connection is ending."""
        return self._transport.get_write_buffer_size() > 0 or self._transport.is_closing()

    def write(self, data: bytes) -> int:
        """Sends `data`; what the network does not take now waits in the transport. How many bytes wait there.

        A connection that is ending takes nothing. Raises nothing for one that is gone: the transport finds out, and
        tells its protocol.
        """
        transport, rest = self._transport, data
        if transport.is_closing():
            return 0
        if self._fd is not None and not transport.get_write_buffer_size():
            try:
                sent = os.write(self._fd, data)
            except OSError:
                sent = 0
            if sent == len(data):
                return 0
            rest = data[sent:]
        transport.write(rest)
        return transport.get_write_buffer_size()
