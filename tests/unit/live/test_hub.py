"""Rooms, numbers, replay and slow readers, without a network."""

from __future__ import annotations

import sys
import threading

import msgspec
import pytest

from bus.events import AlertRaised, UserAction, encode
from bus.stored import Stored
from tests.unit.appliance import facts
from tests.unit.live.wires import enter, hub, stored
from web.live.hub import MAX_ROOMS, STALL_S


def alert() -> AlertRaised:
    return AlertRaised(alert="disk", severity="warning", message="full")


def test_an_event_reaches_the_rooms_of_its_row_and_each_counts_its_own() -> None:
    box = hub()
    _, everything = enter(box, "admin", "jobs", "job.a")
    _, one = enter(box, "job.a", role="viewer")
    _, other = enter(box, "job.b", role="viewer")
    for wire in (everything, one, other):
        wire.told()
    box.fact(stored(3, facts.created("a")))
    box.fact(stored(5, alert()))
    assert [(told["seq"], told["rooms"]) for told in everything.told()] == [
        (3, {"admin": 1, "jobs": 1, "job.a": 1}),
        (5, {"admin": 2, "monitoring": 1}),
    ]
    assert [told["seq"] for told in one.told()] == [3]
    assert other.told() == []


def test_the_event_is_the_bytes_of_the_bus() -> None:
    box = hub()
    _, wire = enter(box, "admin")
    wire.told()
    event = UserAction(user="ada", action="job.cancel", target="ümlaut \u2028")
    box.fact(stored(1, event))
    assert encode(event) in wire.written[0]
    assert wire.told()[0]["event"] == msgspec.json.decode(encode(event))


@pytest.mark.parametrize("data", [b"", b"{", b'{"a":1}}', b'"\xff"', b"\xff\xfe", b'{"a":NaN}'])
def test_bytes_that_are_not_json_do_not_break_the_readers(data: bytes) -> None:
    box = hub()
    _, wire = enter(box, "admin")
    wire.told()
    box.fact(Stored(seq=1, subject="evt.user.action.x", data=data, time="2026-01-01T00:00:00Z"))
    assert wire.told()[0]["event"] == data.decode(errors="replace")


def test_a_type_that_the_table_does_not_know_is_for_administrators() -> None:
    box = hub()
    _, admin = enter(box, "admin")
    _, operator = enter(box, "monitoring", "jobs", role="operator")
    admin.told(), operator.told()
    box.fact(Stored(seq=1, subject="evt.moon.rose.x", data=b"{}", time="2026-01-01T00:00:00Z"))
    assert len(admin.told()) == 1
    assert operator.told() == []


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        ("viewer", {"jobs", "job.a"}),
        ("operator", {"jobs", "job.a", "monitoring"}),
        ("admin", {"jobs", "job.a", "monitoring", "admin"}),
        ("stranger", set()),
    ],
)
def test_each_room_asks_for_its_role(role: str, allowed: set[str]) -> None:
    box = hub()
    client, wire = enter(box, "jobs", "job.a", "monitoring", "admin", "job.", "job.A", "nowhere", role=role)
    assert client.rooms == allowed
    told = wire.told()
    assert told[-1]["rooms"] == dict.fromkeys(sorted(allowed), 0)
    codes = [one["code"] for one in told if one["kind"] == "error"]
    assert codes.count("unknown-room") == 3
    assert codes.count("forbidden") == 4 - len(allowed)


def test_a_reader_is_in_a_bounded_number_of_rooms() -> None:
    box = hub()
    client, wire = enter(box, *(f"job.j{n}" for n in range(MAX_ROOMS + 1)))
    assert len(client.rooms) == MAX_ROOMS
    assert wire.told()[0]["code"] == "too-many-rooms"


def test_a_reader_that_comes_back_gets_what_it_missed_and_its_numbers_go_on() -> None:
    box = hub()
    for seq in range(1, 6):
        box.fact(stored(seq, facts.created(f"j{seq}")))
    box.fact(stored(6, alert()))
    box.fact(stored(7, UserAction(user="ada", action="x")))
    _, wire = enter(box, "jobs", "monitoring", at=("e1", 3))
    hello, *missed = wire.told()
    assert hello["rooms"] == {"jobs": 3, "monitoring": 0}
    assert [(one["seq"], one["rooms"].get("jobs")) for one in missed] == [(4, 4), (5, 5), (6, None)]


def test_a_reader_that_missed_nothing_gets_nothing() -> None:
    box = hub()
    box.fact(stored(1, facts.created("a")))
    _, wire = enter(box, "jobs", at=("e1", 1))
    assert [told["kind"] for told in wire.told()] == ["hello"]


@pytest.mark.parametrize(
    ("epoch", "seq", "reason"),
    [("e0", 30, "epoch"), ("e1", 2, "too-old"), ("e1", 5000, "ahead"), ("e1", 20, "too-many")],
)
def test_who_cannot_be_helped_must_start_over(epoch: str, seq: int, reason: str) -> None:
    box = hub(ring_events=30, max_queue_bytes=16 * 1024)
    for number in range(1, 41):
        box.fact(stored(number, facts.created("j" * 32)))
    enough = enter(box, "jobs", at=("e1", 35))[1].told()
    assert len(enough) == 6
    hello, reset = enter(box, "jobs", at=(epoch, seq))[1].told()
    assert (hello["kind"], reset["kind"], reset["reason"], reset["seq"]) == ("hello", "reset", reason, 40)


def test_another_stream_resets_everybody() -> None:
    box = hub()
    _, wire = enter(box, "jobs")
    wire.told()
    box.begin("e2", 7, "epoch")
    hello, reset = wire.told()
    assert (hello["epoch"], reset["epoch"], reset["seq"]) == ("e2", "e2", 7)


