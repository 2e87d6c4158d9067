"""The event tap: history and live facts, as lines for people or JSON for programs."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from bus.connection import Bus
from bus.stored import Stored
from bus.subjects import pattern

_PAGE = 256
_LIVE_WAIT_S = 5.0
_COMMON = ("type", "v", "id", "ts", "source", "job", "clip")
_VALUE_CHARS = 120


def _fields(stored: Stored) -> Mapping[str, Any] | None:
    """The payload as it is: also of types that this version does not know."""
    with contextlib.suppress(msgspec.DecodeError):
        payload = msgspec.json.decode(stored.data)
        if isinstance(payload, dict):
            return payload
    return None


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    # Names come from outside: control characters would reach the reader's terminal.
    text = "".join(char if char.isprintable() else "\ufffd" for char in text)
    if len(text) > _VALUE_CHARS:
        text = text[: _VALUE_CHARS - 1] + "…"
    return msgspec.json.encode(text).decode() if " " in text or not text else text


def line(stored: Stored) -> str:
    """`    812  09:41:07.120  job:transcribed      <job>/<clip>  words=1830 model=…`; UTC, one line, no colours."""
    fields = _fields(stored)
    if fields is None:
        return f"{stored.seq:>8}  {'':12}  {'?':<18} {stored.subject}  {len(stored.data)} bytes that are not JSON"
    clock = str(fields.get("ts", ""))[11:23].rstrip("Z")
    item = str(fields.get("job") or "-")
    if fields.get("clip") is not None:
        item += f"/{fields['clip']}"
    rest = " ".join(
        f"{name}={_shown(value)}" for name, value in fields.items() if name not in _COMMON and value is not None
    )
    return f"{stored.seq:>8}  {clock:<12}  {_shown(fields.get('type', '?')):<18} {_shown(item)}  {rest}".rstrip()


def json_line(stored: Stored) -> str:
    """One JSON object: `seq`, `subject`, `stored_at`, and the event as `event` (its text when it is not JSON)."""
    fields = _fields(stored)
    event: Any = fields if fields is not None else stored.data.decode(errors="replace")
    return msgspec.json.encode(
        {"seq": stored.seq, "subject": stored.subject, "stored_at": stored.time, "event": event}
    ).decode()


async def history(
    bus: Bus, subject_filter: str = "evt.>", since: datetime | timedelta | None = None
) -> AsyncIterator[Stored]:
    """Stored messages that match, oldest first, up to what is stored when the end is reached.

    `since` is a moment (with time zone) or a span back from now; None is the beginning. Raises ValueError for a
    filter that is none, BusUnavailable.
    """
    pattern(subject_filter)
    if isinstance(since, timedelta):
        since = datetime.now(UTC) - since
    after = 0
    if since is not None:
        first = await bus.first_since(subject_filter, since)
        if first is None:
            return
        after = first.seq - 1
    while page := await bus.read(after, subject_filter, _PAGE):
        for stored in page:
            yield stored
        after = page[-1].seq


async def follow(
    bus: Bus, subject_filter: str = "evt.>", since: datetime | timedelta | None = None
) -> AsyncIterator[Stored]:
    """History from `since` (None: only what comes from now on), then live, each fact once and in order. Endless.

    What the live feed misses (an outage, a slow reader) is read from the stream.
    """
    async with bus.live(subject_filter) as feed:
        last = (await bus.stream_state()).last_seq
        if since is not None:
            async for stored in history(bus, subject_filter, since):
                last = max(last, stored.seq)
                yield stored
        missed = feed.dropped + feed.reconnects
        while True:
            fact = await feed.next(_LIVE_WAIT_S)
            if feed.dropped + feed.reconnects != missed:
                missed = feed.dropped + feed.reconnects
                while page := await bus.read(last, subject_filter, _PAGE):
                    for stored in page:
                        yield stored
                    last = page[-1].seq
            if fact is not None and fact.seq > last:
                last = fact.seq
                yield fact
