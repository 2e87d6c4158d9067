"""`kill -9` or SIGSTOP of anything at any moment: every job ends, every clip is made once, nothing is left lying about.

After each trial every acknowledged fact is a row, the rows are those that the stream gives, what is cached is what the
rows say, every program is up and no alert about the box stays raised (`tests.faults.invariants`).

`make test` runs 30 seeded trials, `make chaos` 300 (`CHAOS_TRIALS`). The seed is printed; `CHAOS_SEED` repeats a run.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from appliance.cli import main
from appliance.intake import create_job, source_of
from appliance.sqlite import sqlite3
from appliance.store.queries import dump
from appliance.store.schema import PROJECTED
from bus.connection import Bus
from bus.deadletters import list_dead_letters
from bus.errors import BusError
from bus.events import STAGES, JobOptions, JobSource, StageName, StageStarted
from tests.faults.harness import RealBox, check_invariants, facts_of, history, job_states, wait_for_end
from tests.faults.invariants import Shadow, Speaker, at_rest, check_cache
from tests.media.maker import Spec, make

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(7200)]

TRIALS = int(os.environ.get("CHAOS_TRIALS", "30"))
SEED = int(os.environ.get("CHAOS_SEED", str(random.SystemRandom().randrange(10**9))))
OPTIONS = JobOptions(clips=2, min_length_s=2.0, max_length_s=4.0)
END_TIMEOUT_S = 90.0
QUICK_TO_COMPLAIN = "alerts: {boot_grace_s: 0}\ndispatcher: {workers_missing_s: 0, cache_validate_s: 5}\n"
"""So that faults raise alerts, which then must clear."""
RECOVERY_LIMIT_S = 10.0
"""Product limit: from a worker's death to the next attempt's start."""


@pytest.fixture(scope="module")
def source() -> JobSource:
    path, _ = make(Spec(seconds=8.0, width=320, height=180, scenes=("seated", "pair")))
    return source_of(str(path))


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBox]:
    box = RealBox(tmp_path_factory.mktemp("box"), QUICK_TO_COMPLAIN)
    box.start()
    yield box
    box.stop()
    assert box.leftovers() == []


Victim = Callable[[RealBox, random.Random, str], Awaitable[float | None]]
"""Kills something while a job runs; for a worker returns when, for measuring the recovery."""


@dataclass(frozen=True)
class Trial:
    name: str
    kill: Victim


def in_stage(stage: StageName, what: str) -> Trial:
    """Kill the stage's worker, or only the child that runs the stage, a random moment after it starts on the job."""

    async def kill(box: RealBox, dice: random.Random, job: str) -> float | None:
        async with box.bus() as bus:
            await started(bus, job, stage)
        await asyncio.sleep(dice.uniform(0.0, 0.6))
        words = ("appliance.worker", stage) if what == "worker" else ("appliance.worker.child",)
        if not await asyncio.to_thread(box.kill, *words):
            return None
        return time.time() if what == "worker" else None

    return Trial(f"{what} in {stage}", kill)


def frozen(name: str, *words: str) -> Trial:
    """SIGSTOP all that is found for some seconds: less than the supervisor waits for a sign of life."""

    async def freeze(box: RealBox, dice: random.Random, job: str) -> None:
        await asyncio.sleep(dice.uniform(0.0, 4.0))
        with box.frozen(*words):
            await asyncio.sleep(dice.uniform(1.0, 4.0))

    return Trial(f"{name} frozen", freeze)


def process(name: str, *words: str) -> Trial:
    async def kill(box: RealBox, dice: random.Random, job: str) -> None:
        await asyncio.sleep(dice.uniform(0.0, 5.0))
        await asyncio.to_thread(box.kill, *words)

    return Trial(name, kill)


async def _supervisor(box: RealBox, dice: random.Random, job: str) -> None:
    await asyncio.sleep(dice.uniform(0.0, 5.0))
    assert box.process is not None
    box.process.kill()
    await asyncio.to_thread(box.process.wait)
    await asyncio.to_thread(box.start)  # at once: the old children may still be dying


async def _everything(box: RealBox, dice: random.Random, job: str) -> None:
    await asyncio.sleep(dice.uniform(0.0, 5.0))
    await asyncio.to_thread(box.kill_everything)
    await asyncio.to_thread(box.start)


CACHE = next((name for name in ("redis-server", "valkey-server") if shutil.which(name)), None)
CACHE_KINDS = [] if CACHE is None else [process("cache", CACHE), frozen("cache", CACHE)]
KINDS = [
    *(in_stage(stage, "worker") for stage in STAGES),
    in_stage("transcribe", "child"),
    in_stage("cut", "child"),
    process("dispatcher", "appliance.dispatcher"),
    process("bus", "nats-server"),
    process("monitor", "appliance.monitor"),
    process("web", "-m", "web"),
    *CACHE_KINDS,
    frozen("dispatcher", "appliance.dispatcher"),
    frozen("monitor", "appliance.monitor"),
    frozen("bus", "nats-server"),
    frozen("workers", "appliance.worker"),
    Trial("supervisor", _supervisor),
    Trial("everything", _everything),
]


async def started(bus: Bus, job: str, stage: StageName) -> None:
    """Wait until the stage starts on the job or on a clip of it."""
    seen = 0
    async with asyncio.timeout(END_TIMEOUT_S), bus.live("evt.job.>") as feed:
        while True:
            for stored in await bus.read(seen, "evt.job.>"):
                seen = stored.seq
                event = stored.event
                if event.job == job and isinstance(event, StageStarted) and event.stage == stage:
                    return
            await feed.next(1.0)


