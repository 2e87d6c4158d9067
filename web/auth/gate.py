"""Who shows this cookie or token: answered from memory while nothing has changed, from `web.db` otherwise.

Whoever ends a session or token here tells `on_end`'s callbacks at once, so that open sockets end with it. What another
process changes (the commands `user` and `token`) is noticed within WATCH_S seconds by the database's own counter.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable

from appliance.accounts import sessions, tokens
from appliance.accounts.roles import Principal
from appliance.accounts.secrets import digest
from appliance.accounts.sessions import Lifetime
from appliance.face import Web
from web.database import WebDatabase

log = logging.getLogger(__name__)
WATCH_S = 1.0
SWEEP_S = 3600.0
MAX_KNOWN = 4096
KNOWN_S = 30.0
"""How long an answer from memory may be repeated without looking again."""


class Gate:
    """One per process. `clock` gives seconds since 1970."""

    def __init__(self, db: WebDatabase, settings: Web, *, clock: Callable[[], float] = time.time) -> None:
        self.db = db
        self.clock = clock
        self.lifetime = Lifetime(idle_s=settings.session_idle_s, most_s=settings.session_max_s)
        self._known: OrderedDict[str, tuple[Principal, float]] = OrderedDict()
        self._forgotten = 0
        """How often all that is known was forgotten."""
        self._listeners: list[Callable[[str], None]] = []
        self._held: dict[str, tuple[Principal, int]] = {}

    # -- who asks -----------------------------------------------------------------------------------------------------

    async def by_cookie(self, secret: str) -> Principal | None:
        """Who has this session, None when it is over or never was."""
        return await self._find("session", digest(secret), secret)

    async def by_token(self, secret: str) -> Principal | None:
        """Who shows this API token, None when it is not good."""
        return await self._find("token", digest(secret), secret)

    async def still_valid(self, principal: Principal) -> bool:
        """Whether this session or token, with this role, is good now. Asks the database."""
        now = self.clock()
        if principal.kind == "session":
            found = await self.db.read(lambda db: sessions.principal(db, principal.id, self.lifetime, now))
            return found is not None and found[0] == principal
        kept = await self.db.read(tokens.all_tokens)
        return any(
            token.id == principal.id
            and token.role == principal.role
            and (token.expires_at is None or token.expires_at > now)
            for token in kept
        )

    async def _find(self, kind: str, key: str, secret: str) -> Principal | None:
        now = self.clock()
        if (known := self._known.get(key)) is not None and 0 <= now - known[1] < KNOWN_S:
            return known[0]
        self._known.pop(key, None)
        before = self._forgotten
        if kind == "session":
            found = await self.db.read(lambda db: sessions.principal(db, key, self.lifetime, now))
            if found is None:
                return None
            principal, seen_at = found
            if now - seen_at > sessions.SEEN_EVERY_S:
                await self.db.change(lambda db: sessions.seen(db, key, now))
            good_from = now
        else:
            shown = await self.db.read(lambda db: tokens.principal(db, secret, now))
            if shown is None:
                return None
            principal, expires_at = shown
            await self.db.change(lambda db: tokens.used(db, principal.id, now))
            # An answer from memory must not outlive the token.
            good_from = now if expires_at is None else min(now, expires_at - KNOWN_S)
        if self._forgotten != before:
            return principal  # something ended while the database was asked: not an answer to be repeated
        self._known[key] = (principal, good_from)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return principal

    # -- endings ------------------------------------------------------------------------------------------------------

    def on_end(self, listener: Callable[[str], None]) -> None:
        """`listener(id)` is called on the event loop when the session or token with this principal id has ended."""
        self._listeners.append(listener)

    def hold(self, principal: Principal) -> Callable[[], None]:
        """Watch over a principal that stays connected; its end is told to `on_end`. Returns what ends the
        watch, to be called once."""
        _, count = self._held.get(principal.id, (principal, 0))
        self._held[principal.id] = (principal, count + 1)

        def release() -> None:
            held, left = self._held.pop(principal.id)
            if left > 1:
                self._held[principal.id] = (held, left - 1)

        return release

    def ended(self, ids: Iterable[str] | None = None) -> None:
        """Sessions or tokens have ended (None: any may have); forget what is known and tell the listeners."""
        self._forget()
        for ident in ids or ():
            for listener in self._listeners:
                try:
                    listener(ident)
                except Exception:
                    log.exception("a listener failed at the end of a session")

    def _forget(self) -> None:
        self._known.clear()
        self._forgotten += 1

    async def watch(self) -> None:
        """Until cancelled: notice what other processes changed, sessions that are over, and forget old ones."""
        version, swept, checked = await self.db.data_version(), 0.0, 0.0
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                now, new = self.clock(), await self.db.data_version()
                if new != version or abs(now - checked) > KNOWN_S:
                    self._forget()
                    held = [principal for principal, _ in self._held.values()]
                    self.ended([p.id for p in held if not await self.still_valid(p)])
                    version, checked = new, now
                if abs(now - swept) > SWEEP_S:
                    swept = now
                    await self.db.change(lambda db: sessions.sweep(db, self.lifetime, self.clock()))
            except Exception:
                log.exception("cannot look after the sessions; tried again")
