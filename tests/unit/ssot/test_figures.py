"""The figures: sums of facts by hour, stage and minute, the same after a replay and after an upgrade."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from appliance.errors import StoreDamaged
from appliance.sqlite import sqlite3
from appliance.store.database import open_writer
from appliance.store.figures import KEEP_MINUTES
from appliance.store.projection import Projection, StoredFact
from appliance.store.queries import dump
from appliance.store.schema import PROJECTED, SCHEMA, SCHEMA_VERSION
from bus.events import AnyEvent, JobCancelled, JobCompleted, JobRetried, encode
from bus.ids import new_id
from bus.subjects import event_subject
from tests.unit.appliance import facts

JOB = new_id()
ONE_HOUR = "2026-01-01T00"


@pytest.fixture
def projection(tmp_path: Path) -> Iterator[Projection]:
    connection = open_writer(tmp_path / "appliance.db")
    yield Projection(connection)
    connection.close()


def project(projection: Projection, *events: AnyEvent) -> None:
    start = projection.cursor + 1
    projection.apply([StoredFact(n, event_subject(e), encode(e)) for n, e in enumerate(events, start)])


def rows(projection: Projection, query: str) -> list[tuple[object, ...]]:
    return projection.connection.execute(query).fetchall()


def life(job: str = JOB) -> list[AnyEvent]:
    """One clip ready 3 s after the job's creation, one failed; faces of the second was tried twice."""
    return [
        facts.created(job),
        *(facts.done(job, stage, clips=2) for stage in ("download", "transcribe", "moments")),
        facts.planned(job, 1),
        facts.planned(job, 2),
        *(facts.done(job, stage, 1) for stage in ("faces", "crop", "cut")),
        facts.retrying(job, "faces", 1, clip=2),
        facts.clip_failed(job, 2, "faces"),
        JobCompleted(job=job, clips_ready=1, clips_failed=1, seconds=9.0, ts=facts.at(10)),
    ]


def test_an_hour_sums_what_happened_in_it(projection: Projection) -> None:
    project(projection, *life(), *life(new_id()))
    assert rows(projection, "SELECT * FROM hours") == [(ONE_HOUR, 2, 2, 0, 0, 120.0, 2000, 2, 2, 40.0, 2, 6.0, 3.0)]
    assert rows(projection, "SELECT * FROM stage_hours ORDER BY stage") == [
        (ONE_HOUR, "crop", 2, 0, 0, 4.0, 40.0),
        (ONE_HOUR, "cut", 2, 0, 0, 4.0, 40.0),
        (ONE_HOUR, "download", 2, 0, 0, 4.0, 120.0),
        (ONE_HOUR, "faces", 2, 2, 2, 4.0, 40.0),
        (ONE_HOUR, "moments", 2, 0, 0, 4.0, 120.0),
        (ONE_HOUR, "transcribe", 2, 0, 0, 4.0, 120.0),
    ]


def test_what_changes_no_row_adds_nothing(projection: Projection) -> None:
    project(projection, facts.created(JOB), facts.done(JOB, "download"), JobCancelled(job=JOB, by="x", ts=facts.at(5)))
    before = rows(projection, "SELECT * FROM hours")
    project(
        projection,
        facts.created(JOB),
        facts.done(JOB, "transcribe"),
        facts.job_failed(JOB),
        JobCancelled(job=JOB, by="x", ts=facts.at(6)),
        facts.done(new_id(), "download"),
    )
    assert (
        rows(projection, "SELECT * FROM hours")
        == before
        == [(ONE_HOUR, 1, 0, 0, 1, 60.0, 1000, 0, 0, 0.0, 0, 0.0, 0.0)]
    )
    assert rows(projection, "SELECT stage FROM stage_hours") == [("download",)]


def test_a_retried_job_brings_its_video_in_once(projection: Projection) -> None:
    project(
        projection,
        *life(),
        JobRetried(job=JOB, by="x", stage="download", ts=facts.at(11)),
        facts.done(JOB, "download"),
        *(facts.done(JOB, stage, 1) for stage in ("faces", "crop", "cut")),
    )
    assert rows(projection, "SELECT jobs, media_s, clips_ready, first_clips FROM hours") == [(1, 60.0, 1, 1)]


def test_a_job_that_failed_because_of_its_clips_is_no_second_failure_of_the_stage(projection: Projection) -> None:
    failed = replace(facts.job_failed(JOB, "faces"), code="no-clips")
    project(projection, *life()[:6], facts.clip_failed(JOB, 1, "faces"), facts.clip_failed(JOB, 2, "faces"), failed)
    assert rows(projection, "SELECT failed FROM stage_hours WHERE stage = 'faces'") == [(2,)]
    assert rows(projection, "SELECT failed FROM hours") == [(1,)]


def test_minutes_are_bounded_and_follow_the_facts_time(projection: Projection) -> None:
    for minute in range(0, KEEP_MINUTES + 60, 7):
        project(projection, replace(facts.created(new_id()), ts=facts.START + timedelta(minutes=minute)))
    kept = rows(projection, "SELECT min(minute), max(minute), sum(count) FROM event_minutes")
    assert kept[0][1] == (facts.START + timedelta(minutes=KEEP_MINUTES + 58)).isoformat()[:16]
    assert kept[0][0] >= (facts.START + timedelta(minutes=58)).isoformat()[:16]  # type: ignore[operator]
    assert rows(projection, "SELECT count(*) FROM hours") == [(4,)]


@given(order=st.lists(st.sampled_from(range(14)), max_size=60))
def test_totals_are_the_rows_by_state(order: list[int]) -> None:
    jobs = [new_id(), new_id()]
    pool = [*life(jobs[0])[:8], JobCancelled(job=jobs[0], by="x"), *life(jobs[1])[:5]]
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(SCHEMA)
    projection = Projection(connection)
    project(projection, *(replace(pool[n], id=new_id()) for n in order))
    for kind in ("jobs", "clips"):
        counted = rows(projection, f"SELECT state, count FROM totals WHERE kind = '{kind}' AND count <> 0")
        assert counted == rows(projection, f"SELECT state, count(*) FROM {kind} GROUP BY state ORDER BY state")
    connection.close()


def test_replay_gives_the_same_figures(projection: Projection) -> None:
    project(projection, *life(), *life(new_id()))
    live = dump(projection.connection, PROJECTED)
    projection.replay()
    assert dump(projection.connection, PROJECTED) == live


def test_a_database_of_the_first_schema_is_upgraded_from_its_own_facts(tmp_path: Path) -> None:
    path = tmp_path / "appliance.db"
    connection = open_writer(path)
    project(Projection(connection), *life())
    expected = dump(connection, PROJECTED)
    for kind in ("jobs", "clips"):
        connection.execute(f"DROP TRIGGER {kind}_are_counted")
        connection.execute(f"DROP TRIGGER {kind}_are_recounted")
    for table in ("hours", "stage_hours", "event_minutes", "totals"):
        connection.execute(f"DROP TABLE {table}")
    connection.execute("DROP INDEX clips_ready")
    connection.execute("PRAGMA user_version=1")
    connection.close()

    upgraded = open_writer(path)
    assert dump(upgraded, PROJECTED) == expected
    assert upgraded.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    assert upgraded.execute("SELECT value FROM meta WHERE key = 'cursor'").fetchone() == (str(len(life())),)
    with pytest.raises(sqlite3.IntegrityError, match="never removed"):
        upgraded.execute("DELETE FROM events")
    upgraded.close()


def test_a_database_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "appliance.db"
    connection = open_writer(path)
    connection.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(StoreDamaged, match="newer program"):
        open_writer(path)
