"""The peer's live dashboards: one WebSocket each, fed from the Redis channel, as the FastAPI guide's connection manager
does it: a loop over the connections, each message made for each of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import redis.asyncio
from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from bench.peers.place import CHANNEL, socket

router = APIRouter()


class Manager:
    """All open dashboards of this process."""

    def __init__(self) -> None:
        self.connections: list[WebSocket] = []
        self.listening: asyncio.Task[None] | None = None

    async def enter(self, dashboard: WebSocket) -> None:
        await dashboard.accept()
        self.connections.append(dashboard)
        if self.listening is None:
            self.listening = asyncio.create_task(self._listen())
        await dashboard.send_json({"kind": "hello"})

    async def broadcast(self, event: dict[str, Any]) -> None:
        for dashboard in list(self.connections):
            try:
                await dashboard.send_text(json.dumps({"kind": "event", "event": event}))
            except (RuntimeError, WebSocketDisconnect):
                self.connections.remove(dashboard)

    async def _listen(self) -> None:
        async with redis.asyncio.Redis.from_url(f"unix://{socket()}") as client, client.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            async for message in channel.listen():
                if message["type"] == "message":
                    await self.broadcast(json.loads(message["data"]))


manager = Manager()


@router.websocket("/ws")
async def dashboard(socket: WebSocket) -> None:
    await manager.enter(socket)
    try:
        while True:
            await socket.receive_text()
    except WebSocketDisconnect:
        if socket in manager.connections:
            manager.connections.remove(socket)
