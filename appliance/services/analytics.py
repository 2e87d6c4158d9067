"""Analytics: each of the last hours and days in figures, and each stage's work in it.

Read from the sums that the projection keeps (`appliance.store.figures`), so that a year of jobs costs no more than a
day. Hours and days are UTC; those in which nothing happened are absent.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from msgspec import Struct

from appliance.services.figures import hour_key
from appliance.sqlite import sqlite3

HOURS = 48
DAYS = 30

_SUMS = (
    "sum(jobs), sum(completed), sum(failed), sum(cancelled), sum(media_s), sum(source_bytes), sum(clips_ready),"
    " sum(clips_failed), sum(clip_s), sum(first_clips), sum(first_clip_s), max(first_clip_max_s)"
)
_STAGE_SUMS = "sum(done), sum(failed), sum(retried), sum(seconds), sum(media_s)"


class StageFigures(Struct, frozen=True, kw_only=True):
    """One stage in one period."""

    done: int
    failed: int
    """Jobs or clips given up in this stage."""
    retried: int
    """Attempts that failed and were followed by another."""
    seconds: float
    """Of work that succeeded."""
    real_time_factor: float | None
    """Seconds of work for each second of video (or of clip, in the clip stages); None without any."""


class Period(Struct, frozen=True, kw_only=True):
    """One hour or day."""

    start: str
    """2026-01-31T23 or 2026-01-31, UTC."""
    jobs: int
    completed: int
    failed: int
    cancelled: int
    minutes_in: float
    """Minutes of video that came in."""
    source_bytes: int
    clips_ready: int
    clips_failed: int
    minutes_out: float
    """Minutes of clips made."""
    first_clip_mean_s: float | None
    """Mean seconds from a job's creation to its first clip, None without any."""
    first_clip_max_s: float | None
    stages: dict[str, StageFigures]


class Analytics(Struct, frozen=True, kw_only=True):
    """The last HOURS hours and DAYS days, oldest first, the present ones included."""

    hours: list[Period]
    days: list[Period]


def analytics(db: sqlite3.Connection, now: datetime) -> Analytics:
    first_hour = hour_key(now - timedelta(hours=HOURS - 1))
    first_day = hour_key(now - timedelta(days=DAYS - 1))[:10]
    return Analytics(hours=_periods(db, "hour", first_hour), days=_periods(db, "substr(hour, 1, 10)", first_day))


def today(db: sqlite3.Connection, now: datetime) -> Period | None:
    """The present day without its stages, None when nothing has happened yet."""
    days = _sums(db, "substr(hour, 1, 10)", hour_key(now)[:10], {})
    return days[-1] if days else None


def _periods(db: sqlite3.Connection, period: str, first: str) -> list[Period]:
    """`period` is an expression over `hour`."""
    stages: dict[str, dict[str, StageFigures]] = {}
    for start, stage, *sums in db.execute(
        f"SELECT {period} AS start, stage, {_STAGE_SUMS} FROM stage_hours WHERE hour >= ? GROUP BY start, stage",  # noqa: S608
        (first,),
    ):
        stages.setdefault(start, {})[stage] = _stage(*sums)
    found = _sums(db, period, first, stages)
    # An hour in which a stage failed or was tried again and nothing else happened.
    found += [_period(start, [0] * 12, left) for start, left in stages.items()]
    return sorted(found, key=lambda period: period.start)


def _sums(db: sqlite3.Connection, period: str, first: str, stages: dict[str, dict[str, StageFigures]]) -> list[Period]:
    """The periods that have sums of their own, which take their stages out of `stages`."""
    query = f"SELECT {period} AS start, {_SUMS} FROM hours WHERE hour >= ? GROUP BY start"  # noqa: S608
    return [_period(start, sums, stages.pop(start, {})) for start, *sums in db.execute(query, (first,))]


def _stage(done: int, failed: int, retried: int, seconds: float, media_s: float) -> StageFigures:
    factor = round(seconds / media_s, 4) if media_s else None
    return StageFigures(done=done, failed=failed, retried=retried, seconds=round(seconds, 3), real_time_factor=factor)


def _period(start: str, sums: Iterable[float], stages: dict[str, StageFigures]) -> Period:
    (
        jobs,
        completed,
        failed,
        cancelled,
        media_s,
        source_bytes,
        ready,
        clips_failed,
        clip_s,
        firsts,
        first_s,
        first_max_s,
    ) = sums
    return Period(
        start=start,
        jobs=int(jobs),
        completed=int(completed),
        failed=int(failed),
        cancelled=int(cancelled),
        minutes_in=round(media_s / 60, 3),
        source_bytes=int(source_bytes),
        clips_ready=int(ready),
        clips_failed=int(clips_failed),
        minutes_out=round(clip_s / 60, 3),
        first_clip_mean_s=round(first_s / firsts, 3) if firsts else None,
        first_clip_max_s=round(first_max_s, 3) if firsts else None,
        stages=stages,
    )
