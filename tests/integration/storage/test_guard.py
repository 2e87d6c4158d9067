"""The guard on a real bus, with a volume that says what the test wants; the ballast's blocks are real."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from appliance.config import Config
from appliance.control.ledger import Ledger
from appliance.storage import guard as module
from appliance.storage.ballast import Ballast
from appliance.storage.guard import Guard
from appliance.storage.sample import StorageSample, latest_storage
from appliance.storage.settings import Admission, Retention
from appliance.storage.sweep import Sweeper
from appliance.storage.volume import Volume
from appliance.store.writer import Writer
from bus.connection import Bus
from bus.events import STAGES
from tests.integration.conftest import NatsBox

MB = 1_000_000
ADMISSION = Admission(
    reserve_bytes=50 * MB,
    floor_bytes=40 * MB,
    full_bytes=10 * MB,
    ballast_bytes=2 * MB,
    resume_margin=1.25,
    max_percent=100.0,
    check_s=0.1,
)


class FakeVolume:
    """What is free as far as the guard can see."""

    def __init__(self) -> None:
        self.free = 1000 * MB

    def measure(self, _path: Path) -> Volume:
        return Volume(total_bytes=2000 * MB, free_bytes=self.free)


@pytest.fixture
def volume(monkeypatch: pytest.MonkeyPatch) -> FakeVolume:
    fake = FakeVolume()
    monkeypatch.setattr(module, "measure", fake.measure)
    return fake


class Woken(Sweeper):
    """Notes that space was said to be short."""

    shorts = 0

    def space_is_short(self) -> None:
        self.shorts += 1


@asynccontextmanager
async def guarding(nats: NatsBox, bus: Bus, admission: Admission = ADMISSION) -> AsyncIterator[Woken]:
    store = await Writer.open(nats.data_dir / "appliance.db")
    config = Config(data_dir=nats.data_dir, admission=admission, retention=Retention(free_bytes=100 * MB))
    sweeper = Woken(bus, store, config)
    task = asyncio.create_task(Guard(bus, config, sweeper).serve())
    try:
        yield sweeper
        assert not task.done(), "the guard ended"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()


def held(ledger: Ledger) -> set[str]:
    return {hold.target for hold in ledger.holds() if hold.holder == "storage"}


async def until_held(ledger: Ledger, targets: set[str]) -> None:
    async with asyncio.timeout(20):
        while held(ledger) != targets:
            await ledger.changed()


async def sample(bus: Bus, level: str) -> StorageSample:
    async with asyncio.timeout(20):
        while True:
            found = await latest_storage(bus, datetime.now(UTC))
            if found is not None and found.level == level:
                return found
            await asyncio.sleep(0.05)


async def test_levels_become_holds_and_holds_end(nats: NatsBox, volume: FakeVolume) -> None:
    bus = await nats.bus("dispatcher")
    ballast = nats.data_dir / "run" / "ballast"
    async with Ledger(bus) as ledger, guarding(nats, bus) as sweeper:
        assert (await sample(bus, "open")).reason is None
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(ballast.exists):
                await asyncio.sleep(0.05)
        assert held(ledger) == set()
        assert sweeper.shorts == 0

        volume.free = 90 * MB
        async with asyncio.timeout(20):
            while sweeper.shorts == 0:
                await asyncio.sleep(0.05)
        assert held(ledger) == set(), "short, but nobody is held up yet"

        volume.free = 39 * MB
        await until_held(ledger, {"intake"})
        told = await sample(bus, "closed")
        assert told.reason == (
            "39.0 MB are free on the data volume, less than the floor of 40.0 MB; the 0 open jobs will still need "
            "about 0 B; intake opens by itself at 50.0 MB"
        )
        assert ledger.holds("intake")[0].reason == told.reason

        volume.free = 900_000
        await until_held(ledger, {"intake", *STAGES})
        assert not await asyncio.to_thread(ballast.exists)
        assert (await sample(bus, "full")).ballast_bytes == 0

        volume.free = 23 * MB
        await until_held(ledger, {"intake"})
        volume.free = 60 * MB
        await until_held(ledger, set())
        async with asyncio.timeout(20):
            while not await asyncio.to_thread(ballast.exists):
                await asyncio.sleep(0.05)


async def test_a_ballast_that_is_not_wanted_any_more_goes(nats: NatsBox, volume: FakeVolume) -> None:
    bus = await nats.bus("dispatcher")
    ballast = Ballast(nats.data_dir)
    assert await asyncio.to_thread(ballast.take, 2 * MB)
    async with guarding(nats, bus, msgspec.structs.replace(ADMISSION, ballast_bytes=0)):
        assert (await sample(bus, "open")).ballast_bytes == 0
    assert not await asyncio.to_thread(ballast.path.exists)


async def test_a_restart_between_floor_and_margin_opens_nothing_early(nats: NatsBox, volume: FakeVolume) -> None:
    bus = await nats.bus("dispatcher")
    volume.free = 39 * MB
    async with Ledger(bus) as ledger:
        async with guarding(nats, bus):
            await until_held(ledger, {"intake"})
        volume.free = 45 * MB
        async with guarding(nats, bus):
            assert (await sample(bus, "closed")).free_bytes in (39 * MB, 45 * MB)
            async with asyncio.timeout(20):
                while (await sample(bus, "closed")).free_bytes != 45 * MB:
                    await asyncio.sleep(0.05)
            assert held(ledger) == {"intake"}
            volume.free = 50 * MB
            await until_held(ledger, set())


async def test_what_was_found_in_an_outage_is_said_after_it(nats: NatsBox, volume: FakeVolume) -> None:
    bus = await nats.bus("dispatcher", attempt_s=0.5, patience_s=1.0)
    async with Ledger(bus) as ledger, guarding(nats, bus):
        await sample(bus, "open")
        await nats.kill()
        volume.free = 39 * MB
        await asyncio.sleep(0.5)  # at least one look: what follows must come from what was found then
        volume.free = 45 * MB  # closes nothing that is open
        await nats.start()
        await until_held(ledger, {"intake"})
