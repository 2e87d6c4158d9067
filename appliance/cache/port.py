"""What a cache is to the rest: bytes under keys with a time to live. Three kinds: Redis, memory, off."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from types import TracebackType
from typing import Literal, Self

from msgspec import Struct

from appliance.breaker import State
from appliance.errors import CacheUnavailable

Kind = Literal["redis", "memory", "off"]


class ServerFigures(Struct, frozen=True, kw_only=True):
    """What the cache's server says about itself."""

    entries: int
    """Keys it holds, of whoever uses it."""
    used_bytes: int
    max_bytes: int | None
    """None: without a cap."""
    evicted: int
    """Entries that it dropped for want of memory since it started."""
    uptime_s: float


class Cache(ABC):
    """Use as an async context manager. Every call ends within the configured time or raises `CacheUnavailable`."""

    kind: Kind

    @property
    def state(self) -> State:
        """`closed` while it answers; `open` or `half_open` while it is left alone."""
        return "closed"

    @property
    def era(self) -> int:
        """Goes up whenever the entries may have been lost as a whole (it was away)."""
        return 0

    @abstractmethod
    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """The entries in the order of `keys`, None for each that is not there. One round trip."""

    @abstractmethod
    async def set_many(self, entries: Mapping[str, bytes], ttl_s: float) -> None:
        """Stores all entries for `ttl_s` seconds. One round trip."""

    @abstractmethod
    async def delete(self, keys: Collection[str]) -> None:
        """Removes the entries; keys that are not there are fine."""

    @abstractmethod
    async def figures(self) -> ServerFigures | None:
        """The server's own figures, None when there is no server."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(  # noqa: B027 - most kinds keep nothing running
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends what the cache keeps running."""


class NoCache(Cache):
    """Off: every call raises `CacheUnavailable`, so that everything is computed."""

    kind = "off"

    async def get_many(self, keys: Sequence[str]) -> list[bytes | None]:
        raise CacheUnavailable("the cache is off")

    async def set_many(self, entries: Mapping[str, bytes], ttl_s: float) -> None:
        raise CacheUnavailable("the cache is off")

    async def delete(self, keys: Collection[str]) -> None:
        raise CacheUnavailable("the cache is off")

    async def figures(self) -> ServerFigures | None:
        return None
