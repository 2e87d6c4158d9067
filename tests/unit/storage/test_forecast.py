"""What a job will take: defaults, ratios of this box, and the marks of a volume."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.settings import Stages
from appliance.sqlite import sqlite3
from appliance.storage import forecast as module
from appliance.storage.forecast import ENOUGH_JOBS, Ratios, forecast, learn, quantile
from appliance.storage.measured import JobBytes, prepare, record, source_files, weigh
from appliance.storage.settings import Admission, Retention, contradictions
from appliance.storage.volume import marks, measure, size_text, taken
from appliance.store.projection import Projection
from bus.events import CLIP_STAGES, JOB_STAGES, JobOptions
from bus.ids import new_id
from stages.folder import JobFolder
from tests.unit.appliance import facts
from tests.unit.storage.kit import opened, project

GB = 1_000_000_000


def test_a_forecast_is_source_scratch_and_the_clips_asked_for() -> None:
    stages, ratios = Stages(), Ratios(jobs=9, scratch_share=0.1, clip_bytes_per_s=1000.0)
    asked = forecast(50_000_000, JobOptions(clips=4, max_length_s=30.0), stages, ratios)
    assert (asked.source_bytes, asked.scratch_bytes, asked.clip_bytes) == (50_000_000, 5_000_000, 4 * 30 * 1000)
    assert asked.total_bytes == 50_000_000 + 5_000_000 + 120_000
    assert asked.learned_from == 9
    configured = forecast(50_000_000, JobOptions(), stages, ratios)
    assert configured.clip_bytes == stages.moments.clips * stages.moments.max_length_s * 1000
    assert "50.0 MB, scratch 5.0 MB" in str(asked)


def test_a_url_whose_size_nobody_knows_counts_as_the_median_one() -> None:
    assert forecast(None, JobOptions(), Stages(), Ratios(jobs=0, url_bytes=123)).source_bytes == 123


def completed(db: sqlite3.Connection, source: int, scratch: int, clips: int, *, kind: str = "file") -> str:
    """A completed job of one clip of 20 s, measured."""
    job = new_id()
    created = facts.created(job)
    if kind == "url":
        created = facts.created_from_url(job)
    done = facts.done(job, "download")
    project(db, created, facts.started(job, "download"), facts.resized(done, source))
    for stage in JOB_STAGES[1:]:
        project(db, facts.started(job, stage), facts.done(job, stage))
    project(db, facts.planned(job, 1))
    for clip_stage in CLIP_STAGES:
        project(db, facts.started(job, clip_stage, 1), facts.done(job, clip_stage, 1))
    project(db, facts.completed(job))
    record(db, job, JobBytes(source_bytes=source, scratch_bytes=scratch, clip_bytes=clips))
    return job


def test_a_box_learns_from_its_own_jobs_once_it_has_some() -> None:
    db = opened()
    for n in range(1, ENOUGH_JOBS):
        completed(db, 1000, 10 * n, 2000 * n)
    assert learn(db) == Ratios(jobs=0), "too few"
    completed(db, 1000, 10 * ENOUGH_JOBS, 2000 * ENOUGH_JOBS)
    learned = learn(db)
    assert learned.jobs == ENOUGH_JOBS
    assert learned.scratch_share == 10 * ENOUGH_JOBS / 1000, "the 90th percentile of five is the highest"
    assert learned.clip_bytes_per_s == 2000 * ENOUGH_JOBS / 20.0


def test_only_completed_and_measured_jobs_teach_and_urls_have_their_own_median() -> None:
    db = opened()
    for size in (100, 300, 900):
        completed(db, size, 1, 1, kind="url")
    job = new_id()
    project(db, facts.created(job), facts.job_failed(job))
    record(db, job, JobBytes(source_bytes=10**12))
    assert learn(db) == Ratios(jobs=0, url_bytes=300)


def test_only_the_last_jobs_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LAST_JOBS", ENOUGH_JOBS)
    db = opened()
    for _ in range(ENOUGH_JOBS):
        completed(db, 1000, 900, 100)
    for _ in range(ENOUGH_JOBS):
        completed(db, 1000, 10, 20)
    assert learn(db).scratch_share == 0.01


def test_a_measurement_replaces_the_earlier_one_and_measuring_is_no_projected_table() -> None:
    db = opened()
    job = completed(db, 1, 2, 3)
    record(db, job, JobBytes(source_bytes=7, scratch_bytes=8, clip_bytes=9))
    Projection(db).replay()
    assert tuple(db.execute("SELECT * FROM job_bytes").fetchone()) == (job, 7, 8, 9)
    prepare(db)  # again: harmless


@given(st.lists(st.floats(0, 1e12), min_size=1), st.floats(0.01, 1.0))
def test_a_quantile_is_one_of_the_values_and_covers_its_share(values: list[float], share: float) -> None:
    found = quantile(values, share)
    assert found in values
    assert sum(1 for value in values if value <= found) >= math.floor(share * len(values))


def test_no_values_have_no_quantile() -> None:
    with pytest.raises(ValueError, match="no values"):
        quantile([])


# -- the volume -------------------------------------------------------------------------------------------------------


def test_a_small_volume_shrinks_all_marks_alike() -> None:
    large = marks(Admission(), Retention(), 1000 * GB)
    assert (large.reserve_bytes, large.floor_bytes, large.resume_bytes) == (5 * GB, 2 * GB, 2_500_000_000)
    assert large.target_bytes == 10 * GB
    small = marks(Admission(), Retention(), 20 * GB)
    assert small.reserve_bytes == 1 * GB, "5 % of 20 GB"
    assert (small.floor_bytes, small.target_bytes) == (400_000_000, 2 * GB)
    assert small.full_bytes < small.floor_bytes < small.reserve_bytes
    exact = marks(Admission(max_percent=100.0), Retention(free_bytes=0), 20 * GB)
    assert (exact.reserve_bytes, exact.target_bytes) == (5 * GB, 5 * GB), "never less than the reserve"
    assert marks(Admission(reserve_bytes=0, floor_bytes=0, full_bytes=0), Retention(), GB).reserve_bytes == 0


def test_contradictions_name_both_keys() -> None:
    assert contradictions(Admission()) == []
    (over,) = contradictions(Admission(reserve_bytes=1 * GB))
    assert over[0] == "admission.floor_bytes"
    assert "admission.reserve_bytes" in over[1]
    (full,) = contradictions(Admission(full_bytes=3 * GB))
    assert full[0] == "admission.full_bytes"


def test_a_folder_that_is_not_there_yet_lies_on_the_volume_above_it(tmp_path: Path) -> None:
    assert measure(tmp_path / "not" / "yet").total_bytes == measure(tmp_path).total_bytes


def test_what_files_take_is_counted_in_blocks_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "file").write_bytes(b"x" * 100_000)
    whole = taken(tmp_path)
    assert whole >= 100_000
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.write_bytes(b"x" * 1_000_000)
    (tmp_path / "link").symlink_to(outside)
    assert taken(tmp_path) < whole + 100_000
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(10**9)
    assert taken(tmp_path / "sparse") < 10**6
    assert taken(tmp_path / "nothing") == 0


def test_a_jobs_files_are_weighed_by_what_becomes_of_them(tmp_path: Path) -> None:
    folder = JobFolder.of(tmp_path, "j")
    (folder.root / "clips" / "1").mkdir(parents=True)
    folder.output.mkdir(parents=True)
    (folder.root / "source.mp4").write_bytes(b"s" * 500_000)
    (folder.root / ".source.download").write_bytes(b"s" * 300_000)
    (folder.root / "clips" / "1" / "faces.json").write_bytes(b"f" * 100_000)
    (folder.output / "clip-01.mp4").write_bytes(b"c" * 200_000)
    found = weigh(tmp_path, "j")
    assert 800_000 <= found.source_bytes < 820_000
    assert 100_000 <= found.scratch_bytes < 130_000
    assert 200_000 <= found.clip_bytes < 220_000
    assert [path.name for path in source_files(folder)] == [".source.download", "source.mp4"]
    assert weigh(tmp_path, "none").total_bytes == 0


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (2.5e9, "2.5 GB"), (4e12, "4.0 TB")]
)
def test_sizes_for_people(count: float, text: str) -> None:
    assert size_text(count) == text
