"""The first screen: is the box well, and if not, why; what it does; what it did today."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from msgspec import Struct

from appliance.control.holds import Mode
from appliance.services.alerts import alert_severities
from appliance.services.analytics import Period, today
from appliance.services.controls import HoldRow, holds, mode_of
from appliance.services.jobs import job_states
from appliance.services.queue import Queue
from appliance.services.workers import Workers
from appliance.sqlite import sqlite3

REASONS = 20


class Stored(Struct, frozen=True, kw_only=True):
    """The database's part of the dashboard."""

    jobs: dict[str, int]
    severities: dict[str, int]
    down: list[tuple[str, str | None]]
    critical: list[str]
    today: Period | None
    holds: list[HoldRow]


class QueueTotal(Struct, frozen=True, kw_only=True):
    pending: int
    in_flight: int
    oldest_s: float | None


class WorkerTotal(Struct, frozen=True, kw_only=True):
    online: int
    working: int
    stuck: int


class Dashboard(Struct, frozen=True, kw_only=True):
    """The verdict and the sums of the other sections."""

    verdict: Literal["ok", "degraded"]
    reasons: list[str]
    """Why it is degraded, for people; empty when it is ok; at most REASONS."""
    jobs: dict[str, int]
    """By state."""
    alerts: dict[str, int]
    """Raised ones by severity."""
    queue: QueueTotal | None
    """None when the bus does not answer."""
    workers: WorkerTotal | None
    """None when the bus does not answer."""
    intake: Mode
    """Whether jobs are taken."""
    holds: list[HoldRow]
    """What is held on purpose, the oldest first. It makes nothing degraded."""
    today: Period | None
    """None when nothing has happened today (UTC). Without stages: they are in `analytics`."""


def stored_part(db: sqlite3.Connection, now: datetime) -> Stored:
    down = db.execute("SELECT service, reason FROM services WHERE state = 'down' ORDER BY service").fetchall()
    critical = db.execute(
        "SELECT message FROM alerts WHERE state = 'raised' AND severity = 'critical' ORDER BY since LIMIT ?", (REASONS,)
    ).fetchall()
    return Stored(
        jobs=job_states(db),
        severities=alert_severities(db),
        down=[(row[0], row[1]) for row in down],
        critical=[row[0] for row in critical],
        today=today(db, now),
        holds=holds(db, now),
    )


def dashboard(stored: Stored, queue: Queue | None, workers: Workers | None) -> Dashboard:
    reasons = list(stored.critical)
    reasons += [f"{service} is down" + (f": {reason}" if reason else "") for service, reason in stored.down]
    if queue is None or workers is None:
        reasons.append("the event bus does not answer")
    if workers is not None:
        for stage, row in workers.stages.items():
            if row.online < row.min:
                reasons.append(f"{row.online} of at least {row.min} {stage} workers report")
            if row.stuck:
                reasons.append(f"{row.stuck} {stage} workers do not get on with their work")
    return Dashboard(
        verdict="degraded" if reasons else "ok",
        reasons=reasons[:REASONS],
        jobs=stored.jobs,
        alerts=stored.severities,
        queue=None
        if queue is None
        else QueueTotal(pending=queue.pending, in_flight=queue.in_flight, oldest_s=queue.oldest_s),
        workers=None
        if workers is None
        else WorkerTotal(online=workers.online, working=workers.working, stuck=workers.stuck),
        intake=mode_of("intake", stored.holds),
        holds=stored.holds,
        today=stored.today,
    )
