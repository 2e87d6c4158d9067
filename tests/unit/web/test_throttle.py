"""Leaky buckets: never more than the burst at once, never more than the rate for long, whatever the clock does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from appliance.accounts import throttle
from appliance.accounts.database import SCHEMA
from appliance.sqlite import sqlite3

PER_MINUTE = 10.0


def database() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.executescript(SCHEMA)
    return db


@given(st.lists(st.floats(min_value=-30.0, max_value=60.0), min_size=1, max_size=60))
def test_tries_are_bounded_by_burst_and_rate(steps: list[float]) -> None:
    db, now, passed, forward = database(), 1000.0, 0, 0.0
    for step in steps:
        now += step
        forward += max(0.0, step)
        if throttle.wait_s(db, "k", PER_MINUTE, now) == 0:
            throttle.count(db, "k", PER_MINUTE, now)
            passed += 1
    assert passed <= throttle.BURST + forward * PER_MINUTE / 60.0 + 1e-6
    db.close()


@given(st.floats(min_value=0.0, max_value=1e6))
def test_who_waits_as_long_as_told_gets_in(start: float) -> None:
    db, now = database(), start
    for _ in range(int(throttle.BURST)):
        assert throttle.wait_s(db, "k", PER_MINUTE, now) == 0
        throttle.count(db, "k", PER_MINUTE, now)
    wait = throttle.wait_s(db, "k", PER_MINUTE, now)
    assert 0 < wait <= 60.0 / PER_MINUTE + 1e-6
    assert throttle.wait_s(db, "k", PER_MINUTE, now + wait) < 1e-3
    assert throttle.wait_s(db, "other", PER_MINUTE, now) == 0
    db.close()


def test_a_good_try_does_not_count_and_keys_are_bounded() -> None:
    db = database()
    for _ in range(20):
        throttle.count(db, "k", PER_MINUTE, 0.0)
        throttle.give_back(db, "k")
    assert throttle.wait_s(db, "k", PER_MINUTE, 0.0) == 0
    db.executemany("INSERT INTO throttle VALUES (?, 1.0, ?)", [(str(n), float(n)) for n in range(throttle.MAX_KEYS)])
    throttle.count(db, "new", PER_MINUTE, 1e9)
    assert db.execute("SELECT count(*) FROM throttle").fetchone()[0] == throttle.MAX_KEYS
    assert throttle.wait_s(db, "new", PER_MINUTE, 1e9) == 0
    db.close()
