"""The event table: complete, readable, and made of words that mean something."""

from __future__ import annotations

import pytest

from appliance.dispatcher.table import ACTION_TYPES, ACTIONS, ROOMS, SECTIONS, TABLE, _row, lines, rooms_of, row_of
from bus.events import EVENT_TYPES, CacheRestored, Event, JobCompleted
from tests.unit.appliance import facts


def test_each_event_type_has_a_row_and_each_row_a_type() -> None:
    assert list(TABLE) == list(EVENT_TYPES), "in the order of bus.events"


def test_every_word_of_the_table_is_used() -> None:
    rows = TABLE.values()
    assert {room for row in rows for room in row.rooms} == set(ROOMS)
    assert {action for row in rows for action in row.actions} == set(ACTIONS)
    # websocket changes by connections only, which are no facts
    assert {section for row in rows for section in row.invalidate} == set(SECTIONS) - {"websocket"}


@pytest.mark.parametrize("name", TABLE)
def test_what_is_warmed_was_invalidated_and_every_fact_shows_in_the_event_flow(name: str) -> None:
    row = TABLE[name]
    assert set(row.warm) <= set(row.invalidate)
    assert "events" in row.invalidate
    assert "admin" in row.rooms, "operators see everything"
    job = issubclass(EVENT_TYPES[name], Event) and name.split(":")[0] in ("job", "clip")
    assert ("job" in row.rooms) == job
    assert (name in ACTION_TYPES) == bool(row.actions)


def test_a_word_that_means_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="dashbord"):
        _row("admin", "dashbord")


def test_the_room_of_a_job_carries_its_id() -> None:
    ready = facts.done("01j", "cut", 1)
    assert rooms_of(ready) == ("admin", "jobs", "job.01j")
    assert rooms_of(CacheRestored(down_s=1.0)) == ("admin", "monitoring")
    assert rooms_of(JobCompleted(clips_ready=1, clips_failed=0, seconds=1.0)) == ("admin", "jobs")


def test_a_type_without_a_row_starts_nothing() -> None:
    class Later(Event, tag="later:type", frozen=True, kw_only=True):
        pass

    assert row_of(Later()).actions == rooms_of(Later()) == ()


def test_printed_it_is_one_line_a_type_in_columns() -> None:
    printed = lines()
    assert len(printed) == 1 + len(TABLE)
    starts = [printed[0].index(word) for word in ("rooms", "invalidate", "warm", "actions")]
    for line, (name, row) in zip(printed[1:], TABLE.items(), strict=True):
        assert line.startswith(name)
        cells = [line[a:b].split() for a, b in zip(starts, [*starts[1:], None], strict=True)]
        assert [len(cell) for cell in cells] == [
            max(1, len(words)) for words in (row.rooms, row.invalidate, row.warm, row.actions)
        ]
