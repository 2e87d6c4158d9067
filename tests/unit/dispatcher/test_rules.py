"""The pure rules: cursor window, queue levels, missing workers."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.dispatcher.missing import Missing
from appliance.dispatcher.thresholds import CLEAR_BELOW, Level, Limits, level_after
from appliance.dispatcher.window import Window
from bus.events import StageName


@given(st.lists(st.integers(1, 40), unique=True, max_size=30).map(sorted), st.randoms(use_true_random=False))
def test_the_cursor_never_passes_what_is_open(seqs: list[int], dice: object) -> None:
    window = Window(0)
    still_open: set[int] = set()
    waiting, last = list(seqs), 0
    while waiting or still_open:
        if waiting and (not still_open or dice.random() < 0.6):  # type: ignore[attr-defined]
            last = waiting.pop(0)
            window.add(last)
            still_open.add(last)
            window.seen(last)
        else:
            done = dice.choice(sorted(still_open))  # type: ignore[attr-defined]
            still_open.discard(done)
            window.done(done)
        assert len(window) >= len(still_open)
        assert window.finished <= window.position <= last
        if still_open:
            assert window.position < min(still_open)
        else:
            assert window.position == last
    window.seen(100)
    assert (window.position, window.finished, len(window)) == (100, max(seqs, default=0), 0)


def test_a_window_takes_facts_in_order_only() -> None:
    window = Window(7)
    with pytest.raises(ValueError, match="7 comes after 7"):
        window.add(7)


WARNING, CRITICAL = Limits(100, 600.0), Limits(500, 3600.0)
RANK: dict[Level, int] = {"ok": 0, "warning": 1, "critical": 2}
LEVELS = st.sampled_from(list(RANK))
DEPTH, AGE = st.integers(0, 700), st.floats(0.0, 5000.0)


@given(LEVELS, DEPTH, AGE)
def test_a_level_is_never_below_what_is_measured_and_settles_at_once(before: Level, depth: int, age_s: float) -> None:
    after = level_after(before, depth, age_s, WARNING, CRITICAL)
    plain = level_after("ok", depth, age_s, WARNING, CRITICAL)
    assert RANK[after] >= RANK[plain]
    assert RANK[after] <= max(RANK[before], RANK[plain])
    assert level_after(after, depth, age_s, WARNING, CRITICAL) == after


@given(LEVELS, st.lists(st.integers(81, 99), min_size=1))
def test_a_queue_that_hovers_below_a_threshold_changes_its_level_at_most_once(before: Level, depths: list[int]) -> None:
    levels = [before]
    for depth in depths:
        levels.append(level_after(levels[-1], depth, 0.0, WARNING, CRITICAL))
    assert sum(a != b for a, b in pairwise(levels)) <= 1


@pytest.mark.parametrize(
    ("before", "depth", "age_s", "after"),
    [
        ("ok", 99, 599.0, "ok"),
        ("ok", 100, 0.0, "warning"),
        ("ok", 0, 600.0, "warning"),
        ("ok", 500, 0.0, "critical"),
        ("warning", 80, 0.0, "warning"),
        ("warning", 79, 0.0, "ok"),
        ("critical", 400, 0.0, "critical"),
        ("critical", 399, 0.0, "warning"),
        ("critical", 10, 479.0, "ok"),
        ("critical", 10, 480.0, "warning"),
    ],
)
def test_levels_by_the_customers_figures(before: Level, depth: int, age_s: float, after: Level) -> None:
    assert CLEAR_BELOW == 0.8
    assert level_after(before, depth, age_s, WARNING, CRITICAL) == after


def test_a_stage_is_short_after_a_while_and_well_at_once() -> None:
    missing = Missing({"cut": 2, "faces": 0}, hold_s=30.0)
    assert [(c.stage, c.short) for c in missing.look({"cut": 1}, 0.0)] == [("faces", False)]
    changes = missing.look({"cut": 1}, 30.0)
    assert [(c.stage, c.short, c.have, c.want) for c in changes if c.stage == "cut"] == [("cut", True, 1, 2)]
    assert [c.stage for c in missing.look({"cut": 1}, 31.0)] == ["cut", "faces"], "repeated until it was said"
    for change in missing.look({"cut": 1}, 31.0):
        missing.said(change)
    assert missing.look({"cut": 0}, 99.0) == []
    assert [(c.stage, c.short) for c in missing.look({"cut": 2}, 100.0)] == [("cut", False)]


def test_a_worker_that_is_replaced_in_time_is_no_alert() -> None:
    missing = Missing({"cut": 1}, hold_s=30.0)
    for now in range(0, 300, 10):
        have: dict[StageName, int] = {"cut": 0 if now % 50 == 0 else 1}
        for change in missing.look(have, float(now)):
            assert not change.short
            missing.said(change)
