"""Whether there is room for one more upload, asked before its first byte is taken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from msgspec import Struct

from appliance.config import Config
from appliance.control.ledger import Ledger
from appliance.storage.admission import Admission
from appliance.storage.volume import size_text
from bus.events import JobOptions
from web.database import WebDatabase
from web.problems import Problem
from web.uploads import table


class Intake(Struct, frozen=True, kw_only=True):
    """Whether jobs are taken."""

    open: bool
    reason: str | None
    """Who closed it and why."""


class Forecast(Struct, frozen=True, kw_only=True):
    """The answer for one upload."""

    fits: bool
    reason: str
    """For people."""
    need_bytes: int
    """Source, intermediate files and clips together."""
    free_bytes: int
    """What this job could have: free, less what open jobs and unfinished uploads will still need."""
    reserve_bytes: int
    """What stays free in any case."""
    limit_bytes: int
    """Largest upload."""
    intake: Intake


class Room:
    """Of one box."""

    def __init__(self, config: Config, db: WebDatabase, ledger: Ledger, admission: Admission) -> None:
        self._config = config
        self._admission = admission
        self._db = db
        self._ledger = ledger
        self._lock = asyncio.Lock()

    def intake(self) -> Intake:
        holds = self._ledger.holds("intake")
        return Intake(open=not holds, reason="; ".join(str(hold) for hold in holds) or None)

    async def forecast(self, size_bytes: int, options: JobOptions | None = None) -> Forecast:
        """Whether an upload of this size and its job fit. Raises `SourceUnavailable`."""
        room = await self._admission.room_for(size_bytes, options)
        coming = await self._db.read(table.missing_bytes)
        need, limit = room.forecast.total_bytes, self._config.uploads.max_bytes
        free = room.free_bytes - room.promised_bytes - coming
        fits = free - need >= room.reserve_bytes and size_bytes <= limit
        reason = room.reason
        if size_bytes > limit:
            reason = f"it has {size_text(size_bytes)}; the limit is {size_text(limit)} (uploads.max_bytes)"
        elif room.fits and not fits:
            reason = (
                f"the disk has no room for this job: it needs about {room.forecast}; {size_text(free)} are left after "
                f"what open jobs and uploads will need, and {size_text(room.reserve_bytes)} stay in reserve"
            )
        return Forecast(
            fits=fits,
            reason=reason,
            need_bytes=need,
            free_bytes=max(0, free),
            reserve_bytes=room.reserve_bytes,
            limit_bytes=limit,
            intake=self.intake(),
        )

    @asynccontextmanager
    async def claimed(self, size_bytes: int, options: JobOptions) -> AsyncIterator[None]:
        """Inside the block nobody else claims room, so that two uploads are not given the same. Raises `Problem`."""
        async with self._lock:
            found = await self.forecast(size_bytes, options)
            figures: dict[str, Any] = {
                "need_bytes": found.need_bytes,
                "free_bytes": found.free_bytes,
                "reserve_bytes": found.reserve_bytes,
                "limit_bytes": found.limit_bytes,
            }
            if size_bytes > found.limit_bytes:
                raise Problem(413, "too-large", found.reason, **figures)
            if not found.fits:
                raise Problem(507, "no-room", found.reason, **figures)
            if not found.intake.open:
                closed = f"no videos are taken at the moment: intake is {found.intake.reason}"
                raise Problem(503, "intake-closed", closed, headers={"Retry-After": "30"}, **figures)
            yield
