"""`appliance ssot` against a running box's bus, database and cache."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.supervisor.lock import lock_box
from bus.ids import new_id
from tests.integration.conftest import NatsBox
from tests.integration.ssot.conftest import RedisBox, StoreBox
from tests.unit.appliance import facts


class Box:
    """What a running box leaves on the disk: its lock, its database, the bus's address."""

    def __init__(self, data_dir: Path, cache_url: str) -> None:
        self.environ = {"APPLIANCE_DATA_DIR": str(data_dir), "APPLIANCE_CACHE__URL": cache_url}

    async def appliance(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "appliance",
            *arguments,
            env={**os.environ, **self.environ},
            cwd=Path(__file__).parents[3],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()


@pytest.fixture
async def box(nats: NatsBox, redis: RedisBox) -> AsyncIterator[Box]:
    store = await asyncio.to_thread(StoreBox, nats.data_dir)
    await store.project(facts.created(new_id()))
    lock = await asyncio.to_thread(lock_box, nats.data_dir)
    yield Box(nats.data_dir, redis.url)
    os.close(lock)
    store.connection.close()
    store.path.unlink()


async def test_the_document_and_its_sections_are_printed(box: Box) -> None:
    code, out, err = await box.appliance("ssot", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["jobs"]["states"] == {"queued": 1}
    assert found["stale"] is False
    assert found["cache"]["kind"] == "redis"
    assert found["sections"]["jobs"]["seq"] == 1, "the one fact in the database"

    code, out, err = await box.appliance("ssot", "--section", "jobs")
    assert (code, err) == (0, "")
    heading, *rest = out.splitlines()
    assert heading.startswith("# cache hit, position 1, "), (
        f"the first command left it in the cache: {found['sections']}"
    )
    assert rest[:2] == ["states:", "  queued: 1"]


async def test_what_cannot_be_printed_is_said_plainly(box: Box, tmp_path: Path) -> None:
    code, _, err = await box.appliance("ssot", "--section", "job")
    assert code == 2
    assert "'job' is not one of 'dashboard'" in err
    box.environ["APPLIANCE_DATA_DIR"] = str(tmp_path / "elsewhere")
    code, _, err = await box.appliance("ssot")
    assert code == 1
    assert "no box runs on" in err
