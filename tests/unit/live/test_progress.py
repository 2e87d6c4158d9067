"""How often progress is shown, and which report of many."""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from appliance.worker.report import JobProgress
from web.live.progress import MAX_JOBS, ProgressGate


def report(job: str = "a", done: float = 0.5, clip: int | None = None, stage: str = "cut") -> bytes:
    return msgspec.json.encode(
        {"job": job, "clip": clip, "stage": stage, "done": done, "eta_s": None, "elapsed_s": 1.0}
    )


@given(st.lists(st.tuples(st.floats(0, 0.3), st.integers(1, 6)), max_size=60))
def test_no_job_is_shown_more_than_four_times_a_second_and_the_last_word_always_is(
    reports: list[tuple[float, int]],
) -> None:
    gate, now, sent = ProgressGate(), 0.0, []
    last: dict[int, float] = {}
    for number, (pause, clip) in enumerate(reports):
        now += pause
        sent += [(now, data) for _, data in gate.due(now)]
        last[clip] = number / 100
        if (out := gate.report(report(done=last[clip], clip=clip), now)) is not None:
            sent.append((now, out[1]))
    while (wait := gate.next_due_in(now)) is not None:
        now += wait + 1e-9
        sent += [(now, data) for _, data in gate.due(now)]
    times = [at for at, _ in sent]
    assert all(later - earlier >= 0.25 - 1e-9 for earlier, later in itertools.pairwise(times))
    shown = {one.clip: one.done for one in (msgspec.json.decode(data, type=JobProgress) for _, data in sent)}
    assert shown == last


def test_jobs_do_not_wait_for_each_other() -> None:
    gate = ProgressGate()
    assert gate.report(report("a"), 0.0) is not None
    assert gate.report(report("b"), 0.0) is not None


def test_a_job_that_is_over_says_nothing_more() -> None:
    gate = ProgressGate()
    gate.report(report(done=0.1), 0.0)
    gate.report(report(done=0.2), 0.1)
    gate.ended("a")
    assert gate.due(10.0) == []
    assert gate.last("a") is None


def test_what_is_kept_is_bounded() -> None:
    gate = ProgressGate()
    for number in range(2 * MAX_JOBS):
        gate.report(report(f"j{number}"), 0.0)
        gate.report(report(f"j{number}"), 0.0)
    assert len(gate.due(1.0)) == MAX_JOBS
    gate.forget(1e6)
    assert gate.last(f"j{2 * MAX_JOBS - 1}") is None


def test_bytes_that_are_no_report_are_dropped() -> None:
    assert ProgressGate().report(b'{"job":1}', 0.0) is None
