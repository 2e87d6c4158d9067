"""Holds as data: what several come to, when one is over, how people read it, and when it must be said again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from appliance.control.holds import Hold, Mode, hold_of, strongest, targets_of
from appliance.control.keeper import Keeper
from bus.connection import StreamState
from bus.events import ControlChanged, encode
from bus.stored import Stored
from tests.unit.appliance import facts

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def held(mode: Mode = "pause", **changes: object) -> Hold:
    fields: dict[str, object] = {
        "target": "cut",
        "holder": "operator",
        "mode": mode,
        "by": "anna",
        "reason": "new card",
        "said_at": NOW,
        "until": None,
        "seq": 10,
    }
    return Hold(**{**fields, **changes})  # type: ignore[arg-type]


def test_the_strongest_hold_counts() -> None:
    assert strongest([]) == "run"
    assert strongest([held("pause"), held("drain"), held("pause")]) == "drain"


def test_a_hold_is_over_at_its_end_and_not_before() -> None:
    ends = held(until=NOW)
    assert ends.is_over(NOW)
    assert not ends.is_over(NOW - timedelta(microseconds=1))
    assert held("run").is_over(NOW)
    assert not held().is_over(NOW + 1000 * DAY)


def test_a_hold_reads_as_a_sentence() -> None:
    assert str(held(until=NOW)) == "paused by anna (operator) until 2026-01-31 12:00 UTC: new card"
    assert str(held("drain", by="storage", holder="storage", reason="")) == "drained by storage"


def test_only_the_ledgers_facts_are_holds() -> None:
    fact = ControlChanged(target="cut", holder="x", mode="pause", by="anna", reason="", until=NOW)
    found = hold_of(Stored(5, "evt.control.changed.cut.x", encode(fact)))
    assert found is not None
    assert (found.seq, found.until, found.said_at) == (5, NOW, fact.ts)
    assert hold_of(Stored(5, "evt.job.created.j", encode(facts.created("j")))) is None
    assert hold_of(Stored(5, "evt.control.changed.cut.x", b'{"type":"control:changed"}')) is None


def test_a_persons_word_for_targets() -> None:
    assert targets_of("intake") == ("intake",)
    assert len(targets_of("all")) == 6
    assert "intake" not in targets_of("all"), "what is queued goes on waiting; taking jobs in is another thing"
    with pytest.raises(ValueError, match="cutt"):
        targets_of("cutt")


@pytest.mark.parametrize(
    ("said_at", "seq", "size", "due"),
    [
        (NOW - 44 * DAY, 90, 10, False),
        (NOW - 46 * DAY, 90, 10, True),
        (NOW, 40, 60, True),
        (NOW, 60, 60, False),
        (NOW, 40, 40, False),
    ],
    ids=["young", "half the age", "old half of a stream half full", "new half", "stream with room"],
)
def test_a_hold_is_said_again_before_the_stream_forgets_it(said_at: datetime, seq: int, size: int, due: bool) -> None:
    keeper = Keeper(None, by="d", max_age_s=90 * 86400, max_bytes=100)  # type: ignore[arg-type]
    stream = StreamState(epoch="e", first_seq=0, last_seq=100, bytes=size, messages=101)
    assert keeper.is_ageing(held(said_at=said_at, seq=seq), stream, NOW) is due
