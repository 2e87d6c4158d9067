"""uvicorn's WebSocket protocol with one thing more: the application may write whole frames to the connection itself.

`send` of ASGI costs a coroutine, a JSON text, an encoding and a frame for each reader of each event. The live feed has
one frame for all of them: it goes from the hub straight to the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any, cast

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from bus.outlet import Outlet

EXTENSION = "appliance.wire"
"""Key of the scope's `extensions` under which a handler finds its `DirectWire`."""
KERNEL_BUFFER_BYTES = 128 * 1024
"""What the kernel keeps for a reader besides our own queue; it doubles the figure for its own bookkeeping."""

CLOSE_GRACE_S = 2.0


class DirectWire:
    """`web.live.client.Wire` over one accepted connection. Use it after `websocket.accept` was sent."""

    def __init__(self, protocol: LiveProtocol) -> None:
        self._protocol = protocol
        self._transport = protocol.transport
        self._outlet = Outlet(protocol.transport)
        self._closing: asyncio.Task[None] | None = None

    def limit_kernel_buffer(self) -> None:
        """So that the bound on what waits for a slow reader is ours."""
        found = self._transport.get_extra_info("socket")
        if found is not None:
            with contextlib.suppress(OSError):
                found.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BUFFER_BYTES)

    def write(self, frame: bytes) -> int:
        if self._closing is not None or self._protocol.close_sent:
            return 0
        return self._outlet.write(frame)

    def waiting_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def close(self, code: int, reason: str) -> None:
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close(code, reason))
            # A goodbye that waits behind what is not taken, or is not answered, is not waited for.
            asyncio.get_running_loop().call_later(CLOSE_GRACE_S, self._transport.abort)

    def abort(self) -> None:
        self._transport.abort()

    async def _close(self, code: int, reason: str) -> None:
        with contextlib.suppress(ClientDisconnected, RuntimeError):
            await self._protocol.send({"type": "websocket.close", "code": code, "reason": reason})


class LiveProtocol(WebSocketsSansIOProtocol):
    """`uvicorn.Config(ws=LiveProtocol)`."""

    async def run_asgi(self) -> None:
        extensions = cast("dict[str, Any]", self.scope["extensions"])
        extensions[EXTENSION] = DirectWire(self)
        await super().run_asgi()
