"""What single parts do on a full disk: the bus's health, the watch over it, the database."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from appliance.config import Config
from appliance.dispatcher.opening import open_store
from appliance.errors import SourceUnavailable
from appliance.sqlite import sqlite3
from appliance.storage.ballast import Ballast
from appliance.storage.volume import measure
from appliance.store.database import journal_mode
from appliance.store.projection import StoredFact
from appliance.store.writer import Writer
from appliance.supervisor import bus_watch
from appliance.supervisor.bus_watch import BusWatch
from bus.connection import Bus
from bus.errors import BusUnavailable, Retryable
from bus.events import UserAction, encode
from bus.health import Health, HealthProbe
from bus.subjects import event_subject
from tests.integration.conftest import NatsBox, nats_box
from tests.integration.storage.smalldisk import MB, Filler, small_disk


def fact(number: int) -> UserAction:
    return UserAction(user="test", action="x" * 1000, target=str(number))


async def publish_until_refused(bus: Bus) -> int:
    for number in range(1000):
        try:
            await bus.publish(fact(number))
        except Retryable:
            return number
    raise AssertionError("the disk is not full")


async def test_a_frozen_stream_is_named_by_the_servers_own_report_and_healed_by_a_restart(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data", 48 * MB) as folder:
        filler = Filler(folder)
        async with nats_box(folder) as nats:
            probe = HealthProbe(folder, nats.spec.url)
            restarts = []
            watch = BusWatch(probe, folder, lambda: restarts.append(1))
            assert await probe.ask() == Health(status_code=200)
            await watch.look()
            before = (await (await nats.bus()).stream_state()).last_seq
            await asyncio.to_thread(filler.take_all)
            impatient = await nats.bus(attempt_s=0.5, patience_s=1.0)
            stored = await publish_until_refused(impatient)
            health = await probe.ask()
            assert health.frozen
            assert "EVENTS" in health.error
            await watch.look()
            assert restarts == [], "it would freeze again: there is no room"
            await asyncio.to_thread(filler.remove)
            assert (await probe.ask()).frozen, "room alone heals nothing"
            await watch.look()
            assert restarts == [1]
            await nats.restart()
            with pytest.raises(BusUnavailable):
                await probe.ask()  # of the old connection
            assert not (await probe.ask()).frozen
            await watch.look()
            assert restarts == [1]
            assert (await impatient.stream_state()).last_seq == before + stored, "what was acknowledged is there"
            await impatient.publish(fact(1))
            await probe.close()


async def test_who_asks_for_health_may_ask_for_nothing_else(nats: NatsBox) -> None:
    probe = HealthProbe(nats.data_dir, nats.spec.url)
    assert not (await probe.ask()).frozen
    assert probe._client is not None
    with pytest.raises(Exception, match="timeout"):
        await probe._client.request("$SYS.REQ.SERVER.PING.CONNZ", b"", timeout=0.5)
    await probe.close()


async def test_a_bus_that_is_away_is_not_restarted(nats: NatsBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_watch, "LOOK_S", 0.05)
    restarts: list[int] = []
    probe = HealthProbe(nats.data_dir, nats.spec.url)
    watching = asyncio.create_task(BusWatch(probe, nats.data_dir, lambda: restarts.append(1)).serve())
    await nats.kill()
    await asyncio.sleep(0.3)  # several looks that find nobody: that nothing comes of them is the test
    await nats.start()
    await asyncio.sleep(0.3)
    assert not watching.done()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    assert restarts == []


async def test_the_database_waits_for_room_and_goes_on_with_what_it_was_given(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data", 4 * MB) as folder:
        filler = Filler(folder)
        store = await Writer.open(folder / "appliance.db")
        events = [fact(number) for number in range(400)]
        facts = [StoredFact(n, event_subject(event), encode(event)) for n, event in enumerate(events, 1)]
        await store.apply(facts[:10])
        await asyncio.to_thread(filler.take_all)
        waiting = asyncio.create_task(store.apply(facts[10:]))
        noting = asyncio.create_task(store.set_meta("a", "b"))
        await asyncio.sleep(1.5)  # at least one try: that it neither fails nor is done is the test
        assert not waiting.done()
        assert (await asyncio.to_thread(measure, folder)).free_bytes < 100_000
        assert await asyncio.to_thread(_count, folder / "appliance.db") == 10, "reading goes on"
        await asyncio.to_thread(filler.remove)
        assert len(await waiting) == 390
        await noting
        assert await store.cursor() == 400
        assert await asyncio.to_thread(_count, folder / "appliance.db") == 400
        await store.close()


def _count(path: Path) -> int:
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(db.execute("SELECT count(*) FROM events").fetchone()[0])
    finally:
        db.close()


async def test_a_box_started_on_a_full_disk_opens_its_database(tmp_path: Path) -> None:
    with small_disk(tmp_path / "data", 16 * MB) as folder:
        config, ballast = Config(data_dir=folder), Ballast(folder)
        await (await open_store(config)).close()
        assert await asyncio.to_thread(ballast.take, 4 * MB)
        await asyncio.to_thread(Filler(folder).take_all)
        assert (await asyncio.to_thread(measure, folder)).free_bytes == 0
        store = await open_store(config)
        await store.apply([StoredFact(1, event_subject(fact(1)), encode(fact(1)))])
        await store.close()
        if journal_mode() == "wal":  # with a rollback journal it had been opened without
            assert await asyncio.to_thread(lambda: ballast.bytes) == 0
            await asyncio.to_thread(Filler(folder).take_all)
            with pytest.raises(SourceUnavailable, match="its disk is full"):
                await open_store(config)
