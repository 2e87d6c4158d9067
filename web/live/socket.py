"""`/ws`: one connection from its handshake to its end. What is sent goes past here, straight from the hub."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal, cast
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from appliance.face import WebSocket
from web.live.client import Client, Reader
from web.live.frames import Refusal
from web.live.hub import Hub
from web.live.protocol import EXTENSION, DirectWire

log = logging.getLogger(__name__)
MESSAGES_BURST = 50
MESSAGES_PER_S = 10.0
"""What a reader may send: so many at once, and so many a second for long."""
CLOSE_FLOODING = 1008
MAX_QUERY_ROOMS = 64


class Refused(Struct, frozen=True, kw_only=True):
    """The answer instead of a connection."""

    status: int
    code: Literal["bad-query", "too-many", "too-many-from-address"]
    detail: str


Send = Callable[[Any], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]


class Join(Struct, frozen=True, tag_field="kind", tag="join"):
    rooms: list[str]


class Leave(Struct, frozen=True, tag_field="kind", tag="leave"):
    rooms: list[str]


class Resume(Struct, frozen=True, tag_field="kind", tag="resume"):
    epoch: str
    seq: int


class Ping(Struct, frozen=True, tag_field="kind", tag="ping"):
    """Answered by a heartbeat."""


Message = Join | Leave | Resume | Ping
_decoder = msgspec.json.Decoder(Message)


class Budget:
    """A token bucket over monotonic seconds."""

    def __init__(self, burst: int, per_s: float) -> None:
        self._burst = float(burst)
        self._per_s = per_s
        self._left = float(burst)
        self._at = 0.0

    def spend(self, now: float) -> bool:
        """Takes one; False when there is none."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


async def serve(
    scope: dict[str, Any], receive: Receive, send: Send, *, hub: Hub, settings: WebSocket, reader: Reader
) -> None:
    """Serves one WebSocket connection (an ASGI scope whose `websocket.connect` was not taken yet).

    Who `reader` is and that the page it comes from is ours was settled before.
    """
    message = await receive()
    if message["type"] != "websocket.connect":
        return
    address = (scope.get("client") or ("", 0))[0]
    try:
        rooms, epoch, seq = _query(scope["query_string"])
    except ValueError as error:
        await _refuse(send, hub, Refused(status=400, code="bad-query", detail=str(error)))
        return
    if (refused := _full(hub, settings, address)) is not None:
        await _refuse(send, hub, refused)
        return
    wire = cast("DirectWire | None", scope.get("extensions", {}).get(EXTENSION))
    if wire is None:
        raise RuntimeError("the live feed needs web.live.protocol.LiveProtocol as uvicorn's WebSocket protocol")
    # Between here and `open` nothing else runs that could accept one more: accepting does not wait.
    await send({"type": "websocket.accept", "subprotocol": None, "headers": []})
    wire.limit_kernel_buffer()
    client = Client(wire, reader, address)
    hub.open(client, rooms, epoch, seq)
    try:
        await _listen(client, receive, hub)
    finally:
        hub.closed(client)


async def _listen(client: Client, receive: Receive, hub: Hub) -> None:
    clock = asyncio.get_running_loop().time
    budget = Budget(MESSAGES_BURST, MESSAGES_PER_S)
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            return
        if not budget.spend(clock()):
            hub.end(client, CLOSE_FLOODING, "too many messages", "flooding")
            continue
        try:
            told = _decoder.decode(message.get("text") or message.get("bytes") or b"")
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            hub.refuse(client, Refusal(code="bad-message", detail=str(error)[:200]))
            continue
        match told:
            case Join():
                hub.join(client, told.rooms[: MAX_QUERY_ROOMS + 1])
            case Leave():
                hub.leave(client, told.rooms)
            case Resume():
                hub.resume(client, told.epoch, told.seq)
            case Ping():
                hub.ping(client)


def _query(raw: bytes) -> tuple[list[str], str | None, int | None]:
    """`?rooms=jobs,job.<id>&epoch=…&seq=…`, each part optional. Raises ValueError."""
    fields = parse_qs(raw.decode("latin-1"), max_num_fields=16)
    rooms = [room for text in fields.get("rooms", []) for room in text.split(",") if room]
    if len(rooms) > MAX_QUERY_ROOMS:
        raise ValueError(f"at most {MAX_QUERY_ROOMS} rooms")
    epoch, seq = fields.get("epoch"), fields.get("seq")
    if (epoch is None) != (seq is None):
        raise ValueError("epoch and seq belong together")
    if epoch is None or seq is None:
        return rooms, None, None
    if not seq[0].isascii() or not seq[0].isdigit() or len(seq[0]) > 18:
        raise ValueError("seq is a number")
    return rooms, epoch[0], int(seq[0])


def _full(hub: Hub, settings: WebSocket, address: str) -> Refused | None:
    if hub.connections >= settings.max_connections:
        detail = f"{settings.max_connections} connections are open, which is the limit (websocket.max_connections)"
        return Refused(status=503, code="too-many", detail=detail)
    if hub.connections_from(address) >= settings.per_ip:
        detail = f"{settings.per_ip} connections are open from your address, which is the limit (websocket.per_ip)"
        return Refused(status=429, code="too-many-from-address", detail=detail)
    return None


async def _refuse(send: Send, hub: Hub, refused: Refused) -> None:
    """An HTTP answer instead of the handshake's."""
    hub.tally.refused[refused.code] += 1
    problem = {"type": "about:blank", "title": refused.detail, "status": refused.status, "code": refused.code}
    body = msgspec.json.encode(problem)
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    with contextlib.suppress(OSError):
        await send({"type": "websocket.http.response.start", "status": refused.status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body, "more_body": False})
