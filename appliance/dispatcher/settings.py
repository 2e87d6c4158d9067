"""The settings of the dispatcher (`dispatcher` of `appliance.settings`)."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class Dispatcher(Struct, frozen=True, kw_only=True):
    """How events are written to the database and what is done about them."""

    batch_events: Annotated[
        int, Meta(ge=1, le=10000, description="Most events written to the database in one transaction.")
    ] = 256
    max_parallel_tasks: Annotated[int, Meta(ge=1, le=100, description="Most actions that run at the same time.")] = 10
    event_timeout_s: Annotated[
        float,
        Meta(
            ge=0.1,
            le=300,
            description="Seconds that one part of an event's row (an action, the invalidation, the warming) may take; "
            "past them it counts as failed.",
        ),
    ] = 5.0
    max_retries: Annotated[
        int,
        Meta(
            ge=0,
            le=20,
            description="Further attempts of an action that failed. After the last one it waits for "
            "`appliance events replay`.",
        ),
    ] = 3
    retry_backoff_s: Annotated[
        float, Meta(ge=0.05, le=3600, description="Seconds to the first further attempt; doubles with each one.")
    ] = 1.0
    retry_backoff_max_s: Annotated[
        float, Meta(ge=0.05, le=86400, description="Most seconds between two attempts of an action.")
    ] = 60.0
    failure_threshold: Annotated[
        int, Meta(ge=1, le=1000, description="Failures of an action in a row after which it is left alone for a while.")
    ] = 5
    recovery_timeout_s: Annotated[
        float, Meta(ge=0.1, le=3600, description="Seconds it is left alone before one attempt tries it again.")
    ] = 60.0
    warm_interval_s: Annotated[
        float,
        Meta(
            ge=0.05,
            le=60,
            description="Least seconds between two warmings of the cache; what is asked for meanwhile is done once.",
        ),
    ] = 0.5
    cache_warm_s: Annotated[
        float, Meta(ge=0.5, le=3600, description="Seconds between two warmings of the whole status document.")
    ] = 5.0
    cache_validate_s: Annotated[
        float, Meta(ge=1, le=86400, description="Seconds between two comparisons of what is cached with the database.")
    ] = 60.0
    queue_check_s: Annotated[
        float, Meta(ge=0.2, le=300, description="Seconds between two looks at the stages' queues.")
    ] = 3.0
    queue_warning: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Tasks waiting for a stage from which its queue is at warning.")
    ] = 100
    queue_critical: Annotated[
        int, Meta(ge=1, le=1_000_000, description="Tasks waiting for a stage from which its queue is critical.")
    ] = 500
    queue_warning_age_s: Annotated[
        float,
        Meta(
            ge=1, le=31_536_000, description="Seconds the oldest task has waited, from which its queue is at warning."
        ),
    ] = 3600.0
    queue_critical_age_s: Annotated[
        float,
        Meta(ge=1, le=31_536_000, description="Seconds the oldest task has waited, from which its queue is critical."),
    ] = 14400.0
    scale_up_after_s: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="Seconds in which tasks wait and every worker of a stage is at work, after which it gets "
            "another one, up to workers.<stage>.max. A queue at warning or critical gets one at once.",
        ),
    ] = 10.0
    scale_down_after_s: Annotated[
        float,
        Meta(
            ge=1,
            le=86400,
            description="Seconds in which a worker of a stage had nothing to do, after which one leaves, down to "
            "workers.<stage>.min.",
        ),
    ] = 120.0
    scale_cooldown_s: Annotated[
        float, Meta(ge=0, le=86400, description="Least seconds between two changes of a stage's number of workers.")
    ] = 5.0
    workers_report_s: Annotated[
        float, Meta(ge=1, le=86400, description="Seconds between two reports of the workers to the log.")
    ] = 60.0
    workers_clean_s: Annotated[
        float,
        Meta(
            ge=1, le=86400, description="Seconds between two comparisons of the workers' list with who really reports."
        ),
    ] = 300.0
    workers_missing_s: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="Seconds a stage may have fewer workers than workers.<stage>.min before an alert is raised.",
        ),
    ] = 30.0
