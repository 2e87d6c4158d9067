"""The rules of a job's life."""

from __future__ import annotations

import pytest

from appliance.lifecycle import (
    Attempt,
    Claim,
    Failure,
    OpenItem,
    Skip,
    backoff_s,
    decide,
    on_done,
    on_failed,
    on_retried,
    pending_command,
)
from appliance.settings import Retry
from bus.events import (
    CLIP_STAGES,
    JOB_STAGES,
    ClipFailed,
    ClipPlanned,
    Command,
    JobAnalyzed,
    JobCancelled,
    JobFailed,
    JobRetried,
    JobRetrying,
    StageName,
)
from bus.ids import new_id
from stages.base import MomentsResult, PlannedClip, TranscribeResult
from stages.errors import DISK_FULL
from tests.unit.appliance import facts

JOB = new_id()


def command(stage: StageName, clip: int | None = None, attempt: int = 1) -> Command:
    return Command(stage=stage, job=JOB, clip=clip, attempt=attempt)


def attempt(stage: StageName, clip: int | None = None, number: int = 1) -> Attempt:
    return Attempt(stage=stage, job=JOB, clip=clip, attempt=number, worker=facts.WORKER)


def test_a_command_is_current_right_after_the_fact_that_called_for_it() -> None:
    assert decide(command("download"), facts.created(JOB), facts.created(JOB)) == Claim(attempt=1, claim=1)
    last = facts.done(JOB, "transcribe")
    assert decide(command("moments"), last, last) == Claim(attempt=1, claim=1)
    analyzed = facts.done(JOB, "moments")
    assert decide(command("faces", 1), facts.planned(JOB, 1), analyzed) == Claim(attempt=1, claim=1)


@pytest.mark.parametrize("stage", JOB_STAGES)
def test_a_replayed_command_is_spent_once_its_stage_is_done(stage: StageName) -> None:
    last = facts.done(JOB, stage)
    assert isinstance(decide(command(stage), last, last), Skip)


@pytest.mark.parametrize("stage", CLIP_STAGES)
def test_the_same_for_clips(stage: StageName) -> None:
    last = facts.done(JOB, stage, clip=1)
    assert isinstance(decide(command(stage, 1), last, facts.done(JOB, "moments")), Skip)


def test_the_same_command_again_takes_over_the_attempt_of_a_vanished_worker() -> None:
    last = facts.started(JOB, "transcribe", attempt=2, claim=4)
    assert decide(command("transcribe", attempt=2), last, last) == Claim(attempt=2, claim=5)


def test_an_older_command_cannot_fence_off_a_newer_attempt() -> None:
    last = facts.started(JOB, "transcribe", attempt=2)
    assert isinstance(decide(command("transcribe", attempt=1), last, last), Skip)


def test_a_retry_takes_exactly_the_scheduled_attempt() -> None:
    last = facts.retrying(JOB, "cut", attempt=1, clip=2)
    job = facts.done(JOB, "moments")
    assert decide(command("cut", 2, attempt=2), last, job) == Claim(attempt=2, claim=1)
    assert isinstance(decide(command("cut", 2, attempt=1), last, job), Skip)
    assert isinstance(decide(command("cut", 2, attempt=3), last, job), Skip)


def test_nothing_is_done_for_a_job_that_has_ended_until_it_is_retried() -> None:
    cancelled = JobCancelled(job=JOB, by="x")
    assert isinstance(decide(command("cut", 1), facts.done(JOB, "crop", 1), cancelled), Skip)
    retried = JobRetried(job=JOB, by="x", stage="cut")
    for_clip = JobRetried(job=JOB, clip=1, by="x", stage="cut")
    assert decide(command("cut", 1), for_clip, retried) == Claim(attempt=1, claim=1)


def test_an_unknown_item_is_skipped() -> None:
    assert isinstance(decide(command("download"), None, None), Skip)


