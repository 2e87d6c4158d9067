"""The box's own cache server: it does what the cache needs and nothing else, and the box does not hang on it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from appliance.breaker import Breaker
from appliance.cache.opening import cache_socket, make_cache
from appliance.cache.port import NoCache
from appliance.cache.redis import RedisCache
from appliance.config import Config, load
from appliance.doctor.programs import cache as examined
from appliance.supervisor.box import Box
from appliance.supervisor.programs import cache_program

DANGEROUS = (
    ("EVAL", "return 1", "0"),
    ("FUNCTION", "LIST"),
    ("CONFIG", "GET", "dir"),
    ("KEYS", "*"),
    ("FLUSHALL",),
    ("SHUTDOWN", "NOSAVE"),
    ("DEBUG", "SLEEP", "0"),
    ("MODULE", "LIST"),
    ("ACL", "LIST"),
    ("REPLICAOF", "192.0.2.1", "6379"),
    ("SAVE",),
    ("MONITOR",),
    ("CLIENT", "LIST"),
)


@pytest.fixture
async def socket(tmp_path: Path) -> AsyncIterator[Path]:
    """The socket of a server that was started with the supervisor's own command line."""
    config = Config(data_dir=tmp_path)
    spec = await asyncio.to_thread(cache_program, config)
    if spec is None:
        pytest.skip("no redis-server or valkey-server is installed")
    process = await asyncio.to_thread(subprocess.Popen, spec.argv, stdout=subprocess.DEVNULL)
    try:
        assert spec.ready is not None
        async with asyncio.timeout(10):
            await spec.ready()
        yield cache_socket(tmp_path)
        process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(process.wait, 10)
    finally:
        await asyncio.to_thread(process.kill)


async def test_it_serves_the_cache(socket: Path) -> None:
    async with RedisCache(f"unix://{socket}", Breaker(1, 60), prefix="appliance:", timeout_s=2) as cache:
        await cache.set_many({"a": b"1"}, 60)
        assert await cache.get_many(["a", "b"]) == [b"1", None]
        await cache.delete(["a", "b"])
        assert await cache.get_many(["a"]) == [None]
        figures = await cache.figures()
        assert figures is not None
        assert figures.max_bytes == 64 * 1024**2
        assert cache.state == "closed"


async def test_it_refuses_everything_else(socket: Path) -> None:
    async with Redis(unix_socket_path=str(socket), protocol=2, driver_info=None) as client:
        for command in DANGEROUS:
            with pytest.raises((NoPermissionError, ResponseError), match=r"no permissions|not allowed"):
                await client.execute_command(*command)  # type: ignore[no-untyped-call]
        with pytest.raises(NoPermissionError, match="keys"):
            await client.set("somebody:else", "1")
        assert await client.set("appliance:a", "1")


def test_the_box_starts_without_a_cache_that_cannot_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "bin" / "redis-server"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr("appliance.supervisor.programs._CACHE_START_TIMEOUT_S", 0.5)
    monkeypatch.setattr("appliance.supervisor.programs.own_server", lambda _folder: str(broken))
    none = {f"APPLIANCE_WORKERS__{name}__MIN": "0" for name in ("TRANSCRIBE", "MOMENTS", "FACES", "CROP", "CUT")}
    settings = {"APPLIANCE_DATA_DIR": str(tmp_path / "data"), "APPLIANCE_HARDWARE__ENABLED": "false", **none}
    config = load(None, settings)

    async def processes() -> dict[str, int | None]:
        box = Box(config, port=-1)
        await box.start()
        try:
            return box.processes()
        finally:
            await box.stop()

    found = asyncio.run(processes())
    assert found["dispatcher"]
    assert found["download-1"]


async def test_a_folder_too_deep_for_a_socket_has_no_cache(tmp_path: Path) -> None:
    config = Config(data_dir=tmp_path / ("d" * 100))
    assert await asyncio.to_thread(cache_program, config) is None
    assert isinstance(await make_cache(config), NoCache)
    (finding,) = await asyncio.to_thread(examined, config)
    assert "too long" in finding.found
    assert not config.data_dir.exists()


def test_the_command_line_asks_for_no_disk_and_no_port(tmp_path: Path) -> None:
    if shutil.which("redis-server") is None and shutil.which("valkey-server") is None:
        pytest.skip("no redis-server or valkey-server is installed")
    spec = cache_program(Config(data_dir=tmp_path))
    assert spec is not None
    line = " ".join(spec.argv)
    assert "--port 0" in line
    assert "--save  --appendonly no" in line
    assert not spec.needed
