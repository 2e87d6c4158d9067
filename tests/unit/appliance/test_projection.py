"""Facts into rows: exactly once, replayable, and deaf to what arrives too late."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import StoreDamaged
from appliance.sqlite import sqlite3
from appliance.store.database import open_reader, open_writer, wal_is_safe
from appliance.store.projection import Projection, StoredFact
from appliance.store.queries import Store, dump
from appliance.store.schema import PROJECTED
from appliance.watch.known import job_of_content, known_files
from bus.events import (
    CLIP_STAGES,
    JOB_STAGES,
    AnyEvent,
    FileRefused,
    FilesPinned,
    FileUploaded,
    JobCancelled,
    JobCompleted,
    JobDeleted,
    JobRetried,
    ServiceDown,
    ServiceUp,
    encode,
)
from bus.ids import new_id
from bus.subjects import event_subject
from tests.unit.appliance import facts

JOB = new_id()


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = open_writer(tmp_path / "appliance.db")
    yield connection
    connection.close()


def stored(events: list[AnyEvent], start: int = 1) -> list[StoredFact]:
    return [StoredFact(n, event_subject(e), encode(e)) for n, e in enumerate(events, start)]


def whole_life(job: str = JOB) -> list[AnyEvent]:
    events: list[AnyEvent] = [facts.created(job)]
    for stage in JOB_STAGES:
        events += [facts.started(job, stage), facts.done(job, stage, clips=2)]
    events += [facts.planned(job, 1), facts.planned(job, 2)]
    for stage in CLIP_STAGES:
        events += [facts.started(job, stage, 1), facts.done(job, stage, 1)]
    events += [facts.started(job, "faces", 2), facts.retrying(job, "faces", 1, clip=2)]
    events += [facts.started(job, "faces", 2, attempt=2), facts.clip_failed(job, 2, "faces")]
    return [*events, JobCompleted(job=job, clips_ready=1, clips_failed=1, seconds=9.0)]


def test_a_whole_life(db: sqlite3.Connection, tmp_path: Path) -> None:
    projection = Projection(db)
    applied = projection.apply(stored(whole_life()))
    assert len(applied) == len(whole_life())
    with Store(tmp_path / "appliance.db") as store:
        job = store.job(JOB)
        assert job is not None
        assert (job.state, job.stage, job.clips_planned, job.clips_ready, job.clips_failed) == (
            "completed", None, 2, 1, 1,
        )  # fmt: skip
        assert (job.duration_s, job.language, job.rough) == (60.0, "en", 1)
        first, second = store.clips(JOB)
        assert (first.state, first.path, first.last_done) == ("ready", "clip-01.mp4", "cut")
        assert (second.state, second.error, second.last_done) == ("failed", "no", None)
        outcomes = [(a.stage, a.clip, a.attempt, a.outcome) for a in store.attempts(JOB)]
        assert ("faces", 2, 1, "retrying") in outcomes
        assert ("faces", 2, 2, "failed") in outcomes
        assert ("cut", 1, 1, "done") in outcomes
        assert store.cursor() == len(whole_life())


def test_a_fact_is_applied_once_however_often_it_comes(db: sqlite3.Connection) -> None:
    projection = Projection(db)
    batch = stored(whole_life())
    projection.apply(batch)
    before = dump(db, (*PROJECTED, "events", "meta"))
    assert projection.apply(batch) == []
    assert projection.apply(batch[3:5]) == []
    assert dump(db, (*PROJECTED, "events", "meta")) == before


def test_rows_and_cursor_are_one_commit(db: sqlite3.Connection) -> None:
    projection = Projection(db)
    good = stored([facts.created(JOB)])
    broken = StoredFact(2, "evt.x", None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        projection.apply([*good, broken])
    assert projection.cursor == 0
    assert db.execute("SELECT count(*) FROM jobs").fetchone() == (0,)
    projection.apply(good)
    assert projection.cursor == 1


def test_results_that_arrive_after_a_cancel_change_nothing(db: sqlite3.Connection) -> None:
    projection = Projection(db)
    life = whole_life()[:-7]
    projection.apply(stored([*life, JobCancelled(job=JOB, by="me", reason="enough")]))
    late = [facts.done(JOB, "cut", 2), facts.clip_failed(JOB, 2), facts.started(JOB, "cut", 2)]
    clips = db.execute("SELECT clip, state FROM clips ORDER BY clip").fetchall()
    projection.apply(stored(late, start=100))
    assert db.execute("SELECT state, error FROM jobs").fetchone() == ("cancelled", "enough")
    after = db.execute("SELECT clip, state FROM clips WHERE clip = 1").fetchall()
    assert after == clips[:1]
    assert db.execute("SELECT count(*) FROM clips WHERE state IN ('ready', 'failed') AND clip = 2").fetchone() == (0,)


def test_a_retry_opens_the_job_and_its_clip_again(db: sqlite3.Connection) -> None:
    projection = Projection(db)
    events = [
        *whole_life(),
        JobRetried(job=JOB, by="me", stage="faces"),
        JobRetried(job=JOB, clip=2, by="m", stage="faces"),
    ]
    projection.apply(stored(events))
    assert db.execute("SELECT state, ended_at, clips_failed FROM jobs").fetchone() == ("clipping", None, 0)
    assert db.execute("SELECT state, stage, error FROM clips WHERE clip = 2").fetchone() == ("planned", "faces", None)


def test_events_cannot_be_changed_or_removed(db: sqlite3.Connection) -> None:
    Projection(db).apply(stored([facts.created(JOB)]))
    for statement in ("UPDATE events SET type = 'x'", "DELETE FROM events"):
        with pytest.raises(sqlite3.IntegrityError, match="facts"):
            db.execute(statement)


def test_an_unknown_event_is_kept_and_replayed_over(db: sqlite3.Connection) -> None:
    projection = Projection(db)
    odd = StoredFact(2, "evt.job.exploded.x", b'{"type":"job:exploded","id":"01"}')
    projection.apply([*stored([facts.created(JOB)]), odd])
    assert projection.undecodable == 1
    assert db.execute("SELECT payload FROM events WHERE seq = 2").fetchone() == (odd.data,)
    assert projection.replay() == 2


def test_renumbering_keeps_the_facts_and_the_rows(db: sqlite3.Connection) -> None:
    projection = Projection(db)
    life = whole_life()
    projection.apply(stored(life))
    rows = db.execute("SELECT job, state, clips_ready FROM jobs").fetchall()
    projection.renumber_begin()
    projection.renumber_add(stored(life, start=501))
    projection.renumber_end("another epoch")
    assert db.execute("SELECT job, state, clips_ready FROM jobs").fetchall() == rows
    assert db.execute("SELECT min(seq), count(*) FROM events").fetchone() == (501, len(life))
    assert projection.meta("epoch") == "another epoch"
    with pytest.raises(sqlite3.IntegrityError):
        db.execute("DELETE FROM events")


def test_a_damaged_file_is_named_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "appliance.db"
    path.write_bytes(b"not a database" * 500)
    with pytest.raises(StoreDamaged, match="rebuild --from stream"):
        open_writer(path)


def test_readers_cannot_write(db: sqlite3.Connection, tmp_path: Path) -> None:
    reader = open_reader(tmp_path / "appliance.db")
    with pytest.raises(sqlite3.OperationalError):
        reader.execute("INSERT INTO meta VALUES ('a', 'b')")
    reader.close()


@pytest.mark.parametrize(
    ("version", "safe"),
    [((3, 40, 1), False), ((3, 44, 5), False), ((3, 44, 6), True), ((3, 45, 0), False), ((3, 50, 7), True),
     ((3, 51, 2), False), ((3, 51, 3), True), ((3, 52, 0), True)],
)  # fmt: skip
def test_wal_needs_the_fix(version: tuple[int, int, int], safe: bool) -> None:
    assert wal_is_safe(version) is safe


def _pool() -> list[AnyEvent]:
    jobs = [new_id(), new_id()]
    pool: list[AnyEvent] = []
    for job in jobs:
        pool += whole_life(job)
        pool += [JobCancelled(job=job, by="x"), JobDeleted(job=job, by="x"), facts.job_failed(job)]
        pool += [JobRetried(job=job, by="x", stage="download"), JobRetried(job=job, clip=1, by="x", stage="cut")]
    return [*pool, ServiceUp(service="bus", pid=1), ServiceDown(service="bus", reason="killed", restarts=1)]


POOL = _pool()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(order=st.lists(st.integers(0, len(POOL) - 1), unique=True, max_size=len(POOL)), cut=st.integers(0, 60))
def test_any_order_is_survived_and_replays_to_the_same_bytes(order: list[int], cut: int) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    from appliance.store.schema import SCHEMA

    connection.executescript(SCHEMA)
    projection = Projection(connection)
    batch = stored([POOL[i] for i in order])
    projection.apply(batch[:cut])
    projection.apply(batch[cut:])
    live = dump(connection, PROJECTED)
    projection.replay()
    assert dump(connection, PROJECTED) == live
    planned = (
        "SELECT count(*) FROM jobs WHERE clips_ready + clips_failed > (SELECT count(*) FROM clips WHERE job = jobs.job)"
    )
    assert connection.execute(planned).fetchone() == (0,)
    connection.close()


def test_files_are_rows_and_no_part_of_their_jobs_history(db: sqlite3.Connection) -> None:
    projection = Projection(db)
    came = FileUploaded(
        job=JOB, file="f", path="input/a.mp4", name="a.mp4", size_bytes=5, sha256="0" * 64, via="watch", fingerprint="x"
    )
    refused = FileRefused(
        file="g", path="input/b", name="b", size_bytes=0, fingerprint="y", code="empty", reason="it is empty"
    )
    copy = FileRefused(
        file="h", path="input/c", name="c", size_bytes=5, fingerprint="z", code="duplicate", reason="", same_as=JOB
    )
    projection.apply(stored([came, facts.created(JOB), facts.started(JOB, "download"), refused, copy]))
    projection.apply(stored([FilesPinned(job=JOB, by="me")], start=6))
    rows = db.execute("SELECT file, state, via, fingerprint, job, code FROM files ORDER BY seq").fetchall()
    assert rows == [
        ("f", "taken", "watch", "x", JOB, None),
        ("g", "refused", "watch", "y", None, "empty"),
        ("h", "refused", "watch", "z", JOB, "duplicate"),
    ]
    assert db.execute("SELECT last_seq FROM jobs").fetchone() == (3,), "else nothing more could be committed to it"
    known = known_files(db, ["x", "y", "w"])
    assert {key: (found.state, found.code) for key, found in known.items()} == {
        "x": ("taken", None),
        "y": ("refused", "empty"),
    }
    assert job_of_content(db, "0" * 64) == JOB
    projection.apply(stored([JobDeleted(job=JOB, by="me")], start=7))
    assert job_of_content(db, "0" * 64) is None
