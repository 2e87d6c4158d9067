"""The status document: bytes out, from the cache when it holds them, computed when not, stale when nothing answers.

`SsotCache` is what the HTTP route, the command line and the dispatcher share. The dispatcher calls `invalidate` and
`warm` as its table says, `warm()` every 5 s and `validate()` every 60 s; everybody else reads.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from appliance.cache.port import Cache, ServerFigures
from appliance.cache.settings import CacheTtl
from appliance.errors import CacheUnavailable, SourceUnavailable
from appliance.services.manager import SECTIONS, DataManager
from appliance.services.readers import Position
from appliance.ssot import document
from appliance.ssot.entry import Entry
from appliance.ssot.rebuild import Rebuild
from appliance.ssot.shelf import Found, Shelf
from appliance.ssot.tally import CacheFigures, Tally, Verdict
from appliance.ssot.validation import Validation, validate

LIVE = ("cache", "websocket")
"""Sections that only the process which answers knows: never cached."""
KEYS: frozenset[str] = frozenset((*SECTIONS, *LIVE))
"""What may be invalidated and warmed; for the live ones it means nothing."""
WARM_EVERY_S = 5.0
WARM_GAP_S = 0.25
"""Between two rounds of warming: a burst of events is one round."""
MAKE_UP_S = 0.2
"""Pause before what a cache that was away has missed is sent again."""
SERVER_FIGURES_EVERY_S = 10.0

Live = Callable[[], Struct | None]
_encoder = msgspec.json.Encoder()


class Snapshot(Struct, frozen=True, kw_only=True):
    """One answer."""

    body: bytes
    """JSON, UTF-8."""
    verdict: Verdict
    """For the `X-Cache` header."""
    etag: str
    position: Position
    """All facts up to it are included."""
    age_s: float
    """Of the oldest section in it."""
    stale: tuple[str, ...]
    """Sections that are a copy past its time, or null, because their source did not answer."""


class SsotCache:
    """Use as an async context manager inside those of the cache and the manager's readers.

    `websocket` gives the live feed's own figures where there is one. `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        cache: Cache,
        manager: DataManager,
        ttl_s: CacheTtl,
        *,
        websocket: Live | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._cache = cache
        self._manager = manager
        self._document_ttl_s = ttl_s.document
        self._clock = clock
        self._tally = Tally((*SECTIONS, "document"))
        self._shelf = Shelf(cache, ttl_s.static)
        self._rebuild = Rebuild(manager, self._shelf, section_ttl_s(ttl_s), self._tally, clock)
        self._live: dict[str, Live] = {"cache": self.figures, "websocket": websocket or (lambda: None)}
        self._to_warm: set[str] = set()
        self._warming: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._making_up: asyncio.Task[None] | None = None
        self._server: ServerFigures | None = None
        self._server_at: datetime | None = None
        self._asked_at = float("-inf")
        self._differing: tuple[str, ...] = ()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = [task for task in (self._warming, self._asking, self._making_up) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._rebuild.close()

    # -- reading ------------------------------------------------------------------------------------------------------

    async def read(self, *, bypass: bool = False) -> Snapshot:
        """The whole document. `bypass` computes it whatever the cache holds. Raises nothing for want of a source."""
        now = self._clock()
        if not bypass and (whole := await self._whole(now)) is not None:
            return self._snapshot(whole, "hit", now)
        entries, token, verdict, stale = await self._sections(SECTIONS, bypass=bypass)
        joined = document.join(entries, self._clock(), self._document_ttl_s, token or "")
        if token is not None and not stale:
            await self._put_document(joined)
        return self._snapshot(joined, verdict, now, stale)

    async def read_section(self, name: str, *, bypass: bool = False) -> Snapshot:
        """One section by itself. Raises KeyError for a name that is none."""
        if name in self._live:
            body = _encoder.encode(self._live[name]())
            return Snapshot(body=body, verdict="bypass", etag="", position=Position("", 0), age_s=0.0, stale=())
        if name not in SECTIONS:
            raise KeyError(f"no section {name!r}: there are {', '.join((*SECTIONS, *LIVE))}")
        entries, _, verdict, stale = await self._sections([name], bypass=bypass)
        self._tally.served(verdict)
        entry = entries[name]
        return Snapshot(
            body=document.NULL if entry is None else entry.body,
            verdict=verdict,
            etag=document.etag("" if entry is None else entry.head.digest, stale=bool(stale)),
            position=Position("", 0) if entry is None else entry.position,
            age_s=0.0 if entry is None else max(0.0, self._clock() - entry.head.made_at),
            stale=stale,
        )

    def figures(self) -> CacheFigures:
        """What the cache is worth to this process."""
        return self._tally.figures(
            kind=self._cache.kind,
            state=self._cache.state,
            opened=self._cache.era,
            server=self._server,
            server_at=self._server_at,
            differing=self._differing,
        )

    # -- for the dispatcher -------------------------------------------------------------------------------------------

    async def invalidate(self, keys: Collection[str], position: Position | None = None) -> None:
        """What is served of these sections from now on includes the facts up to `position`.

        Without a position: those that the database includes now. Call it after the rows are written. One round trip,
        shared by callers that come meanwhile; when the cache is away it is made up for later. Raises KeyError for a
        key that is none.
        """
        names = self._known(keys)
        if not names or self._cache.kind == "off":
            return
        self._tally.invalidated(names)
        try:
            await self._shelf.mark(names, position or await self._manager.position())
        except SourceUnavailable:
            await self._shelf.drop(names)
        self._make_up()

    async def settled(self) -> None:
        """Wait until the cache has been told all that it missed: other processes read it too."""
        self._make_up()
        if self._making_up is not None:
            await asyncio.shield(self._making_up)

    async def warm(self, keys: Collection[str] = SECTIONS) -> None:
        """Have these sections computed, those that are not good for `WARM_EVERY_S` more, and the document joined.

        Returns at once; a burst of calls is one round, `WARM_GAP_S` apart from the next. Raises KeyError for a key that
        is none.
        """
        self._to_warm |= self._known(keys)
        if self._to_warm and (self._warming is None or self._warming.done()):
            self._warming = asyncio.create_task(self._warm(), name="ssot-warm")

    async def warmed(self) -> None:
        """Wait until what `warm` was asked for is done."""
        if self._warming is not None:
            await asyncio.shield(self._warming)

    async def validate(self) -> Validation:
        """Compare what is cached with what it should be. What differs is removed, so that it is computed anew."""
        found = await validate(self._shelf, self._manager, self._clock)
        self._differing = found.differing
        if found.differing:
            await self._shelf.drop(found.differing)
        return found

    # -- inside -------------------------------------------------------------------------------------------------------

    def _make_up(self) -> None:
        if self._shelf.owes and (self._making_up is None or self._making_up.done()):
            self._making_up = asyncio.create_task(self._until_settled(), name="ssot-make-up")

    async def _until_settled(self) -> None:
        await self._shelf.settle()
        while self._shelf.owes:
            await asyncio.sleep(MAKE_UP_S)
            await self._shelf.settle()

    async def _whole(self, now: float) -> Entry | None:
        """The joined document when the cache holds one that may be served."""
        try:
            entry, reason = await self._shelf.document(now)
        except CacheUnavailable:
            self._tally.miss("document", "bypass")
            return None
        if reason is not None:
            self._tally.miss("document", reason)
            return None
        self._tally.hit("document")
        return entry

    async def _sections(
        self, names: Sequence[str], *, bypass: bool
    ) -> tuple[dict[str, Entry | None], str | None, Verdict, tuple[str, ...]]:
        """The sections in order, the token they were held against (None without a cache), and how they were had."""
        token: str | None = None
        cached: dict[str, Found] = dict.fromkeys(names, Found(None, None, "bypass"))
        if not bypass:
            with suppress(CacheUnavailable):
                cached, token = await self._shelf.sections(names, self._clock())
        required: dict[str, Position | None] = {}
        for name, found in cached.items():
            if found.reason is None:
                self._tally.hit(name)
            else:
                self._tally.miss(name, found.reason)
                required[name] = found.mark
        computed = await self._rebuild.sections(required) if required else {}
        entries: dict[str, Entry | None] = {}
        stale: list[str] = []
        for name in names:
            result = computed.get(name, cached[name].entry)
            if isinstance(result, SourceUnavailable):
                result = self._copy(name, cached[name].entry)
                stale.append(name)
                self._tally.stale(name)
            entries[name] = result
        verdict: Verdict = "stale" if stale else "hit" if not required else "bypass" if token is None else "miss"
        return entries, token, verdict, tuple(stale)

    def _copy(self, name: str, cached: Entry | None) -> Entry | None:
        """The newest copy there is, from the cache or from this process."""
        copies = [entry for entry in (cached, self._rebuild.last(name)) if entry is not None]
        return max(copies, key=lambda entry: (entry.position, entry.head.made_at), default=None)

    def _snapshot(self, joined: Entry, verdict: Verdict, now: float, stale: tuple[str, ...] = ()) -> Snapshot:
        self._tally.served(verdict)
        self._ask_server()
        live = {name: _encoder.encode(figures()) for name, figures in self._live.items()}
        return Snapshot(
            body=document.finish(joined.body, live, stale=bool(stale)),
            verdict=verdict,
            etag=document.etag(joined.head.digest, stale=bool(stale)),
            position=joined.position,
            age_s=max(0.0, now - joined.head.made_at),
            stale=stale,
        )

    async def _put_document(self, joined: Entry) -> None:
        with suppress(CacheUnavailable):
            await self._shelf.put({"document": joined})

    async def _warm(self) -> None:
        while self._to_warm:
            names, self._to_warm = self._to_warm, set()
            await self._warm_once([name for name in SECTIONS if name in names])
            await asyncio.sleep(WARM_GAP_S)

    async def _warm_once(self, names: Sequence[str]) -> None:
        await self._shelf.settle()
        try:
            found, _ = await self._shelf.sections(names, self._clock() + WARM_EVERY_S)
        except CacheUnavailable:
            return
        due = {name: one.mark for name, one in found.items() if one.reason is not None}
        if due:
            await self._rebuild.sections(due)
        now = self._clock()
        try:
            everything, token = await self._shelf.sections(SECTIONS, now)
        except CacheUnavailable:
            return
        if all(one.reason is None for one in everything.values()):
            entries = {name: one.entry for name, one in everything.items()}
            await self._put_document(document.join(entries, now, self._document_ttl_s, token))

    def _ask_server(self) -> None:
        """Renew the server's figures beside the answers, never before one."""
        now = time.monotonic()
        if now - self._asked_at >= SERVER_FIGURES_EVERY_S and self._cache.state == "closed":
            self._asked_at = now
            self._asking = asyncio.create_task(self._ask(), name="ssot-cache-figures")

    async def _ask(self) -> None:
        try:
            self._server = await self._cache.figures()
            self._server_at = datetime.now(UTC)
        except CacheUnavailable:
            self._asked_at = float("-inf")

    def _known(self, keys: Collection[str]) -> set[str]:
        if unknown := set(keys) - KEYS:
            raise KeyError(f"{min(unknown)!r} is no section: there are {', '.join(sorted(KEYS))}")
        return set(keys) - set(LIVE)


def section_ttl_s(ttl_s: CacheTtl) -> dict[str, float]:
    """How many seconds each section stays good when no event says otherwise."""
    return {
        "dashboard": ttl_s.important,
        "agents_workers": ttl_s.critical,
        "queue": ttl_s.critical,
        "jobs": ttl_s.important,
        "clips": ttl_s.important,
        "analytics": ttl_s.standard,
        "hardware": ttl_s.critical,
        "alerts": ttl_s.important,
        "services": ttl_s.important,
        "events": ttl_s.important,
    }
