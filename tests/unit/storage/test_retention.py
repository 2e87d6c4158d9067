"""What may go and in which order; what never goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from appliance.storage.measured import JobBytes
from appliance.storage.retention import EndedJob, Removal, plan
from appliance.storage.settings import Retention

NOW = datetime(2026, 6, 1, tzinfo=UTC)
WEIGHT = JobBytes(source_bytes=100, scratch_bytes=10, clip_bytes=50)
PLENTY = 10**9


def ended(job: str, days: float, **changes: Any) -> EndedJob:
    plain = EndedJob(
        job=job,
        name=job,
        state="completed",
        ended_at=NOW - timedelta(days=days),
        complete=True,
        pinned=False,
        has_original=False,
        bytes=WEIGHT,
    )
    return msgspec.structs.replace(plain, **changes)


def kept(**changes: Any) -> Retention:
    return msgspec.structs.replace(Retention(keep_jobs=0), **changes)


def short(removals: list[Removal]) -> list[tuple[str | None, str]]:
    return [(removal.job, removal.kind) for removal in removals]


def test_what_has_reached_its_age_goes_step_by_step_the_oldest_first() -> None:
    jobs = [ended("b", 40), ended("a", 50), ended("c", 20), ended("d", 1)]
    jobs.append(ended("u", 45, complete=False, state="failed"))
    removals = plan(jobs, kept(clips_days=45.0), NOW, 0)
    assert short(removals) == [
        ("a", "scratch"), ("b", "scratch"),
        ("a", "source"), ("b", "source"), ("c", "source"),
        ("u", "source"), ("u", "scratch"),
        ("a", "clips"), ("u", "clips"),
    ]  # fmt: skip
    assert removals[0].reason == "the job completed 50 days ago (retention.scratch_days)"
    assert removals[5].reason == "the job failed 45 days ago (retention.unfinished_days)"
    assert (removals[0].path, removals[-1].path) == ("jobs/a", "output/u")


def test_zero_days_is_never() -> None:
    never = kept(scratch_days=0.0, source_days=0.0, unfinished_days=0.0, clips_days=0.0)
    assert plan([ended("a", 9999), ended("u", 9999, complete=False)], never, NOW, 0) == []


def test_the_newest_jobs_keep_everything_whatever_their_age_and_however_short_space_is() -> None:
    jobs = [ended("a", 300), ended("b", 200), ended("c", 100)]
    assert {job for job, _ in short(plan(jobs, kept(keep_jobs=2), NOW, PLENTY))} == {"a"}


def test_pinned_jobs_keep_everything() -> None:
    assert plan([ended("a", 9999, pinned=True, has_original=True)], kept(clips_when_short=True), NOW, PLENTY) == []


def test_when_space_is_short_only_what_can_be_made_or_fetched_again_goes_early() -> None:
    young = [ended("a", 2, has_original=True), ended("b", 1), ended("u", 1, complete=False, has_original=True)]
    assert plan(young, kept(), NOW, 0) == []
    assert short(plan(young, kept(), NOW, PLENTY)) == [("a", "scratch"), ("b", "scratch"), ("a", "source")]
    with_clips = plan(young, kept(clips_when_short=True), NOW, PLENTY)
    assert short(with_clips)[3:] == [("a", "clips"), ("b", "clips"), ("u", "clips")]


def test_a_sweep_stops_as_soon_as_enough_is_free() -> None:
    young = [ended("a", 3, has_original=True), ended("b", 2, has_original=True), ended("c", 1, has_original=True)]
    assert short(plan(young, kept(), NOW, 25)) == [("a", "scratch"), ("b", "scratch"), ("c", "scratch")]
    assert short(plan(young, kept(), NOW, 130))[3:] == [("a", "source")]


def test_what_is_not_there_is_not_said_to_go() -> None:
    assert plan([ended("a", 9999, bytes=JobBytes())], kept(clips_days=1.0), NOW, PLENTY) == []


JOBS = st.lists(
    st.builds(
        ended,
        st.uuids().map(str),
        st.integers(0, 400),
        complete=st.booleans(),
        pinned=st.booleans(),
        has_original=st.booleans(),
        bytes=st.builds(
            JobBytes,
            source_bytes=st.integers(0, 1000),
            scratch_bytes=st.integers(0, 1000),
            clip_bytes=st.integers(0, 1000),
        ),
    ),
    max_size=20,
)
SETTINGS = st.builds(
    Retention,
    keep_jobs=st.integers(0, 5),
    scratch_days=st.integers(0, 100).map(float),
    source_days=st.integers(0, 100).map(float),
    unfinished_days=st.integers(0, 100).map(float),
    clips_days=st.integers(0, 100).map(float),
    clips_when_short=st.booleans(),
)


@given(JOBS, SETTINGS, st.integers(0, 5000))
def test_no_plan_touches_what_must_stay(jobs: list[EndedJob], settings: Retention, short_bytes: int) -> None:
    removals = plan(jobs, settings, NOW, short_bytes)
    by_id = {job.job: job for job in jobs}
    newest = sorted(jobs, key=lambda job: (job.ended_at, job.job), reverse=True)[: settings.keep_jobs]
    assert len(set(short(removals))) == len(removals), "nothing goes twice"
    for removal in removals:
        assert removal.job is not None
        job = by_id[removal.job]
        age = (NOW - job.ended_at) / timedelta(days=1)
        assert not job.pinned
        assert job not in newest
        assert removal.size_bytes > 0
        if removal.kind == "source" and job.complete:
            assert job.has_original or age >= settings.source_days > 0
        if removal.kind in ("source", "scratch") and not job.complete:
            assert age >= settings.unfinished_days > 0
        if removal.kind == "clips":
            assert settings.clips_when_short or age >= settings.clips_days > 0
    assert plan(jobs, settings, NOW, 0) == removals[: len(plan(jobs, settings, NOW, 0))], "age goes first"
