"""Claim, login, logout, password: what makes and ends sessions.

Wrong passwords are slowed in buckets of `web.db`: one per address, one per account for browsers in which nobody has
logged in to it before. A browser that has (it keeps a cookie, cf. the OWASP device cookie protocol) has a bucket of its
own, so nobody can lock the owner out by guessing.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv6Address, ip_address
from typing import TypeVar

from msgspec import Struct

from appliance.accounts import claims, sessions, throttle, users
from appliance.accounts.roles import Principal, Role
from appliance.accounts.secrets import NOBODY, digest, hash_password, new_secret, password_fits
from appliance.sqlite import sqlite3
from web.auth.gate import Gate
from web.problems import Problem

T = TypeVar("T")
MAX_DEVICES = 20
"""Remembered browsers of one user; the one unseen for the longest is forgotten."""
MAX_WAITING = 64
"""Logins that may wait for the hashing threads."""


class Caller(Struct, frozen=True, kw_only=True):
    """Where a request comes from."""

    remote: str
    agent: str
    device: str | None
    """The cookie of a browser that has been logged in before."""


class Entry(Struct, frozen=True, kw_only=True):
    """A session that has begun."""

    user: str
    role: Role
    secret: str
    device: str
    """What the browser should keep to be known again."""


class Doorkeeper:
    """Makes and ends sessions. Hashing runs on two threads of its own, so that a flood of logins starves nobody."""

    def __init__(self, gate: Gate, *, per_minute: float) -> None:
        self._gate = gate
        self._db = gate.db
        self._per_minute = per_minute
        self._hashers = ThreadPoolExecutor(2, thread_name_prefix="password")
        self._waiting = 0

    async def close(self) -> None:
        await asyncio.to_thread(self._hashers.shutdown, cancel_futures=True)

    async def claimed(self) -> bool:
        """Whether somebody can administer the box."""
        return await self._db.read(users.claimed)

    async def claim(self, token: str, user: str, password: str, caller: Caller) -> Entry:
        """Make the first administrator. Raises `Problem` 409 when there is one and 403 for a bad token."""
        address, now = f"address:{network(caller.remote)}", self._gate.clock()
        await self._db.read(lambda db: self._slowed(db, [address], now))
        if await self.claimed():
            raise Problem(409, "claimed", "this box has an administrator already: log in")
        users.check_name(user)
        kept = await self.hash(user, password)

        def take(db: sqlite3.Connection) -> Entry:
            if not claims.redeem(db, token, now):
                throttle.count(db, address, self._per_minute, now)
                return _NOTHING
            if users.claimed(db):
                raise Problem(409, "claimed", "this box has an administrator already: log in")
            users.add(db, user, kept, "admin", now)
            return _begin(db, user, "admin", caller, now)

        entry = await self._db.change(take)
        if entry is _NOTHING:
            raise Problem(
                403,
                "bad-claim",
                "the claim is used, too old or wrong: `appliance user claim` on the box prints a new one",
            )
        return entry

    async def login(self, user: str, password: str, caller: Caller) -> Entry:
        """Raises `Problem` 401 for a wrong name or password, 429 when too many were wrong."""
        account = user[:64]
        known = caller.device is not None and await self._db.read(lambda db: _knows(db, caller.device, account))
        keys = [f"device:{digest(caller.device or '')}"] if known else [
            f"address:{network(caller.remote)}",
            f"account:{account}",
        ]  # fmt: skip
        now = self._gate.clock()
        await self._admitted(keys, now)
        kept = await self._db.read(lambda db: users.kept_password(db, account))
        fits = await self._hashed(lambda: password_fits(kept or NOBODY, password))
        if kept is None or not fits:
            raise Problem(401, "wrong-login", "the user name or the password is wrong")

        def enter(db: sqlite3.Connection) -> Entry:
            found = users.find(db, account)
            if users.kept_password(db, account) != kept:
                raise Problem(401, "wrong-login", "the user name or the password is wrong")
            for key in keys:
                throttle.give_back(db, key)
            return _begin(db, account, found.role, caller, now)

        return await self._db.change(enter)

    async def logout(self, principal: Principal) -> None:
        await self._db.change(lambda db: sessions.end(db, principal.id))
        self._gate.ended([principal.id])

    async def change_password(self, principal: Principal, old: str, new: str, caller: Caller) -> Entry:
        """Ends all sessions of the user and begins a new one. Raises `Problem` 403 for a wrong old password."""
        key = f"password:{principal.user}"
        now = self._gate.clock()
        await self._admitted([key], now)
        kept = await self._db.read(lambda db: users.kept_password(db, principal.user))
        if kept is None or not await self._hashed(lambda: password_fits(kept, old)):
            raise Problem(403, "wrong-password", "the old password is wrong")
        changed = await self.hash(principal.user, new)

        def change(db: sqlite3.Connection) -> tuple[Entry, list[str]]:
            if users.kept_password(db, principal.user) != kept:
                raise Problem(403, "wrong-password", "the old password is wrong")
            throttle.give_back(db, key)
            ended = sessions.of_user(db, principal.user)
            users.set_password(db, principal.user, changed, now)
            return _begin(db, principal.user, principal.role, caller, now), ended

        entry, ended = await self._db.change(change)
        self._gate.ended(ended)
        return entry

    async def hash(self, user: str, password: str) -> str:
        """The hash to keep. Raises `AccountRefused`."""
        return await self._hashed(lambda: hash_password(password, user))

    async def _hashed(self, work: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise Problem(503, "busy", "too many logins at once: try again", headers={"Retry-After": "2"})
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._hashers, work)
        finally:
            self._waiting -= 1

    async def _admitted(self, keys: list[str], now: float) -> None:
        """Count a try before it is checked, each in its turn: guesses that run side by side count, too."""

        def admit(db: sqlite3.Connection) -> None:
            self._slowed(db, keys, now)
            for key in keys:
                throttle.count(db, key, self._per_minute, now)

        await self._db.change(admit)

    def _slowed(self, db: sqlite3.Connection, keys: list[str], now: float) -> None:
        """Raises `Problem` 429 when one of the keys has to wait."""
        wait = max(throttle.wait_s(db, key, self._per_minute, now) for key in keys)
        if wait > 0:
            seconds = math.ceil(wait)
            raise Problem(
                429,
                "too-many-tries",
                f"too many tries: wait {seconds} s",
                headers={"Retry-After": str(seconds)},
                retry_after_s=seconds,
            )


_NOTHING = Entry(user="", role="viewer", secret="", device="")


def _begin(db: sqlite3.Connection, user: str, role: Role, caller: Caller, now: float) -> Entry:
    secret = sessions.begin(db, user, remote=caller.remote, agent=caller.agent, now=now)
    device = caller.device if caller.device is not None and _knows(db, caller.device, user) else new_secret()
    db.execute("INSERT OR REPLACE INTO devices VALUES (?, ?, ?)", (digest(device), user, now))
    db.execute(
        "DELETE FROM devices WHERE id IN"
        " (SELECT id FROM devices WHERE user = ? ORDER BY seen_at DESC LIMIT -1 OFFSET ?)",
        (user, MAX_DEVICES),
    )
    return Entry(user=user, role=role, secret=secret, device=device)


def _knows(db: sqlite3.Connection, device: str | None, user: str) -> bool:
    found = db.execute("SELECT 1 FROM devices WHERE id = ? AND user = ?", (digest(device or ""), user)).fetchone()
    return found is not None


def network(remote: str) -> str:
    """What one guesser has at least: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        address = ip_address(remote.partition("%")[0])
    except ValueError:
        return remote
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(IPv6Address(int(address) >> 64 << 64))
    return str(address)
