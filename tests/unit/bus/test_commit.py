"""What a commit turns into, without a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest

from bus.commit import MAX_BATCH, Expect, outgoing, prepare
from bus.errors import BusError, Denied, Stale, StorageRefused
from bus.events import ClipPlanned, Command, UserAction, decode_command, decode_event
from bus.ids import new_id
from bus.subjects import item_filter
from bus.wire import ApiRefusal, Refused, RefusedForNow, Wire, decode_ack, raise_refusal

JOB = new_id()
PLAN = ClipPlanned(job=JOB, clip=1, start_s=0, end_s=20, score=1, title="t", reasons=[])


def test_a_fact_carries_its_id() -> None:
    message = outgoing(PLAN)
    assert message.headers == {"Nats-Msg-Id": PLAN.id}
    assert decode_event(message.data) == PLAN


def test_a_held_back_command_becomes_a_schedule_in_utc() -> None:
    berlin = timezone(timedelta(hours=2))
    command = Command(stage="cut", job=JOB, clip=1, not_before=datetime(2026, 5, 1, 12, 0, 0, 250_000, tzinfo=berlin))
    message = outgoing(command)
    assert message.subject == f"sched.cut.{JOB}.1.{command.id}"
    assert message.headers == {
        "Nats-Msg-Id": command.id,
        "Nats-Schedule": "@at 2026-05-01T10:00:00.250000Z",
        "Nats-Schedule-Target": f"cmd.cut.{JOB}.1",
    }
    assert decode_command(message.data) == command


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        outgoing(Command(stage="cut", job=JOB, not_before=datetime(2026, 5, 1)))  # noqa: DTZ001 - the point


def test_what_is_not_a_commit_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        prepare([], None)
    with pytest.raises(ValueError, match="1 to 1000"):
        prepare([UserAction(user="u", action="a") for _ in range(MAX_BATCH + 1)], None)
    with pytest.raises(ValueError, match="share an id"):
        prepare([PLAN, PLAN], None)


def test_the_first_message_must_match_its_guard() -> None:
    """Else a lost answer could not be resolved: the look for our message would not find it."""
    guard = Expect(item_filter(JOB, 1), 0)
    assert len(prepare([PLAN, Command(stage="faces", job=JOB, clip=1)], guard)) == 2
    for first in (Command(stage="faces", job=JOB, clip=1), UserAction(user="u", action="a")):
        with pytest.raises(ValueError, match="must match its own guard"):
            prepare([first, PLAN], guard)
    with pytest.raises(ValueError, match="must match its own guard"):
        prepare([PLAN], Expect(item_filter(JOB), 0))


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (ApiRefusal(400, 10071, "wrong last sequence: 17"), Stale),
        (ApiRefusal(400, 10164, "wrong last sequence"), Stale),
        (ApiRefusal(503, 10077, "maximum bytes exceeded"), StorageRefused),
        (ApiRefusal(503, 10047, "insufficient storage resources available"), StorageRefused),
        (ApiRefusal(400, 10176, "atomic publish batch is incomplete"), RefusedForNow),
        (ApiRefusal(429, 10210, "atomic publish too many inflight"), RefusedForNow),
        (ApiRefusal(400, 10201, "atomic publish batch contains duplicate message id"), Refused),
        (ApiRefusal(500, 1, "who knows"), Refused),
    ],
)
def test_answers_become_our_errors(refusal: ApiRefusal, kind: type[BusError]) -> None:
    """Trap 13: storage trouble shares one code and class in the library; here it is one error that says what to do."""
    with pytest.raises(kind) as caught:
        raise_refusal(refusal, "evt.x")
    assert refusal.description in str(caught.value)
    with pytest.raises(kind):
        decode_ack(msgspec.json.encode({"error": msgspec.to_builtins(refusal), "stream": "EVENTS", "seq": 0}), "evt.x")


def test_a_lost_race_tells_where_the_item_is_now() -> None:
    with pytest.raises(Stale) as stale:
        raise_refusal(ApiRefusal(400, 10071, "wrong last sequence: 17"), "evt.x")
    assert stale.value.current == 17
    with pytest.raises(Stale) as vague:
        raise_refusal(ApiRefusal(400, 10164, "wrong last sequence"), "evt.x")
    assert vague.value.current is None


def test_an_answer_that_is_none_is_refused() -> None:
    with pytest.raises(Refused, match="unreadable answer"):
        decode_ack(b"", "evt.x")
    ack = decode_ack(b'{"stream":"EVENTS","domain":"box","seq":8,"batch":"b","count":3}', "evt.x")
    assert (ack.seq, ack.count, ack.duplicate) == (8, 3, False)


def test_denials_are_found_under_the_name_the_server_uses() -> None:
    wire = Wire.__new__(Wire)
    wire._denied, wire._waiting = {}, {}
    denied = Denied("no")
    assert not wire.deny(denied, "$js.api.stream.delete.events")
    assert wire.denied("$JS.box.API.STREAM.DELETE.EVENTS") is denied
    assert wire.denied("$JS.API.STREAM.INFO.EVENTS") is None
    for number in range(200):
        wire.deny(denied, f"evt.x.{number}")
    assert len(wire._denied) <= 64
    wire.forget_denials()
    assert wire.denied("evt.x.199") is None


def test_stored_times_are_utc() -> None:
    from bus.stored import Stored

    stored = Stored(1, "evt.a.b.c", b"{}", "2026-11-24T08:14:08.43075804Z")
    assert stored.stored_at == datetime(2026, 11, 24, 8, 14, 8, 430758, tzinfo=UTC)
