"""The traffic of the dispatcher's benchmarks: the lives of many jobs, as workers commit them, at a given rate.

A job with three clips is 28 facts in 25 commits, 15 of them with commands: what stages really store (one atomic batch
for "this is done, do the next"). One attempt in twenty is tried again, one clip in forty fails. Forty jobs are under
way at a time, and the next commit is that of any of them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from bus.connection import Bus
from bus.events import CLIP_STAGES, JOB_STAGES, Command, Event
from bus.ids import new_id
from tests.unit.appliance import facts

UNDER_WAY = 40
"""Jobs at a time, if not said otherwise."""
CLIPS = 3
IN_FLIGHT = 256
Commit = list[Event | Command]
Store = Callable[[Commit], Awaitable[int]]
"""Stores a commit and returns the sequence of its first message; raises when it was not acknowledged."""


class Sent(Struct, frozen=True):
    """One commit that was acknowledged. Times in seconds since 1970."""

    sent_s: float
    acked_s: float
    first_seq: int
    ids: tuple[str | None, ...]
    """Of its messages in order; None for a command."""

    @property
    def facts(self) -> list[tuple[int, str]]:
        """Sequence and id of each fact."""
        return [(seq, ident) for seq, ident in enumerate(self.ids, self.first_seq) if ident is not None]


def life(job: str, rng: random.Random) -> Iterator[Commit]:
    """All commits of one job, but the end, which is the dispatcher's to store."""
    yield [facts.created(job), Command(stage="download", job=job)]
    for number, stage in enumerate(JOB_STAGES):
        yield [facts.started(job, stage)]
        if rng.random() < 0.05:
            yield [facts.retrying(job, stage, 1)]
            yield [facts.started(job, stage, attempt=2)]
        done: Commit = [facts.done(job, stage, clips=CLIPS)]
        if number + 1 < len(JOB_STAGES):
            done.append(Command(stage=JOB_STAGES[number + 1], job=job))
        else:
            for clip in range(1, CLIPS + 1):
                done += [facts.planned(job, clip), Command(stage="faces", job=job, clip=clip)]
        yield done
    clips = {clip: iter(_clip(job, clip, rng)) for clip in range(1, CLIPS + 1)}
    while clips:
        clip = rng.choice(list(clips))
        if (commit := next(clips[clip], None)) is None:
            del clips[clip]
        else:
            yield commit


def _clip(job: str, clip: int, rng: random.Random) -> Iterator[Commit]:
    for number, stage in enumerate(CLIP_STAGES):
        yield [facts.started(job, stage, clip)]
        if rng.random() < 0.025 / len(CLIP_STAGES):
            yield [facts.clip_failed(job, clip, stage)]
            return
        done: Commit = [facts.done(job, stage, clip)]
        if number + 1 < len(CLIP_STAGES):
            done.append(Command(stage=CLIP_STAGES[number + 1], job=job, clip=clip))
        yield done


def lives(rng: random.Random, under_way: int = UNDER_WAY) -> Iterator[Commit]:
    """Commits of `under_way` jobs at a time, for ever, with the present as their time."""
    jobs = [life(new_id(), rng) for _ in range(under_way)]
    while True:
        n = rng.randrange(under_way)
        commit = next(jobs[n], None)
        if commit is None:
            jobs[n] = life(new_id(), rng)
            continue
        now = datetime.now(UTC)
        yield [replace(message, ts=now) if isinstance(message, Event) else message for message in commit]


def grouped(commits: Iterator[Commit], facts_each: int) -> Iterator[Commit]:
    """Several commits as one, of at least `facts_each` facts."""
    while True:
        group: Commit = []
        while count(group) < facts_each:
            group += next(commits)
        yield group


def lanes(rng: random.Random, number: int, facts_each: int) -> Iterator[Commit]:
    """As from `number` machines, each with jobs of its own: commits of `facts_each` facts or some more."""
    each = [grouped(lives(rng, max(1, UNDER_WAY // number)), facts_each) for _ in range(number)]
    while True:
        yield next(rng.choice(each))


def count(commit: Sequence[Event | Command]) -> int:
    """How many facts it holds."""
    return sum(1 for message in commit if isinstance(message, Event))


class Publisher:
    """Stores commits with `store` and keeps what was acknowledged in `sent`."""

    def __init__(self, store: Store) -> None:
        self._store_one = store
        self.sent: list[Sent] = []
        self._last: dict[str, asyncio.Task[None]] = {}
        self.acked_facts = 0
        self.refused_facts = 0
        """Of commits that were not acknowledged: they may be stored or not."""

    async def paced(
        self, commits: Iterator[Commit], rate_per_s: float, seconds: float, rng: random.Random | None
    ) -> None:
        """Facts at `rate_per_s` for `seconds`; ends when all are acknowledged.

        With the pauses of a Poisson process, which is how they come; or evenly (`rng` None), which is how a rate is
        offered exactly: few large commits with random pauses may be a tenth more or fewer.

        With `IN_FLIGHT` commits unanswered it waits: what is sent late then is the stream's doing, and shows in the
        rate that was reached.
        """
        slots = asyncio.Semaphore(IN_FLIGHT)
        due = began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            while due < began + seconds and time.monotonic() < began + 1.5 * seconds:
                commit = next(commits)
                due += (1 / rate_per_s if rng is None else rng.expovariate(rate_per_s)) * count(commit)
                if (early_s := due - time.monotonic()) > 0:
                    await asyncio.sleep(early_s)
                await slots.acquire()
                self._send(tasks, commit, slots)

    async def burst(self, batches: Iterator[Commit], total: int) -> None:
        """At least `total` facts as fast as they go."""
        slots = asyncio.Semaphore(8)
        left = total
        async with asyncio.TaskGroup() as tasks:
            while left > 0:
                commit = next(batches)
                left -= count(commit)
                await slots.acquire()
                self._send(tasks, commit, slots)

    def _send(self, tasks: asyncio.TaskGroup, commit: Commit, slots: asyncio.Semaphore) -> None:
        """Now, or when what was sent before of the same jobs is answered: as a stage waits for its start fact."""
        jobs = {str(message.job) for message in commit}
        before = {task for job in jobs if (task := self._last.get(job)) is not None and not task.done()}
        task = tasks.create_task(self._store(commit, before, slots))
        for job in jobs:
            self._last[job] = task

    async def _store(self, commit: Commit, before: set[asyncio.Task[None]], slots: asyncio.Semaphore) -> None:
        if before:
            await asyncio.wait(before)
        sent_s = time.time()
        try:
            first = await self._store_one(commit)
            acked_s = time.time()
            ids = tuple(message.id if isinstance(message, Event) else None for message in commit)
            self.sent.append(Sent(sent_s, acked_s, first, ids))
            self.acked_facts += count(commit)
        except OSError:
            self.refused_facts += count(commit)
        finally:
            slots.release()


def on(bus: Bus) -> Store:
    """Stores on our bus. What goes through an outage is repeated with the same ids."""

    async def store(commit: Commit) -> int:
        return (await bus.commit(commit)).first

    return store


def last_fact(sent: Sequence[Sent]) -> int:
    """The highest sequence of a fact."""
    return max((seq for one in sent for seq, _ in one.facts), default=0)