def recovery_s(box: RealBox, job: str, stage: StageName, killed_at: float) -> float | None:
    """Seconds from the kill to the next start of the stage; None when the kill came too late to matter."""
    starts = [
        event.ts.timestamp()
        for _, event in facts_of(box.database, job)
        if isinstance(event, StageStarted) and event.stage == stage and (event.attempt > 1 or event.claim > 1)
    ]
    later = [at for at in starts if at >= killed_at]
    return min(later) - killed_at if later else None


def tell(capsys: pytest.CaptureFixture[str], line: str) -> None:
    """Print past the capture: a long trial is watched, and a failing one repeated by its seed."""
    with capsys.disabled():
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


async def test_random_kills(box: RealBox, source: JobSource, capsys: pytest.CaptureFixture[str]) -> None:
    dice = random.Random(SEED)
    recoveries: list[float] = []
    speaker, shadow = Speaker(), Shadow()
    tell(capsys, f"\n{TRIALS} kill trials, CHAOS_SEED={SEED}")
    for number in range(TRIALS):
        trial = KINDS[number] if number < len(KINDS) else dice.choice(KINDS)
        began = time.monotonic()
        try:
            async with box.bus() as bus, speaker.speaking(bus):
                job = await create_job(bus, source, OPTIONS)
                killed_at = await trial.kill(box, dice, job)
                await wait_for_end(box, [job], END_TIMEOUT_S)
            ended = time.monotonic()
            async with box.bus() as bus:
                await at_rest(box, bus)
                await shadow.check(box, bus, speaker.told)
                await check_cache(box, bus)
            await asyncio.to_thread(check_invariants, box, [job])
        except (AssertionError, BusError) as error:
            raise AssertionError(f"trial {number} ({trial.name}), CHAOS_SEED={SEED}: {error}") from error
        recovered = None
        if killed_at is not None:
            stage = next(stage for stage in STAGES if trial.name.endswith(stage))
            recovered = recovery_s(box, job, stage, killed_at)
            recoveries += [] if recovered is None else [recovered]
        took = f", next attempt after {recovered:.2f} s" if recovered is not None else ""
        rest_s = time.monotonic() - ended
        told = f"job done in {ended - began:5.1f} s, all at rest {rest_s:4.1f} s later{took}"
        tell(capsys, f"  {number + 1:3} {trial.name:22} {told}")
    ranked = sorted(recoveries)
    tell(capsys, f"recovery: n={len(ranked)} median {ranked[len(ranked) // 2]:.2f} s, worst {ranked[-1]:.2f} s")
    assert ranked[max(0, round(len(ranked) * 0.99) - 1)] <= RECOVERY_LIMIT_S


async def test_poison_is_given_up_with_its_reason_and_neighbours_finish(box: RealBox, source: JobSource) -> None:
    async with box.bus() as bus:
        poison = await create_job(bus, source, OPTIONS)
        neighbour = await create_job(bus, source, OPTIONS)
        killing = asyncio.create_task(_kill_each_attempt(box, bus, poison))
        states = await wait_for_end(box, [poison, neighbour], END_TIMEOUT_S)
        killing.cancel()
        await asyncio.gather(killing, return_exceptions=True)
        assert states == {poison: "failed", neighbour: "completed"}
        failed = facts_of(box.database, poison)[-1][1]
        told = history(box.database, poison)
        assert (failed.attempts, failed.code) == (3, "worker-lost"), told  # type: ignore[union-attr]
        assert "SIGKILL" in failed.error, told  # type: ignore[union-attr]
        letters = [one.letter for one in await list_dead_letters(bus) if one.letter.job == poison]
        assert [(letter.stage, letter.attempts) for letter in letters] == [("transcribe", 3)]
    await asyncio.to_thread(check_invariants, box, [neighbour])


async def _kill_each_attempt(box: RealBox, bus: Bus, job: str) -> None:
    """What a video that crashes its worker would do."""
    async with bus.live(f"evt.job.transcribing.{job}") as feed:
        async for fact in feed:
            assert isinstance(fact.event, StageStarted)
            await asyncio.to_thread(box.kill, "appliance.worker", "transcribe")


async def test_cancel_kills_the_running_stage_and_leaves_no_part(box: RealBox, source: JobSource) -> None:
    from appliance.intake import cancel_job

    async with box.bus() as bus:
        job = await create_job(bus, source, OPTIONS)
        await started(bus, job, "cut")
        assert await cancel_job(bus, job, by="test")
        assert not await cancel_job(bus, job, by="test")
        await wait_for_end(box, [job], 10.0)
        async with asyncio.timeout(10.0):
            while await _children(box) or _parts(box, job):
                await asyncio.sleep(0.05)
    assert job_states(box.database, [job]) == {job: "cancelled"}


async def _children(box: RealBox) -> list[str]:
    found = await asyncio.to_thread(box.find, "appliance.worker.child")
    return [str(process.pid) for process in found]


def _parts(box: RealBox, job: str) -> list[Path]:
    return [part for kind in ("jobs", "output") for part in (box.config.data_dir / kind / job).rglob("*.part")]


def test_after_all_that_both_copies_rebuild_to_the_same_bytes(box: RealBox) -> None:
    box.stop()
    tables = [_tables(box)]
    for origin in ("db", "stream"):
        result = CliRunner().invoke(main, ["-c", str(box.config_path), "rebuild", "--from", origin])
        assert result.exit_code == 0, result.output
        tables.append(_tables(box))
    assert tables[0] == tables[1] == tables[2]
    assert box.leftovers() == []
    box.start()


def _tables(box: RealBox) -> bytes:
    connection = sqlite3.connect(box.database)
    try:
        return dump(connection, (*PROJECTED, "events"))
    finally:
        connection.close()
