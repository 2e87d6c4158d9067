"""The embedded server: preparation, foreign servers, self-test."""

from __future__ import annotations

import asyncio
import resource
import socket
import stat
from pathlib import Path

import msgspec
import pytest

from bus.connection import Bus
from bus.errors import BusUnavailable, Retryable, ServerStartError
from bus.events import UserAction
from bus.selftest import self_test
from bus.server import (
    HOST,
    credentials,
    find_binary,
    prepare,
    read_endpoint,
    remove_endpoint,
    wait_ready,
    write_endpoint,
)
from tests.integration.conftest import NatsBox, nats_box


def test_secrets_are_private_and_kept(tmp_path: Path) -> None:
    spec = prepare(tmp_path)
    folder = tmp_path / "nats"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("server.conf", "secrets.json"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    first = (folder / "secrets.json").read_bytes()
    assert prepare(tmp_path) == spec
    assert (folder / "secrets.json").read_bytes() == first
    assert not list(folder.glob(".*.part"))
    roles = {role: credentials(tmp_path, role, url="nats://x").password for role in ("web", "worker", "tap")}
    assert len(set(roles.values())) == 3
    assert all(len(password) >= 32 for password in roles.values())
    assert spec.env.keys() >= {"GOMEMLIMIT", "GOMAXPROCS"}


def test_a_picked_port_that_is_taken_is_replaced_a_configured_one_is_not(tmp_path: Path) -> None:
    spec = prepare(tmp_path)
    with socket.socket() as squatter:
        squatter.bind((HOST, spec.port))
        squatter.listen()
        assert prepare(tmp_path).port != spec.port
        with pytest.raises(ServerStartError, match=rf"port {spec.port} on {HOST} is taken.*bus\.port"):
            prepare(tmp_path, port=spec.port)


def test_a_missing_or_unfit_binary_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServerStartError, match=r"bus\.binary: /nowhere/nats-server"):
        prepare(tmp_path, binary="/nowhere/nats-server")
    unfit = tmp_path / "old-server"
    unfit.write_text("#!/bin/sh\necho 'unknown field \"feature_flags\"' >&2\nexit 1\n")
    unfit.chmod(0o755)
    with pytest.raises(ServerStartError, match=r"refuses its configuration.*feature_flags.*2\.15\.1"):
        prepare(tmp_path, binary=unfit)
    assert find_binary(unfit) == unfit


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "nats").write_text("a file in the way")
    with pytest.raises(ServerStartError, match="cannot use"):
        prepare(tmp_path)


def test_a_path_with_quotes_and_spaces_is_fine(tmp_path: Path) -> None:
    odd = tmp_path / 'my "box" data'
    odd.mkdir()
    assert prepare(odd).argv[-1].startswith(str(odd))


def test_endpoint_is_published_and_withdrawn(tmp_path: Path) -> None:
    with pytest.raises(BusUnavailable, match="appliance up"):
        credentials(tmp_path, "cli", url="nats://x")
    prepare(tmp_path)
    with pytest.raises(BusUnavailable, match="appliance up"):
        credentials(tmp_path, "cli")
    write_endpoint(tmp_path, "nats://127.0.0.1:1")
    assert read_endpoint(tmp_path) == credentials(tmp_path, "cli").url == "nats://127.0.0.1:1"
    assert stat.S_IMODE((tmp_path / "nats" / "endpoint.json").stat().st_mode) == 0o600
    remove_endpoint(tmp_path)
    remove_endpoint(tmp_path)
    with pytest.raises(BusUnavailable):
        read_endpoint(tmp_path)


async def test_a_second_server_on_one_store_is_refused(nats: NatsBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two would ruin it. One that is just dying is waited for."""
    with monkeypatch.context() as hurry:
        hurry.setattr("bus.server._DYING_S", 0.2)
        with pytest.raises(ServerStartError, match="already running"):
            await asyncio.to_thread(prepare, nats.data_dir)
    preparing = asyncio.create_task(asyncio.to_thread(prepare, nats.data_dir))
    await asyncio.sleep(0.2)
    assert not preparing.done()
    await nats.kill()
    assert (await preparing).port == nats.spec.port


async def test_a_foreign_server_on_the_port_is_told_apart(nats: NatsBox) -> None:
    foreign = msgspec.structs.replace(nats.spec, name="appliance-other")
    with pytest.raises(ServerStartError, match="another nats-server"):
        await wait_ready(foreign, timeout_s=5)


async def test_a_port_that_speaks_something_else_is_not_ready(nats: NatsBox) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        writer.close()

    other = await asyncio.start_server(greet, HOST, 0)
    async with other:
        port = other.sockets[0].getsockname()[1]
        with pytest.raises(ServerStartError, match="did not answer"):
            await wait_ready(msgspec.structs.replace(nats.spec, port=port), timeout_s=0.3)


async def test_self_test_passes_again_and_again_and_leaves_nothing(nats: NatsBox) -> None:
    bus = await nats.bus()
    before = await bus.stream_state()
    await self_test(bus)
    await self_test(bus)
    assert await bus.stream_state() == before
    names = {info.config.name for info in await bus.jetstream.streams_info()}
    assert "SELFTEST" not in names


async def test_self_test_refuses_the_other_form_of_acknowledgements(tmp_path: Path) -> None:
    """Trap 1: with the flag on, the client library's readers die; the box must not start on it."""
    async with nats_box(tmp_path) as nats:
        await nats.kill()
        config = Path(nats.spec.argv[-1])
        plain = config.read_text()
        assert "js_ack_fc_v2: false" in plain
        config.write_text(plain.replace("js_ack_fc_v2: false", "js_ack_fc_v2: true"))
        await nats.start()
        with pytest.raises(ServerStartError, match="js_ack_fc_v2"):
            await self_test(await nats.bus())


async def test_self_test_refuses_an_old_server(nats: NatsBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Bus, "server_version", property(lambda self: (2, 10, 4)))
    with pytest.raises(ServerStartError, match=r"2\.10\.4 is too old"):
        await self_test(await nats.bus())


async def test_the_idle_server_is_small_and_on_loopback_only(nats: NatsBox) -> None:
    status = Path(f"/proc/{nats.pid}/status").read_text()
    rss_kib = int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])
    assert rss_kib < 64 * 1024
    config = Path(nats.spec.argv[-1]).read_text()
    assert f'listen: "{HOST}:{nats.spec.port}"' in config
    assert "sync_interval: always" in config
    assert "http" not in config


async def test_an_acknowledged_fact_is_on_disk_when_the_disk_is_full(nats: NatsBox) -> None:
    """A file size limit stands in for the full disk: the server cannot write, and nothing acknowledged is lost."""
    bus = await nats.bus("web", patience_s=1.0, attempt_s=0.5)
    await bus.publish(UserAction(user="ada", action="before"))
    resource.prlimit(nats.pid, resource.RLIMIT_FSIZE, (64 * 1024, resource.RLIM_INFINITY))
    acknowledged, refused = 1, False
    while not refused and acknowledged < 1_000:
        try:
            await bus.publish(UserAction(user="x" * 4000, action="fill"))
        except Retryable:
            refused = True
        else:
            acknowledged += 1
    assert refused
    assert acknowledged > 1
    await nats.restart()
    again = await nats.bus("web")
    assert (await again.stream_state()).messages >= acknowledged
    await again.publish(UserAction(user="ada", action="after"))
