"""Queues: what waits before each stage, how long already, and how fast it goes."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from appliance.control.holds import Mode
from appliance.services.controls import HoldRow, mode_of
from appliance.services.figures import counts, minutes_before
from appliance.sqlite import sqlite3
from bus.connection import QueueDepth
from bus.events import DONE, STAGES, StageName

RATE_MINUTES = 15

_STAGE_OF = {str(kind.__struct_config__.tag): stage for stage, kind in DONE.items()}


class StageQueue(Struct, frozen=True, kw_only=True):
    """The queue of one stage."""

    pending: int
    """Commands that no worker has yet."""
    in_flight: int
    redelivered: int
    oldest_s: float | None
    """Age of the oldest pending command, None without any."""
    mode: Mode
    """Whether its workers take new tasks: `pause` and `drain` are held on purpose."""
    done_per_min: float
    """Jobs or clips that the stage finished, mean of the last RATE_MINUTES minutes."""


class Queue(Struct, frozen=True, kw_only=True):
    """All queues at one moment."""

    pending: int
    in_flight: int
    oldest_s: float | None
    stages: dict[StageName, StageQueue]
    intake: Mode
    """Whether jobs are taken."""
    holds: list[HoldRow]
    """Why not: what is held now, the oldest first."""


def stage_rates(db: sqlite3.Connection, now: datetime) -> dict[str, float]:
    """What each stage finished a minute, lately."""
    done = counts(
        db,
        "SELECT type, sum(count) FROM event_minutes WHERE minute > ? GROUP BY type",
        (minutes_before(now, RATE_MINUTES),),
    )
    return {stage: round(done.get(kind, 0) / RATE_MINUTES, 3) for kind, stage in _STAGE_OF.items()}


def queue(depths: dict[StageName, QueueDepth], rates: dict[str, float], standing: list[HoldRow]) -> Queue:
    """The bus's depths, the store's rates and its holds together."""
    stages = {
        stage: StageQueue(
            pending=depths[stage].pending,
            in_flight=depths[stage].in_flight,
            redelivered=depths[stage].redelivered,
            oldest_s=depths[stage].oldest_s,
            mode=mode_of(stage, standing),
            done_per_min=rates.get(stage, 0.0),
        )
        for stage in STAGES
    }
    ages = [row.oldest_s for row in stages.values() if row.oldest_s is not None]
    return Queue(
        pending=sum(row.pending for row in stages.values()),
        in_flight=sum(row.in_flight for row in stages.values()),
        oldest_s=max(ages, default=None),
        stages=stages,
        intake=mode_of("intake", standing),
        holds=standing,
    )
