"""Streams, stage consumers and the worker registry's bucket, as data: what exists on the server is what stands here.

`bus.provision` creates and repairs them. docs/BUS.md shows the same tables; a test compares.
"""

from __future__ import annotations

from msgspec import Struct
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    PersistMode,
    ReplayPolicy,
    RePublish,
    RetentionPolicy,
    StorageType,
    StreamConfig,
)

from bus.events import STAGES, StageName
from bus.subjects import LIVE_PREFIX

EVENTS = "EVENTS"
TELEMETRY = "TELEMETRY"
DLQ = "DLQ"
WORKERS_BUCKET = "workers"
WORKERS_STREAM = f"KV_{WORKERS_BUCKET}"
WORKERS_PREFIX = f"$KV.{WORKERS_BUCKET}."
ADVISORY = "$JS.EVENT.ADVISORY.CONSUMER"
ADVISORY_READER = "advisories"

MIB = 1024 * 1024
DAY_S = 86_400


class Limits(Struct, frozen=True, kw_only=True):
    """Tunables of the bus with the customer's defaults."""

    events_max_bytes: int = 1024 * MIB
    """Hard cap of EVENTS on disk; the oldest messages go first. Alert well before."""
    events_max_age_s: int = 90 * DAY_S
    telemetry_max_bytes: int = 16 * MIB
    telemetry_max_age_s: int = 3600
    telemetry_per_subject: int = 60
    dlq_max_bytes: int = 64 * MIB
    dlq_max_age_s: int = 90 * DAY_S
    duplicate_window_s: int = 600
    """How long a message id is remembered: a retry within it is stored once."""
    ack_wait_s: float = 8.0
    """A worker silent for this long has lost its command. Crash detection, not job time: live workers heartbeat."""
    heartbeat_s: float = 2.5
    """How often a worker heartbeats while it works; at most a third of `ack_wait_s`."""
    max_deliver: int = 25
    """The server's net under the attempts that the log counts; reaching it raises an advisory, nothing else."""
    max_ack_pending: int = 64
    """Commands of a stage in flight at once, above any number of workers that a box can feed."""
    worker_ttl_s: float = 15.0
    """A worker that has not renewed its registry entry for this long is gone."""


DEFAULTS = Limits()


def streams(limits: Limits = DEFAULTS) -> tuple[StreamConfig, ...]:
    """Every stream of the appliance, the registry's bucket included."""
    return (
        StreamConfig(
            name=EVENTS,
            description="Facts, commands and scheduled commands: one total order",
            subjects=["evt.>", "cmd.>", "sched.>"],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            max_age=limits.events_max_age_s,
            max_bytes=limits.events_max_bytes,
            # The server refuses schedules together with discard new (error 10052, tried on 2.15.1). Retries that
            # cannot be lost are worth more than refusing at the cap: facts are in SQLite too, and an alert comes first.
            discard=DiscardPolicy.OLD,
            duplicate_window=limits.duplicate_window_s,
            allow_atomic=True,
            allow_msg_schedules=True,
            allow_msg_ttl=True,
            allow_rollup_hdrs=True,  # schedules need it; the server turns it on by itself
            allow_direct=True,
            republish=RePublish(src="evt.>", dest=f"{LIVE_PREFIX}evt.>"),
            num_replicas=1,
        ),
        StreamConfig(
            name=TELEMETRY,
            description="Progress and host figures of the last minutes",
            subjects=["tel.>"],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.MEMORY,
            max_age=limits.telemetry_max_age_s,
            max_bytes=limits.telemetry_max_bytes,
            max_msgs_per_subject=limits.telemetry_per_subject,
            discard=DiscardPolicy.OLD,
            duplicate_window=min(120, limits.telemetry_max_age_s),
            allow_direct=True,
            num_replicas=1,
        ),
        StreamConfig(
            name=DLQ,
            description="Work that was given up, and what the server says about commands it stopped delivering",
            subjects=[
                f"{ADVISORY}.MAX_DELIVERIES.{EVENTS}.>",
                f"{ADVISORY}.MSG_TERMINATED.{EVENTS}.>",
                "dlq.>",
            ],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            max_age=limits.dlq_max_age_s,
            max_bytes=limits.dlq_max_bytes,
            discard=DiscardPolicy.OLD,
            duplicate_window=limits.duplicate_window_s,
            allow_direct=True,
            num_replicas=1,
        ),
        StreamConfig(
            # A key-value bucket is a stream of this shape; declared like the others so that one code provisions all
            # (the library's create_key_value reports neither drift nor did_create, traps 10 and 11).
            name=WORKERS_STREAM,
            description="Worker registry: one key a worker, renewed by heartbeats",
            subjects=[f"{WORKERS_PREFIX}>"],
            retention=RetentionPolicy.LIMITS,
            # On disk, so that a restart of the server forgets nobody, but without waiting for it (a key lives 15 s).
            storage=StorageType.FILE,
            persist_mode=PersistMode.ASYNC,
            max_age=limits.worker_ttl_s,
            max_bytes=4 * MIB,
            max_msgs_per_subject=1,
            discard=DiscardPolicy.NEW,
            duplicate_window=limits.worker_ttl_s,
            allow_rollup_hdrs=True,
            deny_delete=True,
            allow_msg_ttl=True,
            subject_delete_marker_ttl=60,  # expiry leaves a marker to read, for a minute
            allow_direct=True,
            num_replicas=1,
        ),
    )


def stage_consumer(stage: StageName, limits: Limits = DEFAULTS) -> ConsumerConfig:
    """The durable pull consumer that hands out a stage's commands.

    Never delete one: a durable made anew on a Limits stream replays all history (trap 16). That is harmless, since a
    spent command loses its compare-and-set, but slow.
    """
    return ConsumerConfig(
        name=stage,
        durable_name=stage,
        description=f"Commands of the {stage} stage",
        filter_subject=f"cmd.{stage}.>",
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        replay_policy=ReplayPolicy.INSTANT,
        ack_wait=limits.ack_wait_s,
        max_deliver=limits.max_deliver,
        max_ack_pending=limits.max_ack_pending,
        max_waiting=512,
    )


def advisory_consumer(limits: Limits = DEFAULTS) -> ConsumerConfig:
    """The durable pull consumer that turns the server's advisories into typed ones."""
    return ConsumerConfig(
        name=ADVISORY_READER,
        durable_name=ADVISORY_READER,
        description="Advisories on commands that are no longer delivered",
        filter_subject=f"{ADVISORY}.>",
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        replay_policy=ReplayPolicy.INSTANT,
        ack_wait=30.0,
        max_deliver=-1,
        max_ack_pending=limits.max_ack_pending,
        max_waiting=16,
    )


def consumers(limits: Limits = DEFAULTS) -> tuple[tuple[str, ConsumerConfig], ...]:
    """Every durable consumer, with the stream it reads."""
    return (
        *((EVENTS, stage_consumer(stage, limits)) for stage in STAGES),
        (DLQ, advisory_consumer(limits)),
    )
