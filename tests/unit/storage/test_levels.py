"""Levels of the data volume, the ballast, and folders that belong to nobody."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.storage.ballast import Ballast
from appliance.storage.levels import Level, level_after
from appliance.storage.orphans import find, is_orphan
from appliance.storage.removal import remove_of_job, remove_tree
from appliance.storage.settings import Admission, Retention
from appliance.storage.volume import marks, measure
from bus.events import JobDeleted
from bus.ids import new_id
from stages.folder import JobFolder
from tests.unit.appliance import facts
from tests.unit.storage.kit import opened, project

MARKS = marks(
    Admission(reserve_bytes=1000, floor_bytes=400, full_bytes=100, ballast_bytes=50, max_percent=100.0),
    Retention(),
    10**12,
)
RANK: dict[Level, int] = {"open": 0, "closed": 1, "full": 2}


@pytest.mark.parametrize(
    ("before", "free", "after"),
    [
        ("open", 400, "open"),
        ("open", 399, "closed"),
        ("closed", 499, "closed"),
        ("closed", 500, "open"),
        ("open", 99, "full"),
        ("closed", 99, "full"),
        ("full", 249, "full"),
        ("full", 250, "closed"),
        ("full", 500, "open"),
    ],
)
def test_levels_have_a_margin(before: Level, free: int, after: Level) -> None:
    assert level_after(before, free, MARKS) == after


@given(st.sampled_from(["open", "closed", "full"]), st.integers(0, 1000))
def test_a_level_is_stable_and_more_space_is_never_worse(before: Level, free: int) -> None:
    after = level_after(before, free, MARKS)
    assert level_after(after, free, MARKS) == after
    assert RANK[level_after(before, free + 1, MARKS)] <= RANK[after]


def test_the_ballast_takes_real_blocks_and_gives_them_back(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path)
    assert ballast.bytes == 0
    assert ballast.take(3_000_000)
    assert ballast.bytes >= 3_000_000
    assert ballast.take(3_000_000), "again: it is there"
    assert ballast.drop() >= 3_000_000
    assert (ballast.bytes, ballast.drop()) == (0, 0)
    assert ballast.take(1_000)
    assert ballast.take(0), "none wanted"
    assert not ballast.path.exists()


def test_a_ballast_that_does_not_fit_takes_nothing(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path)
    assert not ballast.take(measure(tmp_path).total_bytes * 2)
    assert ballast.bytes == 0


def old(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "file").write_bytes(b"x" * 10_000)
    for here in (path / "file", path):
        os.utime(here, (0, 0))
    return path


def test_orphans_are_left_of_deleted_jobs_or_of_jobs_the_log_never_heard_of(tmp_path: Path) -> None:
    db, known, deleted = opened(), new_id(), new_id()
    stranger_before = "01j00000000000000000000000"  # of 2024: older than the database's first fact
    project(db, facts.created(known), facts.created(deleted), JobDeleted(job=deleted, by="me"))
    stranger = "02000000000000000000000000"  # of a time after it
    for name in (known, deleted, stranger, stranger_before, "notes"):
        old(tmp_path / "jobs" / name)
        old(tmp_path / "output" / name)
    young = tmp_path / "jobs" / new_id()
    young.mkdir()
    found = find(db, tmp_path, 3600.0)
    wanted = {f"jobs/{deleted}", f"output/{deleted}", f"jobs/{stranger}"}
    assert {removal.path for removal in found} == wanted, "clips of unknown jobs stay, always"
    assert all(removal.size_bytes >= 10_000 and removal.job is None for removal in found)
    assert find(db, tmp_path, 3600.0, now_s=1000.0) == []
    assert f"jobs/{young.name}" in {r.path for r in find(db, tmp_path, 3600.0, now_s=time.time() + 7200)}


def test_an_empty_database_makes_no_orphans(tmp_path: Path) -> None:
    old(tmp_path / "jobs" / new_id())
    assert find(opened(), tmp_path, 3600.0) == []
    assert not is_orphan(opened(), "jobs", new_id())


def files_of_a_job(data_dir: Path) -> JobFolder:
    folder = JobFolder.of(data_dir, "j")
    (folder.root / "clips" / "1").mkdir(parents=True)
    folder.output.mkdir(parents=True)
    for path in ("source.mp4", ".source.download", ".source.download.json", "probe.json", "clips/1/faces.json"):
        (folder.root / path).write_text("x")
    (folder.root / ".hidden.part").write_text("x")
    (folder.output / "clip-01.mp4").write_text("x")
    return folder


def left(folder: JobFolder) -> set[str]:
    both = [*folder.root.rglob("*"), *folder.output.rglob("*")]
    return {path.name for path in both if path.is_file()}


def test_each_kind_is_removed_alone_and_again_is_fine(tmp_path: Path) -> None:
    folder = files_of_a_job(tmp_path)
    for _ in range(2):
        remove_of_job(folder, "scratch")
        assert left(folder) == {"source.mp4", ".source.download", ".source.download.json", "clip-01.mp4"}
    remove_of_job(folder, "source")
    assert left(folder) == {"clip-01.mp4"}
    assert not folder.root.exists()
    for _ in range(2):
        remove_of_job(folder, "clips")
        assert not folder.output.exists()
    remove_of_job(folder, "source")


def test_removing_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "link").symlink_to(outside)
    remove_tree(inside / "link")
    assert (outside / "precious").exists()
    (inside / "link").symlink_to(outside)
    remove_tree(inside)
    assert (outside / "precious").exists()
