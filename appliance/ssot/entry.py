"""What is cached: bytes with a head that says which facts they include and how long they are good.

Whether an entry may be served is decided when it is read, not when something happens: it must be young enough, and
include every fact that has invalidated its key. So an entry computed before a fact but stored after its invalidation is
never served, without locks or scripts in the server; and an entry past its time stays there as the copy of last resort.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec
from msgspec import Struct

from appliance.services.readers import Position

MissReason = Literal["cold", "expired", "invalidated", "evicted", "bypass"]
CLOCK_SLACK_S = 1.0
"""An entry made further in the future than this was made before the clock was set back: its age is unknown."""

_encoder = msgspec.json.Encoder()


class Head(Struct, frozen=True, array_like=True):
    """The head of an entry."""

    epoch: str
    seq: int
    made_at: float
    """Seconds since 1970; of a document, when its oldest section was made."""
    fresh_until: float
    """Seconds since 1970."""
    digest: str
    """Of the content, 16 hex digits."""
    token: str = ""
    """Of a document: the last invalidation that it knows."""


class Entry(Struct, frozen=True):
    """A cached section or document."""

    head: Head
    body: bytes

    @property
    def position(self) -> Position:
        """The facts that the body includes."""
        return Position(self.head.epoch, self.head.seq)


_decoder = msgspec.json.Decoder(Head)


def digest(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=8).hexdigest()


def make(body: bytes, position: Position, made_at: float, ttl_s: float) -> Entry:
    """An entry made at `made_at` (seconds since 1970) and good for `ttl_s` seconds."""
    return Entry(Head(position.epoch, position.seq, made_at, made_at + ttl_s, digest(body)), body)


def encode(entry: Entry) -> bytes:
    return _encoder.encode(entry.head) + b"\n" + entry.body


def decode(data: bytes | None) -> Entry | None:
    """The entry, None for nothing and for bytes of another version."""
    if data is None:
        return None
    head, newline, body = data.partition(b"\n")
    if not newline:
        return None
    try:
        return Entry(_decoder.decode(head), body)
    except msgspec.DecodeError:
        return None


def encode_mark(position: Position) -> bytes:
    """What an invalidation stores: the facts that an entry must include to be served."""
    return _encoder.encode(position)


_mark_decoder = msgspec.json.Decoder(tuple[str, int])


def decode_mark(data: bytes | None) -> Position | None:
    if data is None:
        return None
    try:
        return Position(*_mark_decoder.decode(data))
    except msgspec.DecodeError:
        return None


def unfit(entry: Entry, mark: Position | None, now: float) -> MissReason | None:
    """Why `entry` may not be served as fresh at `now` (seconds since 1970), None when it may."""
    if mark is not None and entry.position < mark:
        return "invalidated"
    if now >= entry.head.fresh_until or entry.head.made_at > now + CLOCK_SLACK_S:
        return "expired"
    return None
