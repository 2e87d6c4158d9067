"""Pins and deletions in the read model, and what a retry makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from appliance.errors import IntakeRefused
from appliance.intake import items_to_retry
from appliance.sqlite import sqlite3
from appliance.store.database import open_writer
from appliance.store.projection import Projection, StoredFact
from bus.events import (
    JOB_STAGES,
    AnyEvent,
    Event,
    FileDeleted,
    FilesPinned,
    FilesUnpinned,
    JobCompleted,
    JobRetried,
    encode,
)
from bus.ids import new_id
from bus.subjects import event_subject
from stages.errors import Transient
from stages.folder import JobFolder
from tests.unit.appliance import facts
from tests.unit.storage.kit import opened, project


def deleted(job: str, kind: str) -> FileDeleted:
    return FileDeleted(job=job, path="p", kind=kind, size_bytes=1, reason="r", ts=facts.at(20))  # type: ignore[arg-type]


def failed_after(job: str, *stages: str) -> list[AnyEvent]:
    life: list[AnyEvent] = [facts.created(job)]
    for stage in stages:
        life += [facts.started(job, stage), facts.done(job, stage)]  # type: ignore[arg-type]
    return [*life, facts.job_failed(job, "moments")]


def row(db: sqlite3.Connection, job: str) -> sqlite3.Row:
    found = db.execute("SELECT * FROM jobs WHERE job = ?", (job,)).fetchone()
    assert isinstance(found, sqlite3.Row)
    return found


def test_pins_and_deletions_are_not_of_the_jobs_history() -> None:
    db, job = opened(), new_id()
    project(db, facts.created(job))
    before = row(db, job)["last_seq"]
    project(db, FilesPinned(job=job, by="me"), deleted(job, "source"))
    assert row(db, job)["last_seq"] == before, "or the job could never be completed: its guard would be wrong"


def test_a_pin_stands_until_it_is_taken_away() -> None:
    db, job = opened(), new_id()
    project(db, facts.created(job), FilesPinned(job=job, by="me"))
    assert row(db, job)["pinned"] == 1
    project(db, facts.job_failed(job))
    assert row(db, job)["pinned"] == 1
    project(db, FilesUnpinned(job=job, by="me"))
    assert row(db, job)["pinned"] == 0


@pytest.mark.parametrize("kind", ["source", "scratch", "clips"])
def test_what_was_removed_of_an_ended_job_stands_in_its_row(kind: str) -> None:
    db, job = opened(), new_id()
    project(db, *failed_after(job, "download"), deleted(job, kind))
    assert row(db, job)[f"{kind}_removed_at"] == facts.at(20).isoformat()


def test_open_and_pinned_jobs_keep_what_they_have() -> None:
    db, job, pinned = opened(), new_id(), new_id()
    project(db, facts.created(job), deleted(job, "source"))
    project(db, *failed_after(pinned), FilesPinned(job=pinned, by="me"), deleted(pinned, "source"))
    assert row(db, job)["source_removed_at"] is None
    assert row(db, pinned)["source_removed_at"] is None


def test_what_is_made_again_is_there_again() -> None:
    db, job = opened(), new_id()
    project(db, *failed_after(job, "download", "transcribe"), deleted(job, "source"), deleted(job, "scratch"))
    project(db, JobRetried(job=job, by="me", stage="download"))
    project(db, facts.started(job, "download"), facts.done(job, "download"))
    assert row(db, job)["source_removed_at"] is None
    assert row(db, job)["scratch_removed_at"] is not None
    project(db, facts.started(job, "transcribe"), facts.done(job, "transcribe"))
    assert row(db, job)["scratch_removed_at"] is None


def retry_of(folder: Path, *life: Event) -> list[str]:
    db = open_writer(folder / "appliance.db")
    Projection(db).apply([StoredFact(n, event_subject(e), encode(e)) for n, e in enumerate(life, 1)])
    db.close()
    assert life[0].job is not None
    return [item.stage for item in items_to_retry(folder / "appliance.db", life[0].job)[0]]


def test_a_retry_begins_where_the_files_still_are(tmp_path: Path) -> None:
    for number, (removed, stage) in enumerate(
        [((), "moments"), (("scratch",), "transcribe"), (("source",), "download"), (("source", "scratch"), "download")]
    ):
        folder, job = tmp_path / str(number), new_id()
        life = failed_after(job, "download", "transcribe")
        assert retry_of(folder, *life, *(deleted(job, kind) for kind in removed)) == [stage]


def test_a_retry_of_a_job_that_was_restored_without_its_video_fetches_it(tmp_path: Path) -> None:
    job = new_id()
    with pytest.raises(Transient, match="A retry of the job fetches it again") as missing:
        JobFolder.of(tmp_path, job).source()
    life: list[Event] = [facts.created_from_url(job), facts.started(job, "download"), facts.done(job, "download")]
    failed = replace(facts.job_failed(job, "transcribe"), code=missing.value.code)
    assert retry_of(tmp_path, *life, facts.started(job, "transcribe"), failed) == ["download"]


def test_clips_whose_source_is_gone_cannot_be_made_again(tmp_path: Path) -> None:
    job = new_id()
    life: list[Event] = [facts.created(job)]
    for stage in JOB_STAGES:
        life += [facts.started(job, stage), facts.done(job, stage)]
    life += [facts.planned(job, 1), facts.clip_failed(job, 1)]
    life += [JobCompleted(job=job, clips_ready=0, clips_failed=1, seconds=1.0, ts=facts.at(7))]
    with pytest.raises(
        IntakeRefused, match=r"retention removed the files of job .* on 2026-01-01: add the video again"
    ):
        retry_of(tmp_path, *life, deleted(job, "source"))
