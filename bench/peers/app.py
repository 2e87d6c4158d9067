"""The peer's API: `uvicorn bench.peers.app:app`.

One process, as SQLite wants one writer; the blocking work runs in the thread pool, writes one at a time.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import redis
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool

from appliance.store.database import open_writer
from appliance.store.projection import Projection, StoredFact
from bench.peers import dashboards, status
from bench.peers.place import CHANNEL, Posted, Stored, Times, database, socket
from bench.peers.tasks import celery, handle_event
from bus.events import decode_event
from bus.subjects import event_subject

_decoder = msgspec.json.Decoder(Posted)


class Ledger:
    """The database, the broker and the channel."""

    def __init__(self) -> None:
        connection = open_writer(database())
        self._projection = Projection(connection)
        self._writing = threading.Lock()
        self._redis = redis.Redis.from_url(f"unix://{socket()}")
        self._times = Times()

    def store(self, posted: Posted) -> Stored:
        """Rows first, in one transaction; then whoever is to know is told."""
        events = [(bytes(raw), decode_event(raw)) for raw in posted.events]
        with self._writing:
            if posted.ends is not None:
                row = self._projection.connection.execute(
                    "SELECT state FROM jobs WHERE job = ?", (posted.ends,)
                ).fetchone()
                if row is None or row[0] != "clipping":
                    raise HTTPException(409, "the job has ended")
            first = self._projection.cursor + 1
            self._projection.apply(
                [StoredFact(seq, event_subject(event), body) for seq, (body, event) in enumerate(events, first)]
            )
        for _, event in events:
            self._times.note("stored", event.id)
        with self._redis.pipeline(transaction=False) as pipeline:
            for body, _ in events:
                pipeline.publish(CHANNEL, body)
            pipeline.execute()
        for _, event in events:
            kind = str(event.__struct_config__.tag)
            handle_event.apply_async((event.id, kind, event.job), task_id=event.id)
        for stage, body in posted.commands:
            celery.send_task(f"stages.{stage}", (msgspec.json.decode(body),), queue=f"stage-{stage}")
        return Stored(first_seq=first)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    yield {"ledger": await run_in_threadpool(Ledger)}


app = FastAPI(lifespan=lifespan)
app.include_router(dashboards.router)
app.include_router(status.router)


@app.post("/commits", status_code=201)
async def commits(request: Request) -> Response:
    posted = _decoder.decode(await request.body())
    stored = await run_in_threadpool(request.state.ledger.store, posted)
    return Response(msgspec.json.encode(stored), 201, media_type="application/json")


@app.get("/healthz")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}