def test_moments_fans_out_into_one_commit() -> None:
    plans = [
        PlannedClip(n=n, start_s=n * 30.0, end_s=n * 30.0 + 20, score=0.5, title="t", reasons=["r"]) for n in (1, 2)
    ]
    messages = on_done(attempt("moments"), MomentsResult(planned=plans, candidates=7), 1.5, 60.0)
    kinds = [type(m) for m in messages]
    assert kinds == [JobAnalyzed, ClipPlanned, Command, ClipPlanned, Command]
    analyzed = messages[0]
    assert isinstance(analyzed, JobAnalyzed)
    assert (analyzed.clips, analyzed.candidates, analyzed.real_time_factor) == (2, 7, 0.025)
    assert [(m.stage, m.clip) for m in messages if isinstance(m, Command)] == [("faces", 1), ("faces", 2)]


def test_a_stage_is_followed_by_the_next_and_the_last_by_none() -> None:
    result = TranscribeResult(model="m", language="en", words=3, rough=False)
    done, following = on_done(attempt("transcribe"), result, 6.0, 60.0)
    assert isinstance(following, Command)
    assert following.stage == "moments"
    assert done.job == JOB


def test_attempts_end_in_a_dead_letter_fact() -> None:
    rule = Retry(attempts=3, backoff_s=2.0)
    failure = Failure(error="it broke", code="crashed")
    retry, again = on_failed(attempt("cut", 1, number=2), failure, rule)
    assert isinstance(retry, JobRetrying)
    assert isinstance(again, Command)
    assert (retry.attempt, again.attempt, again.not_before) == (2, 3, retry.next_try_at)
    (ended,) = on_failed(attempt("cut", 1, number=3), failure, rule)
    assert isinstance(ended, ClipFailed)
    assert (ended.attempts, ended.error) == (3, "it broke")


def test_a_full_disk_is_waited_for_longer() -> None:
    rule = Retry(attempts=2, disk_full_attempts=5)
    full = Failure(error="no room", code=DISK_FULL)
    ends = [type(on_failed(attempt("cut", 1, number=number), full, rule)[0]) for number in range(1, 6)]
    assert ends == [JobRetrying] * 4 + [ClipFailed]


def test_a_final_failure_is_not_retried() -> None:
    (ended,) = on_failed(attempt("download"), Failure(error="a PNG", code="not-a-video", final=True), Retry())
    assert isinstance(ended, JobFailed)
    assert ended.attempts == 1


def test_backoff_doubles_up_to_its_most() -> None:
    rule = Retry(backoff_s=2.0, backoff_max_s=5.0)
    assert [backoff_s(rule, n) for n in (1, 2, 3, 9)] == [2.0, 4.0, 5.0, 5.0]


def test_what_is_pending_is_exactly_what_decide_accepts() -> None:
    analyzed = facts.done(JOB, "moments")
    histories = [
        (None, facts.created(JOB)),
        (None, facts.started(JOB, "download", attempt=2, claim=3)),
        (None, facts.retrying(JOB, "transcribe", attempt=1)),
        (None, facts.done(JOB, "transcribe")),
        (None, JobRetried(job=JOB, by="x", stage="moments")),
        (1, facts.planned(JOB, 1)),
        (1, facts.done(JOB, "faces", 1)),
        (1, facts.started(JOB, "cut", 1)),
        (1, JobRetried(job=JOB, clip=1, by="x", stage="crop")),
    ]
    for clip, last in histories:
        due = pending_command(JOB, clip, last)
        assert due is not None
        assert isinstance(decide(due, last, last if clip is None else analyzed), Claim), last
    for clip, last in [(None, analyzed), (1, facts.done(JOB, "cut", 1)), (1, facts.clip_failed(JOB, 1))]:
        assert pending_command(JOB, clip, last) is None


def test_retrying_by_hand_moves_the_job_first_then_each_clip() -> None:
    messages = on_retried(JOB, "me", [OpenItem(clip=2, stage="cut"), OpenItem(clip=3, stage="faces")])
    told = [(type(m).__name__, m.clip) for m in messages]
    assert told == [("JobRetried", None), ("JobRetried", 2), ("Command", 2), ("JobRetried", 3), ("Command", 3)]
