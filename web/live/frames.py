"""Frames of the live feed as bytes: made once, sent to every reader alike.

A WebSocket frame from a server is not masked, so one encoding serves all connections. The event inside is the bytes
that the bus delivered; they are spliced in, never encoded again.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Struct

ResetReason = Literal["epoch", "too-old", "too-many", "ahead", "gap"]
"""Why a reader must fetch its snapshot again: the stream is another one; what it missed is no longer kept, or is more
than one reader's queue holds; it names a position that the stream has not reached; facts were lost before they were
read."""

_TEXT = 0x81
"""FIN and the opcode of text, RFC 6455 section 5.2."""
_encoder = msgspec.json.Encoder()
_any = msgspec.json.Decoder(msgspec.Raw)


class Heartbeat(Struct, frozen=True, kw_only=True, tag_field="kind", tag="heartbeat"):
    """Sent every `heartbeat_s`, in answer to a ping, and when the bus goes or comes back."""

    epoch: str
    seq: int
    """Every event up to here was sent to the rooms it belongs to."""
    rooms: dict[str, int]
    """How many events each of the reader's rooms has shown."""
    bus: Literal["up", "down"]


class Hello(Struct, frozen=True, kw_only=True, tag_field="kind", tag="hello"):
    """Answers a connection, `join`, `leave` and `resume`. The next event of a room has its number here plus one."""

    epoch: str
    seq: int
    rooms: dict[str, int]
    heartbeat_s: float
    bus: Literal["up", "down"]


class Reset(Struct, frozen=True, kw_only=True, tag_field="kind", tag="reset"):
    """What the reader has is not enough to go on: fetch the snapshot, then `resume` with its position."""

    epoch: str
    seq: int
    reason: ResetReason


class Refusal(Struct, frozen=True, kw_only=True, tag_field="kind", tag="error"):
    """A message was not understood or asked for something that this reader may not have. The connection stays."""

    code: Literal["bad-message", "unknown-room", "forbidden", "too-many-rooms"]
    detail: str


def text(payload: bytes) -> bytes:
    """`payload` (UTF-8) as one unmasked WebSocket text frame."""
    length = len(payload)
    if length < 126:
        return struct.pack("!BB", _TEXT, length) + payload
    if length < 65536:
        return struct.pack("!BBH", _TEXT, 126, length) + payload
    return struct.pack("!BBQ", _TEXT, 127, length) + payload


def control(message: Heartbeat | Hello | Reset | Refusal) -> bytes:
    return text(_encoder.encode(message))


def event(seq: int, rooms: Mapping[str, int], payload: bytes) -> bytes:
    """`{kind: event, seq, rooms: {room: its number of this event}, event}`; room names are subject tokens."""
    counters = ",".join(f'"{room}":{count}' for room, count in rooms.items())
    return text(b'{"kind":"event","seq":%d,"rooms":{%b},"event":%b}' % (seq, counters.encode(), _json(payload)))


def sample(kind: Literal["progress", "host"], payload: bytes) -> bytes | None:
    """A telemetry object with `kind` before its own members; None for bytes that are not a JSON object."""
    if not payload.startswith(b"{") or len(payload) < 3 or _json(payload) is not payload:
        return None
    return text(b'{"kind":"%b",%b' % (kind.encode(), payload[1:]))


def _json(payload: bytes) -> bytes:
    """`payload`, or its text as a JSON string when it is not JSON: whoever may publish must not break the readers."""
    try:
        _any.decode(payload)
        if not payload.isascii():
            payload.decode()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _encoder.encode(payload.decode(errors="replace"))
    return payload
