"""What the dispatcher counts of itself: histograms that keep their promise of accuracy, and the lag."""

from __future__ import annotations

import math
import time
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dispatcher.figures import DispatcherSample, Figures, same
from appliance.dispatcher.histogram import BUCKETS, FIRST_S, Durations, Histogram, bound_s
from bus.stored import Stored

SECONDS = st.lists(st.floats(0.0, 200.0), min_size=1, max_size=60)
SHARES = st.floats(0.0, 1.0)


def histogram(seconds: list[float]) -> Histogram:
    made = Histogram()
    for value in seconds:
        made.add(value)
    return made


@given(SECONDS, SHARES)
def test_a_quantile_is_at_most_8_percent_too_high(seconds: list[float], share: float) -> None:
    exact = sorted(seconds)[max(1, math.ceil(len(seconds) * share)) - 1]
    told = histogram(seconds).state().quantile_s(share)
    assert told is not None
    assert exact - 1e-6 <= told <= max(exact * 1.0801, FIRST_S) + 1e-6


@given(SECONDS, SECONDS, SHARES)
def test_the_difference_of_two_states_is_what_came_between(first: list[float], then: list[float], share: float) -> None:
    made = histogram(first)
    before = made.state()
    for value in then:
        made.add(value)
    between, alone = made.state().since(before), histogram(then).state()
    assert (between.count, between.buckets) == (alone.count, alone.buckets)
    assert between.sum_s == pytest.approx(alone.sum_s, abs=1e-5)
    assert between.max_s >= alone.max_s - 1e-6


def test_nothing_has_no_quantile_and_what_is_beyond_all_bounds_is_still_counted() -> None:
    assert Durations().quantile_s(0.5) is None
    made = histogram([-3.0, 1e9])
    assert made.state().buckets == {0: 1, BUCKETS - 1: 1}
    assert made.state().quantile_s(1.0) == 1e9
    assert bound_s(BUCKETS - 1) == math.inf


def fact(seq: int, age_s: float, pending: int = 0) -> Stored:
    moment = datetime.fromtimestamp(time.time() - age_s, UTC)
    return Stored(seq=seq, subject="evt.job.created.x", data=b"", time=moment.isoformat(), pending=pending)


def test_the_lag_is_what_the_stream_holds_and_the_database_does_not() -> None:
    figures = Figures()
    assert (figures.sample({}).lag_events, figures.sample({}).lag_s) == (0, 0.0)
    batch = [fact(7, 9.0, pending=6), fact(9, 5.0, pending=5)]
    stored_s = figures.read(batch)
    reading = figures.sample({})
    assert reading.lag_events == 7
    assert 9.0 <= reading.lag_s < 60.0
    figures.committed(9, stored_s)
    behind = figures.sample({})
    assert (behind.seq, behind.events, behind.batches, behind.lag_events) == (9, 2, 1, 5)
    assert 5.0 <= behind.lag_s < 60.0
    assert behind.written.count == 2
    figures.committed(15, figures.read([fact(15, 0.0)]))
    assert (figures.sample({}).lag_events, figures.sample({}).lag_s) == (0, 0.0)


def test_actions_are_counted_and_a_first_attempt_is_timed() -> None:
    figures = Figures()
    figures.begins("complete_job", time.time() - 1.0)
    running = figures.sample({"complete_job": "closed"}).actions["complete_job"]
    assert (running.running, running.done, running.failed, running.breaker) == (1, 0, 0, "closed")
    figures.ended("complete_job", ok=False)
    figures.begins("complete_job", None)
    figures.ended("complete_job", ok=True)
    sample = figures.sample({"complete_job": "open"})
    counted = sample.actions["complete_job"]
    assert (counted.running, counted.done, counted.failed, counted.breaker) == (0, 1, 1, "open")
    assert sample.acted.count == 1
    assert 1.0 <= sample.acted.sum_s < 60.0


def test_a_sample_survives_its_way_and_time_alone_is_no_news() -> None:
    figures = Figures()
    figures.committed(3, figures.read([fact(3, 0.01)]))
    figures.cache_round("invalidate", ok=True)
    figures.invalidated([time.time()])
    sample = figures.sample({"dead_letter": "half_open"})
    assert msgspec.json.decode(msgspec.json.encode(sample), type=DispatcherSample) == sample
    assert same(sample, figures.sample({"dead_letter": "half_open"}))
    figures.cache_round("warm", ok=False)
    assert not same(sample, figures.sample({"dead_letter": "half_open"}))
