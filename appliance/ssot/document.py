"""The document: sections joined as bytes, without decoding them.

    {"epoch": …, "seq": …, "generated_at": …, "sections": {<name>: {"seq": …, "generated_at": …}, …},
     "dashboard": …, …, "events": …, "cache": …, "websocket": …, "stale": …}

`seq` is the least of the sections' positions: every section includes all facts up to it, some of them later ones too.
A client that applies the facts after `seq` in order ends where the box is: facts set states, they never add to them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from appliance.services.readers import NOWHERE
from appliance.ssot.entry import Entry, Head

NULL = b"null"

_encoder = msgspec.json.Encoder()


class SectionNote(Struct, frozen=True, kw_only=True):
    """What the document says about one of its sections."""

    seq: int
    generated_at: datetime


def join(entries: Mapping[str, Entry | None], now: float, ttl_s: float, token: str) -> Entry:
    """The cached part of the document, still open at its end (see `finish`), good as long as each section is.

    A section that could not be had is null and noted nowhere. `token` is that of the last invalidation which the
    sections were held against.
    """
    found = {name: entry for name, entry in entries.items() if entry is not None}
    position = min((entry.position for entry in found.values()), default=NOWHERE)
    notes = {
        name: SectionNote(seq=entry.head.seq, generated_at=datetime.fromtimestamp(entry.head.made_at, UTC))
        for name, entry in found.items()
    }
    head = {
        "epoch": position.epoch,
        "seq": position.seq,
        "generated_at": datetime.fromtimestamp(now, UTC),
        "sections": notes,
    }
    parts = [_encoder.encode(head)[:-1]]
    parts += [b',"%b":%b' % (name.encode(), NULL if entry is None else entry.body) for name, entry in entries.items()]
    fresh_until = min((entry.head.fresh_until for entry in found.values()), default=now)
    until = min(now + ttl_s, fresh_until)
    oldest = min((entry.head.made_at for entry in found.values()), default=now)
    return Entry(Head(position.epoch, position.seq, oldest, until, _digest(entries), token), b"".join(parts))


def finish(joined: bytes, live: Mapping[str, bytes], *, stale: bool) -> bytes:
    """The whole document: the cached part, the sections that only this process knows, and the mark of staleness."""
    parts = [joined]
    parts += [b',"%b":%b' % (name.encode(), body) for name, body in live.items()]
    parts.append(b',"stale":true}' if stale else b',"stale":false}')
    return b"".join(parts)


def etag(digest: str, *, stale: bool) -> str:
    """A weak validator: equal documents but for the live sections and times have equal tags."""
    return f'W/"{digest}{"-s" if stale else ""}"'


def _digest(entries: Mapping[str, Entry | None]) -> str:
    """Of the sections' contents, 16 hex digits: times of making do not count."""
    told = "".join(f"{name}:{'' if entry is None else entry.head.digest};" for name, entry in entries.items())
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()