def test_an_event_is_shown_once() -> None:
    box = hub()
    _, wire = enter(box, "jobs")
    wire.told()
    for seq in (1, 1, 3, 2):
        box.fact(stored(seq, facts.created("a")))
    assert [told["seq"] for told in wire.told()] == [1, 3]


def test_a_slow_reader_is_cut_alone_and_the_others_miss_nothing() -> None:
    box = hub(max_queue_bytes=16 * 1024)
    _, quick = enter(box, "jobs")
    _, slow = enter(box, "jobs", takes=False)
    quick.told()
    for seq in range(1, 101):
        box.fact(stored(seq, facts.created("a")))
    assert slow.aborted
    assert 16 * 1024 < slow.waiting < 17 * 1024
    assert len(quick.told()) == 100
    assert box.figures().ended == {"slow": 1}
    assert box.connections == 1


def test_a_reader_that_takes_nothing_is_cut_after_a_while_and_one_that_takes_little_is_not() -> None:
    now = 0.0
    from appliance.face import WebSocket
    from web.live.hub import Hub

    box = Hub(WebSocket(), clock=lambda: now)
    box.begin("e1", 0, "epoch")
    _, stalled = enter(box, "jobs", takes=False)
    _, crawling = enter(box, "jobs", takes=False)
    box.fact(stored(1, facts.created("a")))
    while now < 4 * STALL_S:
        now += 0.25
        crawling.waiting = max(1, crawling.waiting - 1)
        box.tick()
    assert (stalled.aborted, crawling.aborted) == (True, False)
    crawling.waiting = 0
    box.tick()
    assert box.figures().lagging == 0
    assert box.figures().ended == {"stalled": 1}


def test_the_heartbeat_tells_each_reader_its_own_rooms() -> None:
    box = hub()
    _, viewer = enter(box, "jobs", role="viewer")
    _, admin = enter(box, "admin", "monitoring")
    box.fact(stored(4, facts.created("a")))
    viewer.told(), admin.told()
    box.heartbeat()
    assert viewer.told() == [{"kind": "heartbeat", "epoch": "e1", "seq": 4, "rooms": {"jobs": 1}, "bus": "down"}]
    assert admin.told()[0]["rooms"] == {"admin": 1, "monitoring": 0}


def test_the_bus_going_and_coming_is_told_at_once() -> None:
    box = hub()
    _, wire = enter(box, "jobs")
    wire.told()
    for state in ("up", "up", "down"):
        box.bus_is(state)
    assert [told["bus"] for told in wire.told()] == ["up", "down"]


def test_a_login_that_is_over_ends_its_connections_only() -> None:
    box = hub()
    _, mine = enter(box, "jobs", login="mine")
    _, second = enter(box, "jobs", login="mine")
    _, yours = enter(box, "jobs", login="yours")
    box.end_login("mine")
    assert (mine.closed, second.closed) == ((4401, "the login is over"), (4401, "the login is over"))
    assert yours.closed is None
    box.fact(stored(1, facts.created("a")))
    assert box.figures().ended == {"logged-out": 2}


def test_leaving_a_room_ends_its_events() -> None:
    box = hub()
    client, wire = enter(box, "jobs", "admin")
    box.leave(client, ["admin", "nowhere"])
    wire.told()
    box.fact(stored(1, alert()))
    assert wire.told() == []


def test_empty_rooms_of_old_jobs_are_forgotten_and_those_in_use_are_not() -> None:
    box = hub(ring_events=16)
    _, wire = enter(box, "job.kept")
    box.fact(stored(1, facts.created("kept")))
    for seq in range(2, 100):
        box.fact(stored(seq, facts.created(f"j{seq}")))
    box.fact(stored(100, facts.started("kept", "download")))
    assert wire.told()[-1]["rooms"]["job.kept"] == 2
    assert len(box._rooms._counts) <= 16 + 3


def test_telemetry_has_no_number_and_is_not_kept() -> None:
    box = hub()
    _, operator = enter(box, "monitoring", role="operator")
    _, viewer = enter(box, "jobs", role="viewer")
    operator.told(), viewer.told()
    box.host(b'{"host":"h","ts":1}')
    box.host(b"not json")
    box.host(b"{}")
    assert operator.told() == [{"kind": "host", "host": "h", "ts": 1}]
    assert viewer.told() == []
    box.progress(b'{"job":"a","clip":null,"stage":"cut","done":0.5,"eta_s":3.0,"elapsed_s":3.0}')
    (told,) = viewer.told()
    assert (told["kind"], told["job"], told["done"], told["eta_s"]) == ("progress", "a", 0.5, 3.0)
    assert enter(box, "jobs", at=("e1", 0))[1].told()[1:] == []


def test_the_figures_may_be_asked_for_on_another_thread() -> None:
    """`/metrics` is made on one: readers come and go meanwhile."""
    box = hub()
    asked, done = threading.Event(), threading.Event()
    failed: list[Exception] = []

    def ask() -> None:
        while not done.is_set():
            try:
                box.figures()
            except RuntimeError as error:
                failed.append(error)
                return
            finally:
                asked.set()

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    other = threading.Thread(target=ask)
    other.start()
    try:
        asked.wait(10)
        for number in range(3000):
            client, _ = enter(box, *(f"job.j{number + n}" for n in range(8)), takes=False)
            box.fact(stored(number + 1, facts.created(f"j{number}")))
            box.closed(client)
    finally:
        done.set()
        other.join()
        sys.setswitchinterval(before)
    assert failed == []
