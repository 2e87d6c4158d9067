"""The cache in this process: what `cache.url: memory` means, and the measure for the other kinds in tests."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence

from appliance.cache.port import Cache, ServerFigures

MAX_BYTES = 64 * 1024**2


class MemoryCache(Cache):
    """Least recently used entries go when `max_bytes` of values are exceeded."""

    kind = "memory"

    def __init__(self, *, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._entries: OrderedDict[str, tuple[bytes, float]] = OrderedDict()
        self._max_bytes = max_bytes
        self._clock = clock
        self._used_bytes = 0
        self._evicted = 0
        self._started = clock()

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        return [self._get(key) for key in keys]

    async def set_many(self, entries: Mapping[str, bytes], ttl_s: float) -> None:
        for key, value in entries.items():
            self._remove(key)
            self._entries[key] = (value, self._clock() + ttl_s)
            self._used_bytes += len(value)
        while self._used_bytes > self._max_bytes:
            self._remove(next(iter(self._entries)))
            self._evicted += 1

    async def delete(self, keys: Collection[str]) -> None:
        for key in keys:
            self._remove(key)

    async def figures(self) -> ServerFigures | None:
        return ServerFigures(
            entries=len(self._entries),
            used_bytes=self._used_bytes,
            max_bytes=self._max_bytes,
            evicted=self._evicted,
            uptime_s=self._clock() - self._started,
        )

    def _get(self, key: str) -> bytes | None:
        found = self._entries.get(key)
        if found is None:
            return None
        if found[1] <= self._clock():
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return found[0]

    def _remove(self, key: str) -> None:
        if (found := self._entries.pop(key, None)) is not None:
            self._used_bytes -= len(found[0])
