"""The way out past the event loop's turn, on real sockets, with asyncio's loop and with uvloop's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing

import pytest
import uvloop

from bus.outlet import Outlet

Transport = asyncio.Transport


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Transport, Outlet, socket.socket]]:
    """A transport, its outlet, and the other end: a plain socket that never waits."""
    here, there = socket.socketpair()
    here.setblocking(False)
    there.setblocking(False)
    with closing(there):
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=here)
        try:
            yield transport, Outlet(transport), there
        finally:
            transport.abort()


async def all_of(there: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += await asyncio.get_running_loop().sock_recv(there, 1 << 20)
    return found


async def what_is_written_is_there_at_once() -> None:
    async with connected() as (_, outlet, there):
        assert not outlet.is_busy
        assert outlet.write(b"one") == 0
        assert there.recv(100) == b"one", "no turn of the event loop was needed"


async def what_waits_keeps_its_place() -> None:
    async with connected() as (transport, outlet, there):
        large = b"a" * (8 << 20)
        waiting = outlet.write(large)
        assert 0 < waiting < len(large), "some of it was taken, the rest waits"
        assert outlet.is_busy
        assert outlet.write(b"b" * 10) == waiting + 10, "nothing overtakes"
        transport.write(b"c" * 10)
        assert await all_of(there, len(large) + 20) == large + b"b" * 10 + b"c" * 10
        while transport.get_write_buffer_size():
            await asyncio.sleep(0)
        assert outlet.write(b"d") == 0
        assert there.recv(100) == b"d"


async def what_others_have_written_goes_first() -> None:
    async with connected() as (transport, outlet, there):
        transport.write(b"first")
        outlet.write(b"second")
        assert await all_of(there, 11) == b"firstsecond"


async def a_connection_that_is_gone_is_no_error_here() -> None:
    async with connected() as (transport, outlet, there):
        there.close()
        outlet.write(b"one")
        outlet.write(b"two")
        while not transport.is_closing():
            await asyncio.sleep(0.001)
        assert outlet.is_busy
        outlet.write(b"three")


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
@pytest.mark.parametrize(
    "case",
    [
        what_is_written_is_there_at_once,
        what_waits_keeps_its_place,
        what_others_have_written_goes_first,
        a_connection_that_is_gone_is_no_error_here,
    ],
    ids=lambda case: case.__name__,
)
def test_outlet(case: Callable[[], Awaitable[None]], run: Callable[[Awaitable[None]], None]) -> None:
    run(case())


def test_an_encrypted_connection_is_not_gone_past() -> None:
    class Encrypted:
        def __init__(self, sock: socket.socket) -> None:
            self.socket = sock
            self.written = b""

        def write(self, data: bytes | memoryview) -> None:
            self.written += data

        def get_write_buffer_size(self) -> int:
            return 0

        def is_closing(self) -> bool:
            return False

        def get_extra_info(self, name: str) -> object:
            return {"socket": self.socket, "sslcontext": object()}[name]

    with closing(socket.socket()) as sock:
        transport = Encrypted(sock)
        Outlet(transport).write(b"secret")
    assert transport.written == b"secret"
