"""The services: what each section says of given rows, registry entries and queues."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from msgspec.structs import replace

from appliance.services import dashboard
from appliance.services.alerts import alerts
from appliance.services.analytics import DAYS, HOURS, analytics, today
from appliance.services.clips import clips
from appliance.services.controls import holds
from appliance.services.flow import event_flow
from appliance.services.jobs import jobs
from appliance.services.queue import RATE_MINUTES, queue, stage_rates
from appliance.services.supervised import services
from appliance.services.workers import gone, workers
from appliance.sqlite import sqlite3
from appliance.store.projection import Projection, StoredFact
from appliance.store.schema import SCHEMA
from bus.connection import QueueDepth
from bus.events import (
    STAGES,
    AlertCleared,
    AlertRaised,
    AnyEvent,
    ControlChanged,
    JobCompleted,
    JobDeleted,
    ServiceDown,
    ServiceUp,
    WorkerOffline,
    WorkerOnline,
    encode,
)
from bus.ids import new_id
from bus.registry import WorkerState
from bus.subjects import event_subject
from tests.unit.appliance import facts

NOW = facts.START + timedelta(seconds=30)


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.row_factory = sqlite3.Row
    connection.executescript(SCHEMA)
    yield connection
    connection.close()


def project(db: sqlite3.Connection, *events: AnyEvent, shift: timedelta = timedelta()) -> None:
    projection = Projection(db)
    moved = [replace(event, ts=event.ts + shift) for event in events]
    start = projection.cursor + 1
    projection.apply([StoredFact(n, event_subject(e), encode(e)) for n, e in enumerate(moved, start)])


def completed(job: str) -> list[AnyEvent]:
    return [
        facts.created(job),
        *(facts.done(job, stage) for stage in ("download", "transcribe", "moments")),
        facts.planned(job, 1),
        *(facts.done(job, stage, 1) for stage in ("faces", "crop", "cut")),
        JobCompleted(job=job, clips_ready=1, clips_failed=0, seconds=9.0, ts=facts.at(10)),
    ]


def test_jobs_by_state_with_lists_that_name_them(db: sqlite3.Connection) -> None:
    done, failed, waiting, removed = (new_id() for _ in range(4))
    project(db, *completed(done), facts.created(failed), facts.job_failed(failed), facts.created(waiting))
    project(db, facts.created(removed), JobDeleted(job=removed, by="x", ts=facts.at(20)))
    found = jobs(db, NOW)
    assert found.states == {"completed": 1, "failed": 1, "queued": 1, "deleted": 1}
    assert [row.job for row in found.open] == [waiting]
    assert [row.job for row in found.newest] == sorted((done, failed, waiting), reverse=True)
    assert [(row.job, row.error, row.error_code) for row in found.failed] == [(failed, "no", "rejected")]


def test_clips_of_open_jobs_and_the_newest_ready_ones(db: sqlite3.Connection) -> None:
    done, working, removed = (new_id() for _ in range(3))
    project(db, *completed(done), *completed(removed), JobDeleted(job=removed, by="x", ts=facts.at(20)))
    project(
        db,
        *completed(working)[:5],
        facts.planned(working, 2),
        facts.started(working, "faces", 2),
    )
    found = clips(db, NOW)
    assert found.in_work == {"planned": 1, "running": 1}
    assert found.made == 2
    assert [(row.job, row.clip, row.name) for row in found.newest] == [(done, 1, "talk.mp4")]


def test_analytics_by_hour_and_day(db: sqlite3.Connection) -> None:
    project(db, *completed(new_id()), *completed(new_id()))
    project(db, *completed(new_id()), shift=timedelta(hours=-3))
    project(db, *completed(new_id()), shift=timedelta(days=-2))
    project(db, *completed(new_id()), shift=timedelta(days=-DAYS))
    found = analytics(db, NOW)
    assert [(hour.start, hour.jobs) for hour in found.hours] == [("2025-12-31T21", 1), ("2026-01-01T00", 2)]
    assert [(day.start, day.jobs) for day in found.days] == [("2025-12-30", 1), ("2025-12-31", 1), ("2026-01-01", 2)]
    hour = found.hours[-1]
    assert (hour.completed, hour.minutes_in, hour.clips_ready) == (2, 2.0, 2)
    assert hour.minutes_out == pytest.approx(40 / 60, abs=0.001)
    assert (hour.first_clip_mean_s, hour.first_clip_max_s) == (3.0, 3.0)
    assert hour.stages["transcribe"].real_time_factor == pytest.approx(2.0 / 60.0, abs=0.0001)
    assert hour.stages["cut"].real_time_factor == 0.1, "of the clip's 20 s"
    assert today(db, NOW) == replace(found.days[-1], stages={})
    assert today(db, NOW + timedelta(days=1)) is None


def test_an_hour_with_nothing_but_a_retry_is_shown(db: sqlite3.Connection) -> None:
    job = new_id()
    project(db, facts.created(job), shift=timedelta(hours=-2))
    project(db, facts.retrying(job, "download", 1))
    found = analytics(db, NOW).hours
    assert [(hour.start, hour.jobs) for hour in found] == [("2025-12-31T22", 1), ("2026-01-01T00", 0)]
    assert found[-1].stages["download"].retried == 1
    assert found[-1].stages["download"].real_time_factor is None
    assert found[-1].first_clip_mean_s is None


def test_analytics_end_where_they_say(db: sqlite3.Connection) -> None:
    project(db, *completed(new_id()), shift=timedelta(hours=1 - HOURS))
    project(db, *completed(new_id()), shift=timedelta(hours=-HOURS))
    assert [hour.jobs for hour in analytics(db, NOW).hours] == [1]


def test_alerts_the_most_severe_first(db: sqlite3.Connection) -> None:
    project(
        db,
        AlertRaised(alert="a", severity="info", message="a", ts=facts.at(1)),
        AlertRaised(alert="b", severity="warning", message="b", ts=facts.at(3), value=91.0, threshold=90.0),
        AlertRaised(alert="c", severity="critical", message="c", ts=facts.at(4)),
        AlertRaised(alert="d", severity="warning", message="d", ts=facts.at(2)),
        AlertRaised(alert="e", severity="critical", message="e", ts=facts.at(1)),
        AlertCleared(alert="e", message="over", ts=facts.at(5)),
    )
    found = alerts(db, NOW)
    assert [row.alert for row in found.raised] == ["c", "d", "b", "a"]
    assert found.raised[2].value == 91.0
    assert found.severities == {"critical": 1, "info": 1, "warning": 2}
    assert [(row.alert, row.message) for row in found.cleared] == [("e", "over")]


def test_services_the_ones_that_are_down_first(db: sqlite3.Connection) -> None:
    project(db, ServiceUp(service="bus", pid=1), ServiceDown(service="monitor", reason="killed", restarts=2))
    found = services(db, NOW)
    assert (found.up, found.down) == (1, 1)
    assert [(row.service, row.restarts) for row in found.services] == [("monitor", 2), ("bus", 0)]


def test_event_flow_counts_by_type_and_minute(db: sqlite3.Connection) -> None:
    now = facts.START + timedelta(minutes=59, seconds=30)
    for minute, count in ((0, 4), (52, 3), (55, 2), (59, 1)):
        project(db, *(facts.created(new_id()) for _ in range(count)), shift=timedelta(minutes=minute))
    project(db, facts.job_failed(new_id()), shift=timedelta(minutes=58))
    found = event_flow(db, now)
    assert {kind: (f.last_minute, f.last_5_minutes, f.last_hour) for kind, f in found.types.items()} == {
        "job:created": (1, 3, 10),
        "job:failed": (1, 1, 1),
    }
    assert [(m.start[-2:], m.count) for m in found.minutes] == [
        ("00", 4),
        ("52", 3),
        ("55", 2),
        ("58", 1),
        ("59", 1),
    ]
    assert [row.seq for row in found.recent] == list(range(11, 0, -1))
    assert event_flow(db, now + timedelta(hours=2)).types == {}


def test_queues_add_up_and_carry_their_rates(db: sqlite3.Connection) -> None:
    project(db, *completed(new_id()), *completed(new_id()))
    rates = stage_rates(db, NOW)
    assert rates["cut"] == pytest.approx(2 / RATE_MINUTES, abs=0.001)
    assert stage_rates(db, NOW + timedelta(minutes=RATE_MINUTES + 1))["cut"] == 0.0
    depths = {stage: QueueDepth(0, 0, 0, None) for stage in STAGES}
    empty = queue(depths, {}, [])
    assert (empty.pending, empty.in_flight, empty.oldest_s) == (0, 0, None)
    depths |= {"cut": QueueDepth(5, 2, 1, 40.0), "crop": QueueDepth(1, 0, 0, 90.0)}
    project(
        db,
        ControlChanged(target="cut", holder="operator", mode="pause", by="anna", reason="new card", ts=facts.at(5)),
        ControlChanged(target="cut", holder="alert-gpu", mode="drain", by="monitor", reason="hot", ts=facts.at(6)),
        ControlChanged(target="intake", holder="operator", mode="pause", by="anna", reason="", until=facts.at(29)),
        ControlChanged(target="crop", holder="operator", mode="pause", by="anna", reason="", ts=facts.at(7)),
        ControlChanged(target="crop", holder="operator", mode="run", by="anna", reason="", ts=facts.at(8)),
        ControlChanged(target="cut", holder="operator", mode="pause", by="anna", reason="said again", ts=facts.at(9)),
    )
    found = queue(depths, rates, holds(db, NOW))
    assert (found.pending, found.in_flight, found.oldest_s) == (6, 2, 90.0)
    assert found.stages["cut"].done_per_min == rates["cut"]
    assert [(row.target, row.holder, row.since, row.reason) for row in found.holds] == [
        ("cut", "operator", facts.at(5).isoformat(), "said again"),
        ("cut", "alert-gpu", facts.at(6).isoformat(), "hot"),
    ]
    assert (found.stages["cut"].mode, found.stages["crop"].mode, found.intake) == ("drain", "run", "run")
    held = dashboard.stored_part(db, facts.at(28))
    assert dashboard.dashboard(held, found, None).intake == "pause"


def state(stage: str, **changes: object) -> WorkerState:
    fields: dict[str, object] = {"worker": new_id(), "stage": stage, "pid": 1, "host": "h", "started_at": NOW}
    return WorkerState(**{**fields, **changes})  # type: ignore[arg-type]


WANTED: dict[str, int] = dict.fromkeys(STAGES, 1)
MOST: dict[str, int] = dict.fromkeys(STAGES, 2)
STALL_S: dict[str, float] = dict.fromkeys(STAGES, 120.0)


def test_a_worker_that_reports_but_stands_still_is_stuck() -> None:
    busy = state("cut", job="j", clip=1, progress_at=NOW - timedelta(seconds=5))
    frozen = state("cut", job="j", clip=2, progress_at=NOW - timedelta(seconds=121))
    idle = state("download", progress_at=NOW - timedelta(hours=1))
    found = workers([frozen, busy, idle], [], NOW, wanted=WANTED, most=MOST, stall_s=STALL_S)
    assert {worker.worker: worker.state for worker in found.workers} == {
        busy.worker: "working",
        frozen.worker: "stuck",
        idle.worker: "idle",
    }
    assert found.workers[0].stage == "download"
    assert (found.online, found.working, found.stuck) == (3, 1, 1)
    assert found.stages["cut"].online == 2
    assert found.stages["faces"].online == 0


def test_workers_that_went(db: sqlite3.Connection) -> None:
    first, second = new_id(), new_id()
    for n, worker in enumerate((first, second)):
        project(
            db,
            WorkerOnline(worker=worker, stage="cut", pid=1, host="h", ts=facts.at(n)),
            WorkerOffline(worker=worker, stage="cut", reason="killed", ts=facts.at(n + 10)),
        )
    assert [row.worker for row in gone(db)] == [second, first]


def test_the_dashboard_says_why_the_box_is_not_well(db: sqlite3.Connection) -> None:
    all_there = workers([state(stage) for stage in STAGES], [], NOW, wanted=WANTED, most=MOST, stall_s=STALL_S)
    depths = queue({stage: QueueDepth(0, 0, 0, None) for stage in STAGES}, {}, [])
    well = dashboard.dashboard(dashboard.stored_part(db, NOW), depths, all_there)
    assert (well.verdict, well.reasons) == ("ok", [])

    project(db, ServiceDown(service="cache", reason="killed", restarts=1))
    project(db, AlertRaised(alert="disk", severity="critical", message="the disk is full"))
    project(db, AlertRaised(alert="load", severity="warning", message="much to do"))
    stuck = state("cut", job="j", progress_at=facts.START - timedelta(hours=1))
    fewer = workers([stuck], [], NOW, wanted=WANTED, most=MOST, stall_s=STALL_S)
    ill = dashboard.dashboard(dashboard.stored_part(db, NOW), depths, fewer)
    assert ill.verdict == "degraded"
    assert ill.reasons[:2] == ["the disk is full", "cache is down: killed"]
    assert "0 of at least 1 faces workers report" in ill.reasons
    assert "1 cut workers do not get on with their work" in ill.reasons
    assert ill.alerts == {"critical": 1, "warning": 1}

    deaf = dashboard.dashboard(dashboard.stored_part(db, NOW), None, None)
    assert deaf.reasons[-1] == "the event bus does not answer"
    assert deaf.queue is None
