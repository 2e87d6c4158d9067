"""Provisioning: idempotent, repairs drift, names what it cannot change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from nats.js.api import StorageType

from bus.connection import Bus
from bus.errors import BusUnavailable, ProvisioningError
from bus.events import UserAction
from bus.provision import Drift, provision
from bus.streams import EVENTS, TELEMETRY, Limits, consumers, stage_consumer, streams
from bus.wire import DOMAIN
from tests.integration.conftest import NatsBox, nats_box


async def test_again_changes_nothing(nats: NatsBox) -> None:
    bus = await nats.bus()
    assert await provision(bus.jetstream) == []
    await nats.restart()
    # A stream in memory is gone after a restart: who starts the server provisions each time.
    assert await provision(bus.jetstream) == [Drift("created", TELEMETRY)]
    assert await provision(bus.jetstream) == []


async def test_everything_declared_exists_with_its_settings(nats: NatsBox) -> None:
    bus = await nats.bus()
    names = [info.config.name for info in await bus.jetstream.streams_info()]
    assert sorted(map(str, names)) == sorted(str(stream.name) for stream in streams())
    for stream, consumer in consumers():
        info = await bus.jetstream.consumer_info(stream, str(consumer.name))
        assert info.config.filter_subject == consumer.filter_subject


async def test_drift_is_found_and_repaired(nats: NatsBox) -> None:
    bus = await nats.bus()
    js = bus.jetstream
    events = streams()[0]
    await js.update_stream(replace(events, max_age=3600, subjects=["evt.>", "cmd.>", "sched.>", "stray.>"]))
    await js.add_consumer(EVENTS, replace(stage_consumer("cut"), ack_wait=99))
    drift = await provision(js)
    assert {(item.name, item.field) for item in drift} == {
        (EVENTS, "max_age"),
        (EVENTS, "subjects"),
        (f"{EVENTS}/cut", "ack_wait"),
    }
    assert all(item.kind == "repaired" for item in drift)
    assert await provision(js) == []
    info = await js.consumer_info(EVENTS, "cut")
    assert info.config.ack_wait == stage_consumer("cut").ack_wait


async def test_new_limits_are_applied_in_place(nats: NatsBox) -> None:
    bus = await nats.bus()
    await bus.publish(UserAction(user="ada", action="a"))
    drift = await provision(bus.jetstream, Limits(ack_wait_s=20.0))
    assert {item.field for item in drift} == {"ack_wait"}
    assert len(drift) == 6
    assert (await bus.stream_state()).messages == 1


async def test_a_missing_consumer_is_made_and_said(nats: NatsBox) -> None:
    bus = await nats.bus()
    await bus.jetstream.delete_consumer(EVENTS, "faces")
    assert await provision(bus.jetstream) == [Drift("created", f"{EVENTS}/faces")]


async def test_what_cannot_change_is_named(nats: NatsBox) -> None:
    bus = await nats.bus()
    js = bus.jetstream
    await js.delete_stream(TELEMETRY)
    await js.add_stream(replace(streams()[1], storage=StorageType.FILE))
    with pytest.raises(ProvisioningError, match=r"TELEMETRY.*storage is 'file', declared 'memory'"):
        await provision(js)


async def test_the_stream_serves_the_live_feed_and_batches(tmp_path: Path) -> None:
    """The features that the rest relies on are on, whatever the library's version calls them."""
    async with nats_box(tmp_path) as nats:
        bus: Bus = await nats.bus()
        config = (await bus.jetstream.stream_info(EVENTS)).config
        assert (config.allow_atomic, config.allow_msg_schedules, config.allow_direct) == (True, True, True)
        assert config.republish is not None
        assert (config.republish.src, config.republish.dest) == ("evt.>", "live.evt.>")


async def test_without_a_server_the_bus_is_unavailable(nats: NatsBox) -> None:
    bus = await nats.bus()
    await nats.kill()
    js = bus.client.jetstream(domain=DOMAIN, timeout=0.3)
    with pytest.raises(BusUnavailable):
        await provision(js)
