"""Users, workers, supervisor and dispatcher on one stream, in any order, with every fault: no illegal state, ever.

Hypothesis chooses who goes on, what answer gets lost, who dies, what is delivered twice or late, and when the stream's
folder is lost. What runs is the product's own code (`tests.property.world`); what is right is written down a second
time (`tests.property.history`). `make test` walks about a thousand steps, `make fuzz` more than 10,000.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from appliance.intake import cancel_job, create_job, delete_job, retry_job
from appliance.sqlite import sqlite3
from appliance.store.database import open_writer
from appliance.store.projection import Projection, StoredFact
from appliance.store.queries import dump
from appliance.store.schema import PROJECTED
from bus.commit import outgoing
from bus.events import FileDeleted, FilesPinned, FilesUnpinned, JobOptions, JobSource, ServiceUp, UserAction
from tests.property.history import LIVE, Job, read
from tests.property.stream import Fate, Turn
from tests.property.world import World, done, failed

T = TypeVar("T")
SOURCE = JobSource(kind="file", location="/v/talk.mp4", name="talk.mp4")
MOST_ACTORS = 12
MOST_JOBS = 4
COUNTED = ("jobs", "completed", "failed", "cancelled", "clips_ready", "clips_failed")
"""Columns of the figures by hour that the facts are compared with."""
MOST_ROUNDS = 3000
"""Until everything must have come to rest, with a bus that answers and nobody who interferes."""

which = st.integers(0, 10_000)
fates = st.sampled_from([*[Fate.ANSWERED] * 6, Fate.STORED_BUT_UNHEARD, Fate.NEVER_SENT])
outcomes = st.sampled_from([*[done(2)] * 5, done(0), done(1), failed(final=False), failed(final=True)])


async def inline(work: Callable[..., T], *args: Any) -> T:
    """In place of `asyncio.to_thread`: here nothing runs beside the test."""
    return work(*args)


class Jobs(RuleBasedStateMachine):
    """One box and what may happen to it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="jobs-"))
        self.patch = patch.object(asyncio, "to_thread", inline)
        self.patch.start()
        self.world = World(self.folder)

    def teardown(self) -> None:
        try:
            self.come_to_rest()
            self.judge()
        finally:
            self.patch.stop()
            self.world.connection.close()
            shutil.rmtree(self.folder)

    # -- people -------------------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.jobs()) < MOST_JOBS and self.has_room())
    @rule()
    def create(self) -> None:
        self.world.begin("create", create_job(self.world.bus, SOURCE, JobOptions()))

    @precondition(lambda self: self.jobs() and self.has_room())
    @rule(n=which, what=st.sampled_from(["cancel", "cancel", "retry", "delete"]))
    def ask(self, n: int, what: str) -> None:
        self.request(pick(self.jobs(), n), what)

    @precondition(lambda self: self.ended() and self.has_room())
    @rule(n=which)
    def retry(self, n: int) -> None:
        self.request(pick(self.ended(), n), "retry")

    def request(self, job: str, what: str) -> None:
        bus = self.world.bus
        if what == "cancel":
            self.world.begin("cancel", cancel_job(bus, job, by="me"))
        elif what == "retry":
            self.world.begin("retry", retry_job(bus, self.world.database, job, by="me"))
        else:
            self.world.begin("delete", delete_job(bus, job, by="me"))

    @precondition(lambda self: self.jobs())
    @rule(n=which, what=st.sampled_from(["pin", "unpin", "file", "user", "service"]))
    def say_something_else(self, n: int, what: str) -> None:
        """Facts that name a job and are none of its history, and facts of the box."""
        job = pick(self.jobs(), n)
        event = {
            "pin": FilesPinned(job=job, by="me"),
            "unpin": FilesUnpinned(job=job, by="me"),
            "file": FileDeleted(job=job, path="jobs/x", kind="scratch", size_bytes=1, reason="full"),
            "user": UserAction(job=job, user="me", action="job.cancel", target=job),
            "service": ServiceUp(service="web", pid=1),
        }[what]
        self.world.stream.store(outgoing(event))

    # -- time goes on -------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.waiting(Turn.BUS))
    @rule(n=which, fate=fates)
    def go_on(self, n: int, fate: Fate) -> None:
        self.world.go_on(pick(self.world.waiting(Turn.BUS), n), fate)

    @precondition(lambda self: self.world.waiting(Turn.STAGE))
    @rule(n=which, outcome=outcomes)
    def stage_ends(self, n: int, outcome: Any) -> None:
        self.world.go_on(pick(self.world.waiting(Turn.STAGE), n), outcome)

    @precondition(lambda self: self.world.stream.queued and self.has_room())
    @rule(n=which)
    def deliver(self, n: int) -> None:
        """A command that nobody acknowledged, perhaps one that somebody works on."""
        seq = pick(self.world.stream.queued, n)
        self.world.deliver(self.world.stream.messages[seq].command, seq)

    @precondition(lambda self: self.world.stream.scheduled)
    @rule(n=which)
    def fall_due(self, n: int) -> None:
        self.world.stream.fall_due(pick(self.world.stream.scheduled, n))

    @rule(most=st.integers(1, 30))
    def project(self, most: int) -> None:
        self.world.project(most)

    @precondition(lambda self: self.world.pending and self.has_room())
    @rule(n=which)
    def act(self, n: int) -> None:
        self.world.act(pick(self.world.pending, n))

    @rule(steps=st.integers(10, 80), outcome=outcomes)
    def a_good_while(self, steps: int, outcome: Any) -> None:
        """Everybody works as on a quiet day, one after the other, so that jobs get beyond their first stages."""
        for _ in range(steps):
            if not self.one_quiet_step(outcome):
                break

    @rule(steps=st.integers(10, 60), seed=which)
    def a_busy_while(self, steps: int, seed: int) -> None:
        """Everybody works at once, in any order, and people ask for this and that."""
        dice = random.Random(seed)
        for _ in range(steps):
            choices = [step for step, possible in self.steps(dice) if possible]
            dice.choice(choices)()

    def steps(self, dice: random.Random) -> list[tuple[Callable[[], object], object]]:
        """What may happen next on a busy day, and whether it can."""
        world, n, room = self.world, dice.randrange(10_000), self.has_room()
        fate = Fate.ANSWERED if dice.random() < 0.9 else dice.choice([Fate.STORED_BUT_UNHEARD, Fate.NEVER_SENT])
        outcome = dice.choice([done(2)] * 6 + [done(1), failed(final=False), failed(final=True)])
        people = dice.random() < 0.3
        return [
            (lambda: self.go_on(n, fate), world.waiting(Turn.BUS)),
            (lambda: self.go_on(n, fate), world.waiting(Turn.BUS)),
            (lambda: self.go_on(n, fate), world.waiting(Turn.BUS)),
            (lambda: self.stage_ends(n, outcome), world.waiting(Turn.STAGE)),
            (lambda: self.deliver(n), world.stream.queued and room),
            (lambda: self.fall_due(n), world.stream.scheduled),
            (lambda: world.project(1 + n % 5), True),
            (lambda: self.act(n), world.pending and room),
            (lambda: self.ask(n, "cancel"), people and self.jobs() and room),
            (lambda: self.retry(n), people and room and self.ended()),
        ]

    # -- trouble ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.stream.spent and self.has_room())
    @rule(n=which)
    def deliver_again(self, n: int) -> None:
        """Commands whose acknowledgement the server forgot."""
        self.world.deliver(pick(self.world.stream.spent, n), None)

    @precondition(lambda self: any(actor.name.startswith("worker") for actor in self.world.actors))
    @rule(n=which, seen=st.booleans())
    def kill_worker(self, n: int, seen: bool) -> None:
        workers = [actor for actor in self.world.actors if actor.name.startswith("worker")]
        self.world.kill_worker(pick(workers, n), seen=seen)

    @precondition(lambda self: (self.world.stream.queued or self.world.advisories) and self.has_room())
    @rule(n=which)
    def too_many_deliveries(self, n: int) -> None:
        if self.world.stream.queued and n % 2:
            self.world.too_many_deliveries(pick(self.world.stream.queued, n))
        elif self.world.advisories:
            self.world.advise(pick(self.world.advisories, n))

    @precondition(lambda self: self.world.projection.cursor > 0 and self.has_room())
    @rule(n=which, most=st.integers(1, 50))
    def do_again(self, n: int, most: int) -> None:
        """A batch that was projected already, and an action of a fact long gone by."""
        cursor = self.world.projection.cursor
        self.world.project_again(n % cursor, most)
        old = [fact.event for fact in self.world.stream.facts() if fact.seq <= cursor and fact.event.job is not None]
        if old:
            self.world.act(pick(old, n))

    @precondition(lambda self: self.world.projection.cursor > 0)
    @rule(kept=st.one_of(st.none(), st.none(), st.none(), st.just(0), which), after=st.integers(0, 20))
    def power_cut(self, kept: int | None, after: int) -> None:
        """Everything dies. `kept` is set: and the stream's folder comes back with its first `kept` messages only."""
        if kept is None:
            self.world.power_cut()
            return
        self.world.project(10_000)  # what only the lost stream held is lost
        self.world.lose_stream(kept % (len(self.world.stream.messages) + 1), after)

    # -- what must hold -----------------------------------------------------------------------------------------------

    @invariant()
    def the_sums_are_those_of_the_rows(self) -> None:
        db = self.world.connection
        for table in ("jobs", "clips"):
            counted = Counter(dict(db.execute(f"SELECT state, count(*) FROM {table} GROUP BY state")))
            kept = Counter(dict(db.execute("SELECT state, count FROM totals WHERE kind = ?", (table,))))
            assert +kept == counted, f"{table}: {kept} are told, {counted} are there"
        wrong = db.execute(
            "SELECT job, clips_ready, clips_failed FROM jobs WHERE"
            " clips_ready <> (SELECT count(*) FROM clips WHERE clips.job = jobs.job AND state = 'ready') OR"
            " clips_failed <> (SELECT count(*) FROM clips WHERE clips.job = jobs.job AND state = 'failed') OR"
            " clips_ready + clips_failed > coalesce(clips_planned, 0)"
        ).fetchall()
        assert not wrong

    @invariant()
    def rows_say_what_the_facts_say(self) -> None:
        cursor = self.world.projection.cursor
        told = read(fact.event for fact in self.world.stream.facts() if fact.seq <= cursor)
        rows = dict(self.world.connection.execute("SELECT job, state FROM jobs").fetchall())
        assert rows.keys() == told.keys()
        for job, found in told.items():
            assert rows[job] in _row_states(found), f"{rows[job]}, but {found}"
            assert self.clip_rows(job) == {n: clip.end for n, clip in found.clips.items()}
        counts = sum((found.counts for found in told.values()), Counter(jobs=len(told)))
        sums = ", ".join(f"coalesce(sum({name}), 0)" for name in COUNTED)
        hours = self.world.connection.execute(f"SELECT {sums} FROM hours").fetchone()
        assert dict(zip(COUNTED, hours, strict=True)) == {name: counts[name] for name in COUNTED}

    def clip_rows(self, job: str) -> dict[int, str | None]:
        rows = self.world.connection.execute("SELECT clip, state FROM clips WHERE job = ?", (job,))
        return {clip: state if state in ("ready", "failed") else None for clip, state in rows}

    def judge(self) -> None:
        """At the end: every job has ended, and every way to the tables gives the same bytes."""
        world = self.world
        facts = [StoredFact(one.seq, one.subject, one.data) for one in world.stream.facts()]
        open_jobs = [job for job, found in read(f.event for f in world.stream.facts()).items() if found.state in LIVE]
        assert not open_jobs, "\n".join(str(fact.event) for fact in world.stream.facts() if fact.event.job in open_jobs)
        here = tables(world.connection)
        with closing(open_writer(self.folder / "again.db")) as connection:
            other = Projection(connection)
            half = facts[: len(facts) // 2]
            for part in (half, half, facts, facts[len(facts) // 3 :]):
                other.apply(part)
            assert tables(connection) == here, "the stream, some of it twice, gives other rows"
            assert other.replay() == len(facts)
            assert tables(connection) == here, "the database's own facts give other rows"

    # -- coming to rest -----------------------------------------------------------------------------------------------

    def come_to_rest(self) -> None:
        for _ in range(MOST_ROUNDS):
            if not self.one_quiet_step(done(2)):
                return
        raise AssertionError("it does not come to rest")

    def one_quiet_step(self, outcome: Any) -> bool:
        """One thing that is due is done; False when nothing is."""
        world = self.world
        if actors := world.waiting(Turn.BUS):
            world.go_on(actors[0], Fate.ANSWERED)
        elif actors := world.waiting(Turn.STAGE):
            world.go_on(actors[0], outcome)
        elif world.advisories:
            world.advise(world.advisories[0])
        elif world.stream.queued:
            seq = world.stream.queued[0]
            world.deliver(world.stream.messages[seq].command, seq)
        elif world.stream.scheduled:
            world.stream.fall_due(world.stream.scheduled[0])
        elif world.stream.facts(world.projection.cursor):
            world.project(10)
        elif world.pending:
            world.act(world.pending[0])
        else:
            return False
        return True

    def jobs(self) -> list[str]:
        created = (one for one in self.world.stream.facts() if one.subject.startswith("evt.job.created."))
        return [one.subject.rsplit(".", 1)[1] for one in created]

    def ended(self) -> list[str]:
        jobs = read(fact.event for fact in self.world.stream.facts())
        return [job for job, found in jobs.items() if found.state not in (*LIVE, "deleted")]

    def has_room(self) -> bool:
        return len(self.world.actors) < MOST_ACTORS


def pick(choices: list[Any], n: int) -> Any:
    return choices[n % len(choices)]


def tables(connection: sqlite3.Connection) -> bytes:
    return dump(connection, (*PROJECTED, "events"))


def _row_states(job: Job) -> tuple[str, ...]:
    return ("queued", "running") if job.state == "open" else (job.state,)


TestJobs = Jobs.TestCase
LONG = settings.get_current_profile_name() == "fuzz"
TestJobs.settings = settings(
    max_examples=400 if LONG else 25,
    stateful_step_count=60 if LONG else 40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)
