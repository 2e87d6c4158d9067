"""The benchmarks' traffic is what a box really stores: whole lives, in order, at the rate that was asked for."""

from __future__ import annotations

import random
from collections import Counter
from itertools import islice

from appliance.sqlite import sqlite3
from appliance.store.projection import Projection, StoredFact
from appliance.store.schema import SCHEMA
from bench.traffic import CLIPS, Publisher, count, grouped, last_fact, life, lives
from bus.events import Event, encode
from bus.ids import new_id
from bus.subjects import event_subject


def test_a_life_leaves_every_clip_ready_or_failed() -> None:
    database = sqlite3.connect(":memory:", isolation_level=None)
    database.executescript(SCHEMA)
    projection, rng, seq = Projection(database), random.Random(1), 0
    for _ in range(60):
        for commit in life(new_id(), rng):
            events = [message for message in commit if isinstance(message, Event)]
            assert commit[0] is events[0], "a commit begins with its fact"
            projection.apply(
                [StoredFact(seq + n, event_subject(event), encode(event)) for n, event in enumerate(events, 1)]
            )
            seq += len(events)
    assert projection.undecodable == 0
    rows = database.execute("SELECT state, clips_planned, clips_ready + clips_failed FROM jobs").fetchall()
    assert rows == [("clipping", CLIPS, CLIPS)] * 60
    failed, retried = database.execute(
        "SELECT sum(clips_failed), (SELECT count(*) FROM events WHERE type = 'job:retrying') FROM jobs"
    ).fetchone()
    assert failed > 0
    assert retried > 0


def test_lives_are_mixed_and_grouped_without_losing_a_fact() -> None:
    commits = list(islice(lives(random.Random(2), under_way=5), 300))
    assert len({commit[0].job for commit in commits[:20]}) > 2
    again = [message for group in islice(grouped(iter(commits), 8), 20) for message in group]
    assert again == [message for commit in commits for message in commit][: len(again)]
    assert all(count(group) >= 8 for group in islice(grouped(iter(commits), 8), 20))


async def test_a_publisher_keeps_what_was_acknowledged_and_counts_what_was_not() -> None:
    stored: Counter[str] = Counter()

    async def store(commit: list[object]) -> int:
        stored["commits"] += 1
        if stored["commits"] % 10 == 0:
            raise OSError("refused")
        first = 1 + stored["messages"]
        stored["messages"] += len(commit)
        return first

    publisher = Publisher(store)  # type: ignore[arg-type]
    await publisher.paced(lives(random.Random(3)), 2000, 0.3, random.Random(4))
    assert publisher.acked_facts == sum(len(one.facts) for one in publisher.sent)
    assert publisher.refused_facts > 0
    assert publisher.acked_facts + publisher.refused_facts < 900, "600 were asked for"
    assert last_fact(publisher.sent) <= stored["messages"]
    assert last_fact([]) == 0
