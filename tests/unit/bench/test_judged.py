"""The benchmarks' verdicts are about all that they measured."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import pytest

from bench import live
from bench.dashboards import Run, joined

TIMES = {"p50_ms": 0.5, "p99_ms": 1.0, "max_ms": 2.0}
WHOLE = "nobody dropped, nothing missing"
RUNS = ("feed_1", "feed_200", "feed_500", "stalled", "job_made", "job_started")


def measured() -> dict[str, Any]:
    run = {"all": TIMES, "last": TIMES, "missing": 0, "lost": 0}
    report: dict[str, Any] = {name: dict(run) for name in RUNS}
    report["stalled"] = {"with": TIMES, "without": TIMES, "missing": 0, "lost": 0}
    return report | {"bare": TIMES, "memory_before_mb": 90.0, "memory_500_mb": 100.0}


def test_a_run_in_which_nothing_is_missing_is_good() -> None:
    assert all(live.judged({"ours": measured()}).values())


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("what", ["missing", "lost"])
def test_frames_that_did_not_come_are_told_of_every_run(name: str, what: str) -> None:
    report = measured()
    report[name][what] = 1
    found = live.judged({"ours": report})
    assert [words for words, holds in found.items() if not holds] == [WHOLE]


def test_the_hosts_share_is_of_all_the_time_between() -> None:
    times = namedtuple("times", ("user", "idle", "steal"))
    assert live.stolen(times(10.0, 80.0, 1.0), times(13.0, 85.0, 3.0)) == pytest.approx(0.2)
    assert live.stolen(times(1.0, 1.0, 0.0), times(1.0, 1.0, 0.0)) == 0.0


def test_turns_count_as_one_run_with_all_that_is_missing() -> None:
    one = Run(each=[0.1, 0.2], last=[0.2], missing=1, lost=0, events=1)
    other = Run(each=[0.3], last=[0.3], missing=0, lost=2, events=1)
    assert joined([one, other]) == Run(each=[0.1, 0.2, 0.3], last=[0.2, 0.3], missing=1, lost=2, events=2)


def test_each_answer_of_a_load_counts_in_the_servers_share() -> None:
    pytest.importorskip("playwright")
    from bench.first_load import served

    def answer(path: str, begun_ms: float, size: int = 100) -> dict[str, Any]:
        return {"path": path, "from": begun_ms, "bytes": size, "server": [["app", 3.0]]}

    requests = [answer("/api/jobs", 1.0), answer("/api/jobs", 2.0), answer("/late", 9.0), answer("/cached", 1.0, 0)]
    assert served({"drawn": 5.0, "requests": requests}) == [("/api/jobs", 3.0), ("/api/jobs", 3.0)]
