"""The cache in memory: time to live, a cap in bytes, and what `off` says."""

from __future__ import annotations

import pytest

from appliance.cache.memory import MemoryCache
from appliance.cache.port import NoCache
from appliance.errors import CacheUnavailable


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_entries_live_their_time_and_no_longer() -> None:
    clock = Clock()
    async with MemoryCache(clock=clock) as cache:
        await cache.set_many({"a": b"1"}, 5.0)
        await cache.set_many({"b": b"2"}, 10.0)
        clock.now = 4.99
        assert await cache.get_many(["a", "x", "b"]) == [b"1", None, b"2"]
        clock.now = 5.0
        assert await cache.get_many(["a", "b"]) == [None, b"2"]
        await cache.delete(["b", "never there"])
        assert await cache.get_many(["b"]) == [None]


async def test_the_least_recently_used_goes_when_the_cap_is_reached() -> None:
    async with MemoryCache(max_bytes=100) as cache:
        await cache.set_many({"a": bytes(40), "b": bytes(40)}, 60)
        await cache.get_many(["a"])
        await cache.set_many({"c": bytes(40)}, 60)
        assert [value is not None for value in await cache.get_many(["a", "b", "c"])] == [True, False, True]
        figures = await cache.figures()
        assert figures is not None
        assert (figures.entries, figures.used_bytes, figures.evicted) == (2, 80, 1)
        await cache.set_many({"a": bytes(10)}, 60)
        assert (await cache.figures()).used_bytes == 50  # type: ignore[union-attr]


async def test_off_says_so() -> None:
    async with NoCache() as cache:
        for call in (cache.get_many(["a"]), cache.set_many({"a": b""}, 1), cache.delete(["a"])):
            with pytest.raises(CacheUnavailable, match="off"):
                await call
        assert await cache.figures() is None
