"""A job as a person follows it."""

from __future__ import annotations

import io
from datetime import timedelta
from pathlib import Path

from rich.console import Console

from appliance.cli.screen import print_result, stage_cells, stage_table
from appliance.progress import JobView
from bus.events import JobCancelled, JobCompleted, JobRetried
from bus.ids import new_id
from tests.unit.appliance import facts

JOB = new_id()


def view_of(*events: object) -> JobView:
    view = JobView(JOB)
    for seq, event in enumerate(events, 1):
        view.fact(seq, event)  # type: ignore[arg-type]
    return view


def drawn(view: JobView) -> str:
    console = Console(width=140, file=io.StringIO(), record=True)
    console.print(stage_table(view, facts.at(10)))
    print_result(console, view, Path("out"))
    return console.export_text()


def test_share_speed_and_time_left_of_a_running_stage() -> None:
    view = view_of(facts.created(JOB), facts.done(JOB, "download"), facts.started(JOB, "transcribe"))
    view.progress("transcribe", None, 0.25)
    view.progress("transcribe", None, 0.20)
    assert view.share("transcribe") == 0.25, "progress never goes back"
    now = facts.at(1) + timedelta(seconds=5)
    assert view.speed("transcribe", now) == 60.0 * 0.25 / 5
    assert view.eta_s("transcribe", now) == 15.0
    assert not view.is_done("transcribe")


def test_clip_stages_are_shares_of_all_clips() -> None:
    view = view_of(
        facts.created(JOB),
        facts.done(JOB, "moments", clips=2),
        facts.planned(JOB, 1),
        facts.planned(JOB, 2),
        facts.started(JOB, "cut", 1),
        facts.done(JOB, "cut", 1),
        facts.started(JOB, "cut", 2),
    )
    view.progress("cut", 2, 0.5)
    assert view.share("cut") == 0.75
    assert not view.is_done("cut")
    assert stage_cells(view, "cut", facts.at(9))[3] == "1/2"
    view.fact(20, facts.done(JOB, "cut", 2))
    assert view.is_done("cut")


def test_a_retry_is_shown_with_its_reason_and_forgotten_when_it_works() -> None:
    view = view_of(facts.created(JOB), facts.started(JOB, "download"), facts.retrying(JOB, "download", 1))
    assert "retry 1" in drawn(view)
    assert "it broke" in drawn(view)
    view.fact(9, facts.started(JOB, "download", attempt=2))
    view.fact(10, facts.done(JOB, "download"))
    assert "it broke" not in drawn(view)


def test_the_result_names_clips_failures_and_the_way_on() -> None:
    view = view_of(
        facts.created(JOB),
        facts.planned(JOB, 1),
        facts.planned(JOB, 2),
        facts.done(JOB, "cut", 1),
        facts.clip_failed(JOB, 2),
        JobCompleted(job=JOB, clips_ready=1, clips_failed=1, seconds=9.0),
    )
    text = drawn(view)
    assert "out/clip-01.mp4" in text
    assert "clip 2 failed in cut: no" in text
    cancelled = view_of(facts.created(JOB), JobCancelled(job=JOB, by="me", reason="interrupted"))
    assert "Run the same command again" in drawn(cancelled)


def test_a_retried_job_runs_again() -> None:
    view = view_of(facts.created(JOB), facts.job_failed(JOB))
    assert view.ended
    view.fact(9, JobRetried(job=JOB, by="me", stage="download"))
    assert (view.ended, view.error) == (False, None)


def test_facts_of_other_jobs_and_repeated_ones_are_ignored() -> None:
    view = view_of(facts.created(JOB), facts.started(JOB, "download"), facts.retrying(JOB, "download", 1))
    view.fact(3, facts.retrying(JOB, "download", 1))
    view.fact(4, facts.job_failed(new_id()))
    assert (view.stages["download"].retries, view.state) == (1, "running")
