"""The live feed on a real bus behind a real uvicorn, without the rest of the web process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn

from appliance.face import WebSocket
from bus.connection import Bus
from tests.feed_client import FeedClient
from tests.integration.conftest import NatsBox
from web.live.client import Reader
from web.live.feeder import Feeder
from web.live.hub import Hub
from web.live.protocol import LiveProtocol
from web.live.socket import serve


class FeedBox:
    """One feed and its server, which can end and come back like a process."""

    def __init__(self, nats: NatsBox, settings: WebSocket) -> None:
        self.nats = nats
        self.settings = settings
        self.hub = Hub(settings)
        self.port = 0
        self.role = "admin"
        self._stop: Callable[[], Awaitable[None]] | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    async def app(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        reader = Reader(user="ada", role=self.role, login="l1")
        await serve(scope, receive, send, hub=self.hub, settings=self.settings, reader=reader)

    async def start(self) -> None:
        self.hub = Hub(self.settings)
        bus = await self.nats.bus("web", patience_s=5.0)
        feeder = Feeder(bus, self.hub, self.settings.heartbeat_s)
        stack = contextlib.AsyncExitStack()
        await stack.enter_async_context(feeder.running())
        config = uvicorn.Config(
            self.app,
            host="127.0.0.1",
            port=self.port,
            ws=LiveProtocol,
            ws_max_size=self.settings.max_message_bytes,
            ws_per_message_deflate=False,
            interface="asgi3",
            lifespan="off",
            log_level="warning",
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve())
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.01)
        self.port = server.servers[0].sockets[0].getsockname()[1]

        async def stop() -> None:
            server.should_exit = True
            await stack.aclose()
            await serving
            await bus.close()

        self._stop = stop

    async def stop(self) -> None:
        if self._stop is not None:
            stop, self._stop = self._stop, None
            await stop()

    def client(self, *rooms: str) -> FeedClient:
        return FeedClient(self.url, list(rooms), self.snapshot)

    async def snapshot(self) -> tuple[str, int]:
        """Where a client without a past begins: at the end of what is shown."""
        return self.hub.epoch, self.hub.seq


Start = Callable[..., Awaitable[FeedBox]]


@pytest.fixture
async def feed_box(nats: NatsBox) -> AsyncIterator[Start]:
    """Starts one with these settings."""
    made: list[FeedBox] = []

    async def start(**settings: Any) -> FeedBox:
        box = FeedBox(nats, WebSocket(**settings))
        made.append(box)
        await box.start()
        return box

    yield start
    for box in made:
        await box.stop()


async def stored_after(bus: Bus, seq: int) -> list[int]:
    """What a reader of every event must have seen after `seq`."""
    found: list[int] = []
    while page := await bus.read(found[-1] if found else seq, "evt.>", 1000):
        found += [stored.seq for stored in page]
    return found
