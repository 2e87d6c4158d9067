"""The state machine of one alert, by properties: what it may never do, whatever the readings."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.alerts.machine import Change, Flapping, Track, advance
from appliance.alerts.rules import RANK, Level, Rule, Threshold

HIGH = Rule(id="x", signal="x", says="x", warning=Threshold(85, 80), critical=Threshold(95, 90), for_s=60, hold_s=600)
LOW = Rule(id="x", signal="x", says="x", warning=Threshold(10, 15), critical=Threshold(5, 8), for_s=60, hold_s=600)
LATCHED = Rule(id="x", signal="x", says="x", critical=Threshold(1, 0), latched=True)

DEFAULT = Flapping()

values = st.one_of(st.none(), st.integers(0, 100).map(float))
steps = st.lists(st.tuples(st.sampled_from([1.0, 5.0, 10.0, 60.0, 700.0]), values, st.booleans()), max_size=60)
rules = st.builds(
    lambda high, for_s, hold_s, low, critical: Rule(
        id="x",
        signal="x",
        says="x",
        warning=(Threshold(80, 60) if high else Threshold(20, 40)) if low else None,
        critical=(Threshold(90, 70) if high else Threshold(10, 30)) if critical or not low else None,
        for_s=for_s,
        hold_s=hold_s,
    ),
    st.booleans(),
    st.sampled_from([0.0, 5.0, 60.0]),
    st.sampled_from([0.0, 10.0, 600.0]),
    st.booleans(),
    st.booleans(),
)


def run(
    rule: Rule, readings: list[tuple[float, float | None]], flapping: Flapping = DEFAULT
) -> list[tuple[float, Change]]:
    track, found = Track(), []
    for now, value in readings:
        track, change = advance(rule, track, now, value, flapping=flapping)
        if change is not None:
            found.append((now, change))
    return found


def kinds(changes: list[tuple[float, Change]]) -> list[str]:
    return [change.kind for _, change in changes]


def each_second(*spans: tuple[int, float | None]) -> list[tuple[float, float | None]]:
    """`(seconds, value)` spans at 1 Hz."""
    readings: list[tuple[float, float | None]] = []
    for length, value in spans:
        readings += [(float(len(readings) + n), value) for n in range(length)]
    return readings


def test_a_condition_must_hold_and_must_stay_away() -> None:
    found = run(HIGH, each_second((30, 50), (59, 90), (10, 84), (61, 90), (599, 79), (1, 81), (601, 80)))
    assert kinds(found) == ["raised", "cleared"]
    (raised_at, raised), (cleared_at, cleared) = found
    assert (raised_at, raised.since, raised.level, raised.threshold) == (159.0, 99.0, "warning", 85)
    assert (cleared_at, cleared.level, cleared.threshold) == (1360.0, "ok", 80)


def test_worse_and_better() -> None:
    found = run(HIGH, each_second((61, 86), (61, 96), (601, 88), (601, 70)))
    assert kinds(found) == ["raised", "worsened", "improved", "cleared"]
    assert [change.level for _, change in found] == ["warning", "critical", "warning", "ok"]


def test_straight_to_critical_is_one_notice() -> None:
    assert kinds(run(HIGH, each_second((61, 99), (601, 10)))) == ["raised", "cleared"]


def test_low_is_bad_too() -> None:
    found = run(LOW, each_second((61, 9), (61, 4), (601, 50)))
    assert [(change.kind, change.level) for _, change in found] == [
        ("raised", "warning"),
        ("worsened", "critical"),
        ("cleared", "ok"),
    ]


def test_what_has_happened_stays_until_it_is_acknowledged() -> None:
    track, change = advance(LATCHED, Track(), 1.0, 1.0)
    assert change is not None
    assert change.kind == "raised"
    for now in range(2, 5000):
        track, change = advance(LATCHED, track, float(now), 0.0)
        assert change is None
    track, change = advance(LATCHED, track, 5000.0, 0.0, acknowledged=True)
    assert change is not None
    assert change.kind == "cleared"


def test_seconds_that_nobody_saw_prove_nothing() -> None:
    """A monitor that was stopped for an hour must not raise on its second reading."""
    assert run(HIGH, [(0.0, 90.0), (1.0, 90.0), (3600.0, 90.0), (3601.0, 90.0)]) == []


@given(
    st.integers(2, 1700), st.sampled_from([0.0, 5.0, 60.0]), st.sampled_from([0.0, 10.0, 600.0]), st.integers(20, 24)
)
@settings(max_examples=40, deadline=None)
def test_twenty_crossings_are_two_notices_and_one_flapping(
    period: int, for_s: float, hold_s: float, times: int
) -> None:
    """And once it is calm, the end is told if it was not yet."""
    rule = Rule(id="x", signal="x", says="x", warning=Threshold(80, 60), for_s=for_s, hold_s=hold_s)
    step = max(1, period // 200)
    crossing = [(float(at), 90.0 if at // period % 2 == 0 else 10.0) for at in range(0, period * times, min(step, 10))]
    found = kinds(run(rule, list(crossing)))
    assert found.count("flapping") <= 1
    assert len(found) - found.count("flapping") <= 2
    end = crossing[-1][0]
    calm = [(end + n * 10.0, 10.0) for n in range(1, 400)]
    after = kinds(run(rule, [*crossing, *calm]))[len(found) :]
    assert after == (["cleared"] if found and found[-1] != "cleared" else [])


@given(rules, steps)
def test_levels_follow_the_changes_and_never_skip(rule: Rule, taken: list[tuple[float, float | None, bool]]) -> None:
    track, now, level = Track(), 0.0, "ok"
    for wait_s, value, may_raise in taken:
        now += wait_s
        before: Level = track.level
        track, change = advance(rule, track, now, value, may_raise=may_raise)
        assert (change is None) == (track.level == before) or (change is not None and change.kind == "flapping")
        if change is None:
            continue
        up = RANK[change.level] > RANK[before]
        assert change.level == track.level
        assert (
            change.kind
            in {
                (True, True): ("raised", "flapping"),
                (True, False): ("worsened", "flapping"),
                (False, False): ("improved", "cleared"),
                (False, True): (),
            }[up, before == "ok"]
        ), (before, change)
        assert (change.kind == "cleared") == (change.level == "ok")
        if up:
            assert may_raise, "raised in the grace period"
        assert value is not None, "a reading of nothing changed something"
        level = change.level
    assert track.level == level


@given(rules, steps)
def test_nothing_is_raised_without_its_time_at_the_threshold(
    rule: Rule, taken: list[tuple[float, float | None, bool]]
) -> None:
    """Told by a second, slower way: every reading of the last `for_s` was beyond the threshold."""
    track, now = Track(), 0.0
    seen: list[tuple[float, float | None]] = []
    for wait_s, value, _ in taken:
        now += wait_s
        seen.append((now, value))
        opened = track.warning.open, track.critical.open
        track, _change = advance(rule, track, now, value)
        for was, gate, limit in (
            (opened[0], track.warning, rule.warning),
            (opened[1], track.critical, rule.critical),
        ):
            if was or not gate.open:
                continue
            assert limit is not None
            assert gate.began is not None
            assert now - gate.began >= rule.for_s
            span = [one for at, one in seen if at >= gate.began]
            for one in span:
                assert one is not None
                assert one >= limit.at if rule.high_is_bad else one <= limit.at


@given(rules, steps)
def test_what_is_written_down_goes_on_as_if_nothing_had_been(
    rule: Rule, taken: list[tuple[float, float | None, bool]]
) -> None:
    one, other, now = Track(), Track(), 0.0
    for wait_s, value, may_raise in taken:
        now += wait_s
        one, first = advance(rule, one, now, value, may_raise=may_raise)
        other = msgspec.json.decode(msgspec.json.encode(other), type=Track)
        other, second = advance(rule, other, now, value, may_raise=may_raise)
        assert first == second
    assert one == other
