"""Is what is cached what it should be? Cached sections against fresh ones: their age, and equality byte for byte."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from msgspec import Struct

from appliance.errors import CacheUnavailable
from appliance.services.manager import SECTIONS, STORED, DataManager, Fetched
from appliance.ssot.entry import digest
from appliance.ssot.shelf import Found, Shelf

BY_EVENT = frozenset({"jobs", "clips", "alerts", "services"})
"""Sections that change with events of their own only: each such event must have invalidated them. The others may lag
behind the facts for their time to live, so they are compared only at the same stream position."""
SETTLE_S = 0.5
"""What differs gets this long to be invalidated by the event that is just being dispatched."""


class Validation(Struct, frozen=True, kw_only=True):
    """One comparison."""

    age_s: float | None
    """Of the oldest section that would be served, None when there is none (or no cache)."""
    checked: tuple[str, ...]
    """Sections that could be compared."""
    equal: bool
    differing: tuple[str, ...]
    """Sections that would be served although they are not what they should be."""


async def validate(shelf: Shelf, manager: DataManager, clock: Callable[[], float]) -> Validation:
    """Raises nothing: what cannot be read is not compared."""
    try:
        found, _ = await shelf.sections(SECTIONS, clock())
    except CacheUnavailable:
        return Validation(age_s=None, checked=(), equal=True, differing=())
    served = {name: one for name, one in found.items() if one.reason is None}
    ages = [clock() - one.entry.head.made_at for one in served.values() if one.entry is not None]
    checked: list[str] = []
    suspects: dict[str, Found] = {}
    for name in STORED:
        if (one := served.get(name)) is None or one.entry is None:
            continue
        made_at = datetime.fromtimestamp(one.entry.head.made_at, UTC)
        fresh = (await manager.fetch([name], made_at))[name]
        if not isinstance(fresh, Fetched) or (name not in BY_EVENT and fresh.position != one.entry.position):
            continue
        checked.append(name)
        if digest(fresh.body) != one.entry.head.digest:
            suspects[name] = one
    differing = await _still_served(shelf, suspects, clock) if suspects else ()
    return Validation(
        age_s=round(max(ages), 3) if ages else None, checked=tuple(checked), equal=not differing, differing=differing
    )


async def _still_served(shelf: Shelf, suspects: dict[str, Found], clock: Callable[[], float]) -> tuple[str, ...]:
    await asyncio.sleep(SETTLE_S)
    try:
        found, _ = await shelf.sections(list(suspects), clock())
    except CacheUnavailable:
        return ()
    return tuple(name for name, one in found.items() if one.reason is None and one.entry == suspects[name].entry)
