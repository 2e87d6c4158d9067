"""Each role can do its work, and cannot do what is not its work."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from bus.connection import Bus
from bus.deadletters import DeadLetter, publish_dead_letter
from bus.errors import BusUnavailable, Denied
from bus.events import AlertRaised, Event, FileUploaded, ServiceUp, UserAction, WorkerOnline
from bus.ids import new_id
from bus.projection import FactReader
from bus.registry import Registry
from bus.roles import ROLES, Role
from bus.streams import DLQ, EVENTS
from bus.wire import API
from tests.integration.bus.samples import created, download, started
from tests.integration.conftest import NatsBox

JOB = created(new_id())
FILE = FileUploaded(file=new_id(), path="p", name="n", size_bytes=1, sha256="0", via="upload")
ALERT = AlertRaised(alert="cpu-high", severity="warning", message="m")
WORKER = WorkerOnline(worker="w1", stage="cut", pid=1, host="h")
SERVICE = ServiceUp(service="web", pid=1)
ACTION = UserAction(user="u", action="a")

MAY_PUBLISH: dict[Role, set[str]] = {
    "supervisor": {"job", "file", "alert", "worker", "service", "user"},
    "dispatcher": {"job", "file", "alert", "worker", "service", "user"},
    "worker": {"job", "alert", "worker"},
    "web": {"job", "file", "alert", "user"},
    "monitor": {"alert", "worker", "service"},
    "cli": {"job", "file", "user"},
    "tap": set(),
}


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_publishes_its_own_facts_only(nats: NatsBox, role: Role) -> None:
    bus = await nats.bus(role)
    events: dict[str, Event] = {
        "job": JOB,
        "file": FILE,
        "alert": ALERT,
        "worker": WORKER,
        "service": SERVICE,
        "user": ACTION,
    }
    for noun, event in events.items():
        if noun in MAY_PUBLISH[role]:
            await bus.publish(event)
        else:
            with pytest.raises(Denied, match=rf"'{role}' may not publish evt\.{noun}\."):
                await bus.publish(event)


@pytest.mark.parametrize("role", [role for role in ROLES if role != "supervisor"])
async def test_no_role_but_the_supervisor_changes_streams(nats: NatsBox, role: Role) -> None:
    bus = await nats.bus(role, patience_s=1.0)
    consumer: dict[str, Any] = {"stream_name": EVENTS, "config": {"deliver_subject": "evt.job.created.x"}}
    calls = {
        f"STREAM.DELETE.{EVENTS}": None,
        f"STREAM.UPDATE.{EVENTS}": {"name": EVENTS},
        "STREAM.CREATE.MINE": {"name": "MINE", "subjects": ["mine"]},
        f"STREAM.MSG.DELETE.{EVENTS}": {"seq": 1},
        f"CONSUMER.DELETE.{EVENTS}.cut": None,
        # A push consumer would publish stored messages wherever its creator likes.
        f"CONSUMER.CREATE.{EVENTS}": consumer,
        f"CONSUMER.CREATE.{EVENTS}.mine": consumer,
        f"CONSUMER.DURABLE.CREATE.{EVENTS}.mine": consumer,
    }
    for verb, body in calls.items():
        for prefix in (API, "$JS.API"):
            with pytest.raises(Denied):
                await bus.wire.api(f"{prefix}.{verb}", body, timeout_s=2)


@pytest.mark.parametrize("role", ["worker", "web", "monitor", "cli", "tap"])
async def test_purging_is_for_the_dispatcher(nats: NatsBox, role: Role) -> None:
    bus, job = await nats.bus(role), new_id()
    dispatcher = await nats.bus("dispatcher")
    stored = await dispatcher.commit([created(job), download(job)])
    with pytest.raises(Denied):
        await bus.purge_commands(job, stored.last + 1)
    for verb in (f"STREAM.PURGE.{EVENTS}", f"STREAM.PURGE.{DLQ}"):
        with pytest.raises(Denied):
            await bus.wire.api(f"{API}.{verb}", None, timeout_s=2)
    assert len(await bus.read(0, "cmd.>")) == 1
    assert await dispatcher.purge_commands(job, stored.last + 1) == 1


async def test_the_tap_reads_all_and_writes_nothing(nats: NatsBox) -> None:
    cli, tap = await nats.bus("cli"), await nats.bus("tap")
    async with tap.live("evt.>") as feed, tap.telemetry_feed() as samples:
        job = created(new_id())
        await cli.publish(job)
        live = await feed.next(5)
        assert live is not None
        assert live.event == job
        monitor = await nats.bus("monitor")
        monitor.telemetry("host", "cpu", {"percent": 12})
        sample = await samples.next(5)
        assert sample is not None
        assert (sample.subject, msgspec.json.decode(sample.data)) == ("tel.host.cpu", {"percent": 12})
    assert [stored.message_id for stored in await tap.read(0)] == [job.id]
    assert (await tap.last_fact(str(job.job))) is not None
    assert (await tap.stream_state()).last_seq == 1
    assert len(await tap.queue_depths()) == 6
    with pytest.raises(Denied):
        await tap.commit([created(new_id()), download(new_id())])
    async with tap.work("cut") as work:
        with pytest.raises(Denied):
            await work.next(0.5)


async def test_nobody_reads_plain_subjects_or_the_replies_of_others(nats: NatsBox) -> None:
    """A plain subscription would also show publishes that the stream then refuses."""
    for role in ROLES:
        if role == "supervisor":
            continue
        bus = await nats.bus(role)
        for subject in ("evt.>", "cmd.>", "_INBOX_supervisor.>", "_INBOX.>", "$SYS.>", "$KV.>"):
            await bus.client.subscribe(subject)
            await bus.settle(2)
            assert bus.wire.denied(subject) is not None, (role, subject)


async def test_a_feed_that_is_not_allowed_is_denied(nats: NatsBox, monkeypatch: pytest.MonkeyPatch) -> None:
    bus = await nats.bus("web")
    monkeypatch.setattr("bus.connection.live", lambda subject: subject)
    with pytest.raises(Denied, match=r"subscribe to evt\.>"):
        async with bus.live("evt.>"):
            pass


async def test_the_working_roles_can_work(nats: NatsBox) -> None:
    worker, dispatcher = await nats.bus("worker"), await nats.bus("dispatcher")
    job = new_id()
    await worker.commit([created(job), download(job)])
    async with worker.work("download") as work:
        delivery = await work.next(5)
        assert delivery is not None
        await worker.commit([started(job)])
        assert await delivery.done()
    letter = DeadLetter(stage="download", job=job, attempts=3, error="e", code="c", failed_event=new_id())
    for bus in (worker, dispatcher):
        await publish_dead_letter(bus, letter)
        assert await Registry(bus).all() == []
        async with FactReader(bus, 0) as reader:
            assert len(await reader.batch()) == 2


async def test_denied_also_ends_a_silent_publish(nats: NatsBox) -> None:
    bus: Bus = await nats.bus("tap", patience_s=0.5)
    bus.telemetry("host", "cpu", {})
    await asyncio.sleep(0)
    await bus.settle(2)
    assert bus.wire.denied("tel.host.cpu") is not None
    with pytest.raises((Denied, BusUnavailable)):
        await bus.wire.request("tel.host.cpu", timeout_s=0.5)
