"""Any run of events, cuts, lost frames and returns: who follows the rules misses nothing and doubles nothing."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.feed_client import FeedState
from tests.unit.appliance import facts
from tests.unit.live.wires import FakeWire, hub, reader, stored
from web.live.client import Client
from web.live.hub import Hub

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.sampled_from(["a", "b"])),
        st.tuples(st.just("cut"), st.just("")),
        st.tuples(st.just("lose"), st.just("")),
        st.tuples(st.just("heartbeat"), st.just("")),
        st.tuples(st.just("join"), st.sampled_from(["job.a", "job.b"])),
        st.tuples(st.just("read"), st.just("")),
    ),
    max_size=80,
)


class Follower:
    """A client's rules over a wire that may lose frames; its snapshot is what the database holds, which may lag."""

    def __init__(self, box: Hub, room: str) -> None:
        self.box, self.room, self.state = box, room, FeedState()
        self.client: Client | None = None
        self.wire = FakeWire()
        self.included: list[int] = []
        """Sequences that the last snapshot brought."""

    def connect(self, history: list[tuple[int, str]], lag: int) -> None:
        if self.state.epoch is None:
            known = history[: max(0, len(history) - lag)]
            self.state.snapshot("e1", known[-1][0] if known else 0)
            self.included = [seq for seq, _ in known]
            self.state.applied.clear()
        self.state.connected()
        self.wire = FakeWire()
        self.client = Client(self.wire, reader(), "192.0.2.1")
        self.box.open(self.client, [self.room], self.state.epoch, self.state.seq)

    def read(self, skip: int = 0) -> None:
        told: list[dict[str, Any]] = self.wire.told()[skip:]
        for frame in told:
            verdict = self.state.take(frame)
            if verdict == "resync":
                self.state.epoch = None
            if verdict != "go-on":
                self.cut()
                return

    def cut(self) -> None:
        if self.client is not None:
            self.box.closed(self.client)
            self.client = None


@settings(max_examples=300)
@given(STEPS, st.sampled_from(["jobs", "job.a"]), st.sampled_from([16, 4096]))
def test_nothing_is_missed_or_doubled(steps: list[tuple[str, str]], room: str, ring: int) -> None:
    box = hub(ring_events=ring)
    history: list[tuple[int, str]] = []
    follower = Follower(box, room)
    for kind, what in steps:
        if follower.client is None:
            follower.connect(history, lag=2)
        match kind:
            case "event":
                seq = 2 * len(history) + 1  # commands lie between
                history.append((seq, what))
                box.fact(stored(seq, facts.created(what)))
            case "cut":
                follower.cut()
            case "lose":
                follower.read(skip=1)
            case "heartbeat":
                box.heartbeat()
            case "read":
                follower.read()
            case "join" if follower.client is not None:
                follower.read()
                if follower.client is not None and follower.state.counts is not None:
                    box.join(follower.client, [what])
    for _ in range(4):  # a reset, a return, a heartbeat: then it is whole
        if follower.client is None:
            follower.connect(history, lag=0)
        follower.read()
        box.heartbeat()
    wanted = [seq for seq, job in history if room == "jobs" or job == "a"]
    applied = [seq for seq in follower.state.applied if seq in wanted]
    known = [seq for seq in follower.included if seq in wanted]
    assert sorted(set(known + applied)) == wanted
    assert applied == sorted(set(applied)), "doubled or out of order"
    assert not set(known) & set(applied)
