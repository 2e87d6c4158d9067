"""`/ws`: the live feed's door. Who knocks was settled by the guard; what follows is `web.live.socket`."""

from __future__ import annotations

from typing import Any, cast

from litestar import WebSocket, websocket
from litestar.types import ControllerRouterHandler

from web.live.client import Reader
from web.live.socket import serve
from web.services import Given


@websocket("/ws", opt={"role": "viewer"})
async def feed(socket: WebSocket[Any, Any, Any], services: Given) -> None:
    """Rooms ask for more of a role than the door does: see `web.live.rooms`."""
    principal = socket.user
    # Held before it is served, so that an end between the two is told as well.
    release = services.gate.hold(principal)
    try:
        await serve(
            cast("dict[str, Any]", socket.scope),
            socket.receive,
            socket.send,
            hub=services.hub,
            settings=services.config.websocket,
            reader=Reader(user=principal.user, role=principal.role, login=principal.id),
        )
    finally:
        release()


HANDLERS: list[ControllerRouterHandler] = [feed]
