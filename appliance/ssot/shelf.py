"""The shelf: sections and documents in the cache, with the marks that say what has become too old.

    ssot:1:<section>        an entry                 ssot:1:mark:<section>   the facts that it must include
    ssot:1:document         the joined document      ssot:1:token            changes with every invalidation

Marks are written by one process (the dispatcher), one send at a time, so that a mark never goes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence

from msgspec import Struct

from appliance.cache.port import Cache
from appliance.errors import CacheUnavailable
from appliance.services.readers import Position
from appliance.ssot.entry import Entry, MissReason, decode, decode_mark, encode, encode_mark, unfit
from bus.ids import new_id

PREFIX = "ssot:1:"
DOCUMENT = f"{PREFIX}document"
TOKEN = f"{PREFIX}token"
MARK_OUTLIVES_S = 60.0
"""Marks live this much longer than the entries that they judge."""


class Found(Struct, frozen=True):
    """What the cache holds of one section."""

    entry: Entry | None
    mark: Position | None
    reason: MissReason | None
    """Why the entry may not be served as fresh; None when it may."""


class Shelf:
    """Entries stay for `keep_s` seconds, long past their time, as copies of last resort."""

    def __init__(self, cache: Cache, keep_s: float) -> None:
        self.cache = cache
        self._keep_s = keep_s
        self._seen: dict[str, tuple[int, float]] = {}
        self._owed: dict[str, Position] = {}
        self._sent: dict[str, Position] = {}
        self._drop: set[str] = set()
        self._sending = asyncio.Lock()

    async def document(self, now: float) -> tuple[Entry | None, MissReason | None]:
        """The joined document and why it may not be served. Raises `CacheUnavailable`."""
        data, token = await self.cache.get_many([DOCUMENT, TOKEN])
        entry = decode(data)
        if entry is None:
            return None, self._why_absent("document", now)
        self._note("document", entry)
        if entry.head.token != _text(token):
            return entry, "invalidated"
        return entry, unfit(entry, None, now)

    async def sections(self, names: Sequence[str], now: float) -> tuple[dict[str, Found], str]:
        """Each section as the cache holds it, and the present token. One round trip. Raises `CacheUnavailable`."""
        keys = [*(PREFIX + name for name in names), *(f"{PREFIX}mark:{name}" for name in names), TOKEN]
        values = await self.cache.get_many(keys)
        found: dict[str, Found] = {}
        for name, data, mark_data in zip(names, values, values[len(names) :], strict=False):
            entry, mark = decode(data), decode_mark(mark_data)
            if entry is None:
                found[name] = Found(None, mark, self._why_absent(name, now))
            else:
                self._note(name, entry)
                found[name] = Found(entry, mark, unfit(entry, mark, now))
        return found, _text(values[-1])

    async def put(self, entries: Mapping[str, Entry]) -> None:
        """Stores sections, and the joined document under `document`. Raises `CacheUnavailable`."""
        await self.cache.set_many({PREFIX + name: encode(entry) for name, entry in entries.items()}, self._keep_s)
        for name, entry in entries.items():
            self._note(name, entry)

    async def mark(self, names: Collection[str], position: Position) -> None:
        """From now on an entry of these sections must include the facts up to `position`.

        When the cache is away the marks are owed (`owes`), and sent with the next call that finds it back.
        """
        for name in names:
            self._owed[name] = max(position, self._owed.get(name, position))
        await self.settle()

    async def drop(self, names: Collection[str]) -> None:
        """Removes the sections' entries, now or when the cache is back."""
        self._drop.update(names)
        await self.settle()

    @property
    def owes(self) -> bool:
        """Whether marks or removals wait for the cache."""
        return bool(self._owed or self._drop)

    async def settle(self) -> None:
        """Sends what is owed. Calls that wait for one send share the next."""
        async with self._sending:
            if not self._owed and not self._drop:
                return
            owed, drop = self._owed, self._drop
            self._owed, self._drop = {}, set()
            marks = {name: max(where, self._sent.get(name, where)) for name, where in owed.items()}
            try:
                if drop:
                    await self.cache.delete([PREFIX + name for name in drop])
                # The token comes last: a document joined from sections that were held against older marks has an
                # older token.
                entries = {f"{PREFIX}mark:{name}": encode_mark(where) for name, where in marks.items()}
                await self.cache.set_many(entries | {TOKEN: new_id().encode()}, self._keep_s + MARK_OUTLIVES_S)
            except CacheUnavailable:
                self._drop |= drop
                for name, where in owed.items():
                    self._owed[name] = max(where, self._owed.get(name, where))
            else:
                self._sent |= marks

    def _note(self, name: str, entry: Entry) -> None:
        self._seen[name] = (self.cache.era, entry.head.made_at)

    def _why_absent(self, name: str, now: float) -> MissReason:
        era, made_at = self._seen.pop(name, (-1, 0.0))
        if era != self.cache.era:
            return "cold"
        return "expired" if now >= made_at + self._keep_s else "evicted"


def _text(data: bytes | None) -> str:
    return "" if data is None else data.decode(errors="replace")
