"""uvicorn as this box runs it: one process, our own event loop, sockets and signals."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import uvicorn
from litestar.types import ASGIApp

from appliance.config import Config
from web.live.protocol import LiveProtocol

PING_S = 20.0
"""A socket whose other end does not answer a ping for so long is closed: it slept, or its network is gone."""


class _Server(uvicorn.Server):
    """A server that leaves the signals to its process and says when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serving = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serving.set()


@asynccontextmanager
async def serving(app: ASGIApp, config: Config, sock: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    """Serve `app` on `sock` until the block ends; then running requests get `web.stop_grace_s`. Yields the task."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    server = _Server(
        uvicorn.Config(
            app,
            lifespan="off",
            ws=LiveProtocol,
            ws_max_size=config.websocket.max_message_bytes,
            ws_per_message_deflate=False,
            ws_ping_interval=PING_S,
            ws_ping_timeout=PING_S,
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            date_header=True,
            limit_concurrency=config.web.max_connections,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, round(config.web.stop_grace_s)),
        )
    )
    task = asyncio.create_task(server.serve(sockets=[sock]), name="http")
    started = asyncio.create_task(server.serving.wait())
    try:
        await asyncio.wait([task, started], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        yield task
    finally:
        started.cancel()
        server.should_exit = True
        await asyncio.gather(task, return_exceptions=True)
        sock.close()
