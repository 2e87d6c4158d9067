"""What a person is told about a job that does not seem to move."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from appliance.control.holds import Hold
from appliance.store.database import open_writer
from appliance.store.projection import Projection
from appliance.store.queries import Store
from appliance.why import Case, Reason, explain
from bus.connection import QueuePlace
from bus.events import AnyEvent, JobCancelled, JobCompleted, JobDeleted
from bus.ids import new_id
from bus.registry import WorkerState
from tests.unit.appliance import facts
from tests.unit.appliance.test_projection import stored

JOB = new_id()
NOW = facts.at(100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def case(folder: Path, events: list[AnyEvent], **changes: Any) -> Case:
    """What the database and the stream say after `events`."""
    connection = open_writer(folder / "appliance.db")
    Projection(connection).apply(stored(events))
    connection.close()
    with Store(folder / "appliance.db") as store:
        job, clips = store.job(JOB), store.clips(JOB)
    assert job is not None
    last = {event.clip: event for event in events}
    return replace(Case(job=job, clips=clips, attempts_most=3, running=True, last=last), **changes)


def worker(stage: Any = "download", **changes: Any) -> WorkerState:
    plain = WorkerState(worker=facts.WORKER, stage=stage, pid=1, host="h", started_at=facts.at(0))
    return replace(plain, **changes)


def only(case: Case) -> Reason:
    (reason,) = explain(case, NOW)
    return reason


def test_a_place_in_the_queue(folder: Path) -> None:
    crew = [worker(), worker(worker="w2", job="other")]
    known = case(folder, [facts.created(JOB)], workers=crew, places={None: QueuePlace(5, delivered=False)})
    found = only(known)
    assert (found.state, found.stage) == ("waiting", "download")
    assert found.why == "waits for download: 5 tasks are before it; 1 of 2 workers are busy"
    assert "workers.download.max" in found.do
    found = only(replace(known, places={None: QueuePlace(1, delivered=False)}))
    assert (found.why.count("one task is before it"), found.do) == (1, "")
    assert only(replace(known, places={None: QueuePlace(0, delivered=True)})).why.endswith("just been given it")
    lost = only(replace(known, places={None: None}))
    assert (lost.state, "restart the box" in lost.do) == ("stuck", True)


def test_a_hold_names_who_why_and_the_way_out(folder: Path) -> None:
    hold = Hold(
        target="download",
        holder="operator",
        mode="pause",
        by="anna",
        reason="moving disks",
        said_at=NOW,
        until=None,
        seq=1,
    )
    known = case(folder, [facts.created(JOB)], holds={"download": [hold]}, workers=[worker()])
    found = only(known)
    assert (found.state, found.do) == ("held", "`appliance resume download` lets it go on")
    assert "anna" in found.why
    assert "moving disks" in found.why
    found = only(replace(known, holds={"download": [replace(hold, holder="storage", by="storage")]}))
    assert found.do == "it goes on by itself when the cause is gone"
    assert only(replace(known, holds={"cut": [hold]}, places={None: QueuePlace(0, delivered=False)})).state == "waiting"


def test_nobody_there_to_do_it(folder: Path) -> None:
    found = only(case(folder, [facts.created(JOB)], workers=[worker("cut")]))
    assert (found.state, found.why) == ("stuck", "no download worker reports")


def test_the_next_try(folder: Path) -> None:
    life = [facts.created(JOB), facts.started(JOB, "download"), facts.retrying(JOB, "download", 1)]
    known = case(folder, life, workers=[worker()], places={None: QueuePlace(0, delivered=False)})
    (found,) = explain(known, facts.at(4))
    assert found.state == "retrying"
    assert found.why == "attempt 1 of 3 of download failed: it broke; the next begins in 5 s"
    assert only(known).state == "waiting", "its time has come"


def test_at_work_moving_standing_and_abandoned(folder: Path) -> None:
    life = [facts.created(JOB), facts.started(JOB, "download", attempt=2)]
    busy = worker(job=JOB, progress=0.42, progress_at=NOW - timedelta(seconds=1))
    known = case(folder, life, workers=[busy])
    assert only(known).why == "download is at work on it since 00:00:01 UTC, 42% done (attempt 2 of 3)"
    slow = only(replace(known, workers=[replace(busy, progress_at=NOW - timedelta(seconds=90))]))
    assert slow.why.endswith("it has not moved for 90 s")
    assert "stall_timeout_s" in slow.do
    for crew in ([], [replace(busy, job=None)], [replace(busy, clip=3)]):
        assert "its worker is gone" in only(replace(known, workers=crew)).why


def test_each_clip_has_its_own_reason(folder: Path) -> None:
    life: list[AnyEvent] = [facts.created(JOB), facts.done(JOB, "moments", clips=4)]
    life += [facts.planned(JOB, clip) for clip in (1, 2, 3, 4)]
    life += [facts.done(JOB, "cut", 1), facts.clip_failed(JOB, 2), facts.started(JOB, "faces", 3)]
    known = case(
        folder,
        life,
        workers=[worker("faces", job=JOB, clip=3)],
        places={4: QueuePlace(0, delivered=False)},
    )
    found = explain(known, NOW)
    assert [(reason.clip, reason.state) for reason in found] == [
        (None, "working"),
        (3, "working"),
        (4, "waiting"),
        (2, "failed"),
    ]
    assert found[0].why == "its clips are being made: 1 of 4 clips are ready"
    assert found[3].why == "no (crashed)"


def test_all_clips_made_and_nobody_says_so(folder: Path) -> None:
    life = [facts.created(JOB), facts.done(JOB, "moments"), facts.planned(JOB, 1), facts.done(JOB, "cut", 1)]
    found = only(case(folder, life, behind=7))
    assert (found.state, "7 events behind" in found.why) == ("waiting", True)


def test_the_end(folder: Path) -> None:
    failed = only(case(folder, [facts.created(JOB), facts.job_failed(JOB)]))
    assert (failed.state, failed.why) == ("failed", "no (rejected)")
    assert f"appliance jobs retry {JOB}" in failed.do


def test_completed_cancelled_deleted(folder: Path) -> None:
    life = [facts.created(JOB), facts.done(JOB, "moments", clips=1), facts.planned(JOB, 1), facts.done(JOB, "cut", 1)]
    done = only(case(folder, [*life, JobCompleted(job=JOB, clips_ready=1, clips_failed=0, seconds=1.0)]))
    assert (done.why, done.do) == ("it is completed: 1 of 1 clips are ready", "")


def test_cancelled_and_deleted(folder: Path) -> None:
    gone = only(case(folder, [facts.created(JOB), JobCancelled(job=JOB, by="anna", reason="wrong file")]))
    assert gone.why == "it was cancelled by anna: wrong file"
    connection = open_writer(folder / "appliance.db")
    Projection(connection).apply(stored([JobDeleted(job=JOB, by="anna")], start=3))
    connection.close()
    with Store(folder / "appliance.db") as store:
        job = store.job(JOB)
    assert job is not None
    assert "add the video again" in only(Case(job=job, clips=[], attempts_most=3, running=False)).do


def test_a_box_that_is_down_says_so(folder: Path) -> None:
    found = only(replace(case(folder, [facts.created(JOB)]), running=False, last={}))
    assert (found.why, found.do) == (
        "the box is down; it goes on with download at the next start",
        "start it with `appliance up`",
    )
