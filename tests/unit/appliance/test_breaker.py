"""The breaker: opens after failures in a row, lets one probe through, believes nobody who comes late."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from appliance.breaker import Breaker

THRESHOLD = 5
RECOVERY_S = 2.0
TICKS_PER_S = 64
"""A tick is a binary fraction, so that sums of times are exact."""


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def opened(clock: Clock) -> Breaker:
    breaker = Breaker(THRESHOLD, RECOVERY_S, clock=clock)
    for _ in range(THRESHOLD):
        permit = breaker.enter()
        assert permit is not None
        breaker.failed(permit, "refused")
    return breaker


def test_it_opens_after_the_failures_in_a_row_and_tells_the_last_reason() -> None:
    told: list[str] = []
    breaker = Breaker(THRESHOLD, RECOVERY_S, clock=Clock(), on_open=told.append)
    for n in range(THRESHOLD - 1):
        breaker.failed(breaker.enter() or 0, str(n))
    breaker.succeeded(breaker.enter() or 0)
    for n in range(THRESHOLD):
        assert breaker.state == "closed"
        breaker.failed(breaker.enter() or 0, f"again {n}")
    assert breaker.state == "open"
    assert told == ["again 4"]
    assert breaker.enter() is None


def test_one_probe_after_the_recovery_time_closes_it() -> None:
    clock, told = Clock(), list[float]()
    breaker = opened(clock)
    breaker._on_close = told.append
    clock.now += RECOVERY_S - 0.01
    assert breaker.enter() is None
    clock.now += 0.01
    probe = breaker.enter()
    assert probe is not None
    assert breaker.enter() is None, "one probe, not two"
    assert breaker.succeeded(probe)
    assert breaker.state == "closed"
    assert not breaker.succeeded(breaker.enter() or 0), "it was closed before"
    assert told == [RECOVERY_S]
    assert breaker.wait_s() == 0.0


def test_a_failed_probe_waits_the_whole_time_again() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += RECOVERY_S
    breaker.failed(breaker.enter() or 0, "still away")
    assert breaker.state == "open"
    assert breaker.wait_s() == RECOVERY_S
    assert breaker.open_s() == RECOVERY_S


def test_a_probe_that_never_reports_does_not_keep_it_open_for_ever() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += RECOVERY_S
    lost = breaker.enter()
    clock.now += RECOVERY_S
    second = breaker.enter()
    assert second is not None
    breaker.failed(lost or 0, "late news of the lost one")
    assert str(breaker.state) == "half_open"
    breaker.succeeded(second)
    assert str(breaker.state) == "closed"


def test_an_abandoned_probe_may_be_made_again_at_once() -> None:
    clock = Clock()
    breaker = opened(clock)
    clock.now += RECOVERY_S
    breaker.abandoned(breaker.enter() or 0)
    assert breaker.enter() is not None


class BreakerMachine(RuleBasedStateMachine):
    """Any order of calls, results, late results and time against a plain model of the rules."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.openings = 0
        self.closings = 0
        self.breaker = Breaker(
            THRESHOLD, RECOVERY_S, clock=self.clock, on_open=self._count_open, on_close=self._count_close
        )
        self.in_a_row = 0
        self.opened_at: float | None = None
        self.last_probe_at = float("-inf")
        self.era = 0

    def _count_open(self, reason: str) -> None:
        assert reason
        self.openings += 1

    def _count_close(self, open_s: float) -> None:
        assert open_s >= RECOVERY_S
        self.closings += 1

    @rule(target=calls)
    def call(self) -> tuple[int, int, bool] | None:
        before = self.breaker.state
        permit = self.breaker.enter()
        if before == "closed":
            assert permit is not None, "a closed breaker refuses nobody"
            return (permit, self.era, False)
        if permit is None:
            return None
        assert self.opened_at is not None
        assert self.clock.now >= self.opened_at + RECOVERY_S, "no call before the recovery time"
        assert self.clock.now >= self.last_probe_at + RECOVERY_S, "one probe at a time"
        self.last_probe_at = self.clock.now
        self.era += 1
        return (permit, self.era, True)

    @rule(call=consumes(calls), fails=st.booleans())
    def result(self, call: tuple[int, int, bool] | None, fails: bool) -> None:
        if call is None:
            return
        permit, era, probe = call
        state = self.breaker.state
        if fails:
            self.breaker.failed(permit, "refused")
        else:
            self.breaker.succeeded(permit)
        if era != self.era:
            assert self.breaker.state == state, "late news changes nothing"
            return
        if probe:
            self.era += 1
            assert self.breaker.state == ("open" if fails else "closed")
            self.in_a_row = 0
            if not fails:
                self.opened_at = None
            return
        self.in_a_row = self.in_a_row + 1 if fails else 0
        if self.in_a_row == THRESHOLD:
            self.in_a_row = 0
            self.era += 1
            self.opened_at = self.clock.now
            self.last_probe_at = float("-inf")
            assert self.breaker.state == "open"
        else:
            assert self.breaker.state == "closed"

    @rule(ticks=st.integers(1, 3 * TICKS_PER_S))
    def time_passes(self, ticks: int) -> None:
        self.clock.now += ticks / TICKS_PER_S

    @precondition(lambda self: self.breaker.state != "closed")
    @rule()
    def the_server_comes_back(self) -> None:
        """Liveness: from any state, time and one good answer close it."""
        self.clock.now += self.breaker.wait_s()
        probe = self.breaker.enter()
        assert probe is not None
        self.breaker.succeeded(probe)
        assert self.breaker.state == "closed"
        self.era += 2
        self.in_a_row = 0
        self.opened_at = None

    @invariant()
    def openings_and_closings_alternate(self) -> None:
        assert self.openings - self.closings == (0 if self.breaker.state == "closed" else 1)
        assert self.openings == self.breaker.opened


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
