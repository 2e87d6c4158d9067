"""The settings of the cache and of what is kept in it (`cache` and `cache_ttl_s` of `appliance.settings`)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Cache(Struct, frozen=True, kw_only=True):
    """The cache."""

    url: Annotated[
        str,
        Meta(
            pattern=r"^(auto|off|memory|(redis|rediss|unix)://.+)$",
            description="auto: a redis-server or valkey-server of our own on a unix socket, when one is installed. "
            "off: none, everything is computed. memory: in each process for itself; what another process changes is "
            "seen when the time to live is over. Or a redis://, rediss:// or unix:// address.",
        ),
    ] = "auto"
    prefix: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9:_-]{1,64}$",
            description="What every key of this box starts with. Give each box its own when they share one server.",
        ),
    ] = "appliance:"
    timeout_s: Annotated[
        float,
        Meta(ge=0.005, le=5, description="Seconds the cache gets to answer; after them the figures are computed."),
    ] = 0.05
    failure_threshold: Annotated[
        int, Meta(ge=1, le=100, description="Failures in a row after which the cache is left alone for a while.")
    ] = 5
    recovery_timeout_s: Annotated[
        float, Meta(ge=0.1, le=600, description="Seconds it is left alone before one call tries it again.")
    ] = 2.0
    query_timeout_s: Annotated[
        float,
        Meta(
            ge=0.05,
            le=30,
            description="Seconds that the database and the bus get for one section of the status document. After them "
            "the section's last copy is served, marked stale.",
        ),
    ] = 0.5


class CacheTtl(Struct, frozen=True, kw_only=True):
    """How long the sections of the status document stay good when no event says otherwise."""

    critical: Annotated[float, Meta(ge=0.5, le=3600, description="Seconds for workers, queues and hardware.")] = 5.0
    important: Annotated[
        float, Meta(ge=0.5, le=3600, description="Seconds for dashboard, jobs, clips, alerts, services and event flow.")
    ] = 10.0
    standard: Annotated[float, Meta(ge=0.5, le=86400, description="Seconds for analytics.")] = 60.0
    static: Annotated[
        float,
        Meta(
            ge=1,
            le=604800,
            description="Seconds for what changes by restart only, and for which the last copy of every section is "
            "kept, to be served as stale when the database does not answer.",
        ),
    ] = 3600.0
    document: Annotated[
        float,
        Meta(
            ge=0.5,
            le=3600,
            description="Seconds for the whole document, at most; it never outlives the first of its sections.",
        ),
    ] = 15.0
