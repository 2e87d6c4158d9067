"""The peer's worker: `celery -A bench.peers.tasks worker`.

Late acknowledgement, so that a task whose worker dies is delivered again; a visibility timeout of twice what a task may
take; no results, no gossip: the settings that Celery's documentation recommends for short tasks that must not be lost.
"""

from __future__ import annotations

import http.client
import os
from typing import Any

import msgspec
import redis
from celery import Celery
from celery.signals import worker_process_init

from appliance.dispatcher.table import TABLE
from appliance.sqlite import sqlite3
from appliance.store.database import open_reader
from bench.peers.place import CHANNEL, FOLDER_VARIABLE, KEY, Posted, Times, database, socket
from bus.events import JobCompleted, JobFailed, encode
from stages.folder import JobFolder

VISIBILITY_S = 10
TASK_LIMIT_S = 5
PORT_VARIABLE = "PEER_PORT"
LETTERS = "dead-letters"

celery = Celery("peer", broker=f"redis+socket://{os.environ.get(FOLDER_VARIABLE, '')}/r.sock?virtual_host=1")
celery.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    task_soft_time_limit=TASK_LIMIT_S,
    task_default_queue="events",
    worker_prefetch_multiplier=8,
    worker_send_task_events=False,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "visibility_timeout": VISIBILITY_S,
        "unacked_restore_interval": 2,  # by default a dead worker's tasks are looked for every 100 seconds only
        "unacked_restore_throttle": 1,
    },
    task_serializer="json",
    accept_content=["json"],
)


class Hands:
    """What each worker process holds open."""

    def __init__(self) -> None:
        self.redis = redis.Redis.from_url(f"unix://{socket()}")
        self.times = Times()
        self.database: sqlite3.Connection = open_reader(database())
        self.api: http.client.HTTPConnection | None = None

    def post(self, posted: Posted) -> None:
        """To the API; 409 means that it is done already."""
        if self.api is None:
            self.api = http.client.HTTPConnection("127.0.0.1", int(os.environ[PORT_VARIABLE]), timeout=TASK_LIMIT_S)
        try:
            self.api.request("POST", "/commits", msgspec.json.encode(posted))
            answer = self.api.getresponse()
            answer.read()
        except (http.client.HTTPException, OSError):
            self.api = None
            raise
        if answer.status not in (201, 409):
            raise RuntimeError(f"the API answered {answer.status}")


_hands: list[Hands] = []


@worker_process_init.connect  # type: ignore[untyped-decorator,unused-ignore]
def _open(**_: Any) -> None:
    _hands[:] = [Hands()]


@celery.task(  # type: ignore[untyped-decorator,unused-ignore]
    autoretry_for=(Exception,), retry_backoff=1, retry_backoff_max=5, max_retries=10, name="events.handle"
)
def handle_event(ident: str, kind: str, job: str | None) -> None:
    """Invalidate the event's cache keys, then run its actions."""
    hands, row = _hands[0], TABLE[kind]
    hands.redis.unlink(*(KEY + section for section in row.invalidate), f"{KEY}document")
    hands.times.note("invalidated", ident)
    if row.actions:
        hands.times.note("acted", ident)
    for action in row.actions:
        if action == "complete_job" and job is not None:
            _complete(hands, job)
        elif action == "dead_letter" and job is not None:
            hands.redis.hset(LETTERS, ident, job)
        elif action == "sweep_parts" and job is not None:
            JobFolder.of(database().parent, job).sweep()


@celery.task(name="jobs.start")  # type: ignore[untyped-decorator,unused-ignore]
def start_job(job: str, event: str) -> None:
    """A worker begins on a job and tells the dashboards at once; nothing is stored before they know."""
    hands = _hands[0]
    hands.times.note("began", job)
    hands.redis.publish(CHANNEL, event)


def _complete(hands: Hands, job: str) -> None:
    row = hands.database.execute(
        "SELECT state, coalesce(clips_planned, 0), clips_ready, clips_failed FROM jobs WHERE job = ?", (job,)
    ).fetchone()
    if row is None or row[0] != "clipping" or row[2] + row[3] < row[1]:
        return
    end = (
        JobCompleted(job=job, clips_ready=row[2], clips_failed=row[3], seconds=1.0)
        if row[2]
        else JobFailed(job=job, stage="cut", attempts=1, error="no clip could be made", code="no-clips")
    )
    hands.post(Posted(events=[msgspec.Raw(encode(end))], ends=job))
