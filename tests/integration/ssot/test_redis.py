"""Redis killed, frozen and absent: the breaker opens within a second, nobody waits, and it comes back by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, Self

import pytest

from appliance.breaker import Breaker
from appliance.cache.memory import MemoryCache
from appliance.cache.opening import cache_socket, make_cache
from appliance.cache.port import Cache, NoCache
from appliance.cache.redis import RedisCache
from appliance.cache.settings import CacheTtl
from appliance.errors import CacheUnavailable
from appliance.ssot.cache import SsotCache
from bus.ids import new_id
from tests.integration.ssot.conftest import RedisBox, StoreBox, config_of, ssot_over
from tests.unit.appliance import facts

RECOVERY_S = 0.5
OPEN_WITHIN_S = 1.0
MOST_EXTRA_S = 0.5
"""No call may take this much longer than with the cache."""


class Watched:
    """A cache with a short recovery time, and what its breaker said and when."""

    def __init__(self, url: str, timeout_s: float = 0.05) -> None:
        self.degraded: list[tuple[float, str]] = []
        self.restored: list[tuple[float, float]] = []
        self.opened, self.closed = asyncio.Event(), asyncio.Event()
        self.breaker = Breaker(5, RECOVERY_S, on_open=self._on_open, on_close=self._on_close)
        self.cache = RedisCache(url, self.breaker, prefix="t:", timeout_s=timeout_s)

    def _on_open(self, reason: str) -> None:
        self.degraded.append((time.perf_counter(), reason))
        self.opened.set()

    def _on_close(self, down_s: float) -> None:
        self.restored.append((time.perf_counter(), down_s))
        self.closed.set()


@asynccontextmanager
async def watched(url: str, data_dir: Path, ttl_s: CacheTtl | None = None) -> AsyncIterator[tuple[Watched, SsotCache]]:
    state = Watched(url)
    async with state.cache, ssot_over(data_dir, state.cache, ttl_s=ttl_s) as ssot:
        yield state, ssot


class Stolen:
    """Seconds that this process had no processor, or its loop no time: told by how much too late a sleeper wakes up.

    What a limit of the product is compared with is the time less that: on a busy machine a test must not fail for it.
    """

    TICK_S = 0.01

    def __init__(self) -> None:
        self.seconds = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._measure())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _measure(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(self.TICK_S)
            self.seconds += max(0.0, time.perf_counter() - began - self.TICK_S)


async def until_hit(ssot: SsotCache) -> None:
    """Read until the cache has what is asked for: on a busy machine a call of it may take longer than it may."""
    async with asyncio.timeout(30):
        while (await ssot.read_section("jobs")).verdict != "hit":
            await asyncio.sleep(0)


async def slowest_s(ssot: SsotCache, until: asyncio.Event) -> float:
    """Reads without a pause until `until`; the longest that one took."""
    slowest = 0.0
    while not until.is_set():
        began = time.perf_counter()
        await ssot.read_section("jobs")
        slowest = max(slowest, time.perf_counter() - began)
        await asyncio.sleep(0)
    return slowest


async def test_what_is_stored_is_found_until_its_time(redis: RedisBox, tmp_path: Path) -> None:
    async with Watched(redis.url, timeout_s=5).cache as cache:
        await cache.set_many({"a": b"1", "b": bytes(range(256))}, 60)
        await cache.set_many({"brief": b"x"}, 0.02)
        assert await cache.get_many(["a", "none", "b"]) == [b"1", None, bytes(range(256))]
        async with asyncio.timeout(5):
            while await cache.get_many(["brief"]) != [None]:
                await asyncio.sleep(0.01)
        await cache.delete(["a", "none"])
        assert await cache.get_many(["a"]) == [None]
        figures = await cache.figures()
        assert figures is not None
        assert (figures.entries, figures.max_bytes, figures.evicted) == (1, 64 * 1024**2, 0)


@pytest.mark.parametrize("busy", [True, False], ids=["under load", "idle"])
@pytest.mark.parametrize("how", ["killed", "frozen"])
async def test_the_breaker_opens_within_a_second_and_closes_by_itself(
    redis: RedisBox, store: StoreBox, tmp_path: Path, how: Literal["killed", "frozen"], busy: bool
) -> None:
    await store.project(facts.created(new_id()))
    async with watched(redis.url, tmp_path) as (state, ssot):
        await until_hit(ssot)
        reading = asyncio.create_task(slowest_s(ssot, state.opened)) if busy else None
        async with Stolen() as stolen:
            began = time.perf_counter()
            if how == "killed":
                await asyncio.to_thread(redis.kill)
            else:
                redis.freeze()
            async with asyncio.timeout(30):
                await state.opened.wait()
            assert state.degraded[0][0] - began - stolen.seconds < OPEN_WITHIN_S
            assert state.degraded[0][1], "the reason is told"
            if reading is not None:
                assert await reading - stolen.seconds < MOST_EXTRA_S
            began, stolen.seconds = time.perf_counter(), 0.0
            away = await ssot.read_section("jobs")
            assert away.verdict == "bypass"
            assert b'"queued":1' in away.body
            assert time.perf_counter() - began - stolen.seconds < MOST_EXTRA_S

        if how == "killed":
            await redis.start()
        else:
            redis.thaw()
        async with asyncio.timeout(30):
            await state.closed.wait()
        assert state.restored[0][1] >= RECOVERY_S
        await until_hit(ssot)  # the hit rate comes back by itself
        assert (len(state.degraded), len(state.restored)) == (1, 1)


async def test_an_invalidation_that_could_not_be_sent_is_made_up_for(
    redis: RedisBox, store: StoreBox, tmp_path: Path
) -> None:
    """A frozen server wakes up with entries that a fact has made wrong meanwhile. It is told without being asked."""
    await store.project(facts.created(new_id()))
    async with watched(redis.url, tmp_path, CacheTtl(important=3600)) as (state, ssot):
        await ssot.read_section("jobs")
        redis.freeze()
        async with asyncio.timeout(30):
            await state.opened.wait()
        await store.project(facts.created(new_id()))
        await ssot.invalidate(["jobs"])
        redis.thaw()
        async with asyncio.timeout(30):
            await state.closed.wait()
            while b'"queued":2' not in (await ssot.read_section("jobs")).body:
                await asyncio.sleep(0.01)


async def test_a_server_that_is_not_there_is_left_alone(store: StoreBox, tmp_path: Path) -> None:
    await store.project(facts.created(new_id()))
    async with watched(f"unix://{tmp_path}/none.sock", tmp_path) as (state, ssot):
        async with Stolen() as stolen:
            began = time.perf_counter()
            assert (await ssot.read_section("jobs")).verdict == "bypass"
            assert time.perf_counter() - began - stolen.seconds < MOST_EXTRA_S
            async with asyncio.timeout(30):
                await state.opened.wait()
            assert state.degraded[0][0] - began - stolen.seconds < OPEN_WITHIN_S
        with pytest.raises(CacheUnavailable, match="left alone"):
            await state.cache.get_many(["a"])


async def test_a_flood_evicts_and_the_document_is_computed_again(
    redis: RedisBox, store: StoreBox, tmp_path: Path
) -> None:
    await store.project(facts.created(new_id()))
    async with watched(redis.url, tmp_path) as (state, ssot):
        await ssot.read_section("jobs")
        await state.cache.delete(["ssot:1:jobs"])  # what the server does when it is full
        assert (await ssot.read_section("jobs")).verdict == "miss"
        assert ssot.figures().sections["jobs"].misses == {"cold": 1, "evicted": 1}


async def test_the_configuration_says_which_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def made(url: str) -> Cache:
        return await make_cache(config_of(tmp_path, url=url))

    assert isinstance(await made("off"), NoCache)
    assert isinstance(await made("memory"), MemoryCache)
    assert isinstance(await made("redis://127.0.0.1:1/0"), RedisCache)
    monkeypatch.setattr("shutil.which", lambda _name: None)
    assert isinstance(await made("auto"), NoCache)
    socket = cache_socket(tmp_path)
    socket.parent.mkdir()
    socket.touch()
    found = await made("auto")
    assert isinstance(found, RedisCache)
    assert found._url == f"unix://{socket}"
