"""The live feed beside the replaced stack's, by turns: what the machine does meanwhile happens to both.

25 dashboards, raw sockets in a process of their own. A job is made over HTTP, and one is started, 20 a second; until
the last dashboard has it. Ours runs its dispatcher meanwhile, the peer (`bench/peers`: FastAPI, Redis pub/sub, a
WebSocket loop that encodes for each dashboard) its Celery worker. In each turn a stack is started, asked, and ended, so
that only one runs at a time. `job_started_unstored`, for comparison: the peer's worker tells the dashboards by PUBLISH
from inside its task, and nothing is stored; ours and the others are, with fsync.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bench.dashboards import PER_S, Run, dashboards, joined, watch
from bench.dispatcher import Samples, start
from bench.ssot import servers
from bench.web_box import WebProcess, web_config
from bus.connection import Bus
from bus.events import Command, Event, JobCancelled, JobCreated, JobDownloading, JobSource, encode

TURNS = 4
PEER_COUNT = 25
Runs = dict[str, list[Run]]


def started(job: str) -> Event:
    return JobDownloading(job=job, stage="download", attempt=1, worker="w")


def created(job: str) -> Event:
    source = JobSource(kind="url", location="https://example.org/talk.mp4", name="talk.mp4")
    return JobCreated(job=job, origin=source)


async def by_turns(events: int, *, with_peer: bool) -> dict[str, dict[str, Any]]:
    """`{"ours": {"job_made": …, "job_started": …}, "peer": …}`, each over all turns, `events` in a turn."""
    found: dict[str, Runs] = {"ours": {}, "peer": {}} if with_peer else {"ours": {}}
    for turn in range(TURNS):
        for who in tuple(found) if turn % 2 == 0 else tuple(reversed(found)):
            await (_ours if who == "ours" else _peer)(events, found[who])
    return {who: {name: joined(runs).report() for name, runs in named.items()} for who, named in found.items()}


async def _ours(events: int, runs: Runs) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with servers(Path(folder)) as (bus, _):
            web = WebProcess(web_config(Path(folder)))
            try:
                await web.start()
                dispatcher = start(web.config)
                try:
                    await _beside_dispatcher(web, bus, events, runs)
                finally:
                    dispatcher.kill()
                    dispatcher.wait()
            finally:
                web.end()


async def _beside_dispatcher(web: WebProcess, bus: Bus, events: int, runs: Runs) -> None:
    async def publish(job: str) -> None:
        await bus.publish(started(job))

    async with Samples(bus) as samples:
        await samples.level((await bus.stream_state()).last_seq)
    async with dashboards(web.port, PEER_COUNT, "/ws?rooms=admin", web.token) as shown:
        found = await watch(publish, events, "job:downloading", shown, PEER_COUNT)
        runs.setdefault("job_started", []).append(found)
        async with Posting(web.port, web.token) as post:

            async def made(number: str) -> str:
                job = await post(number)
                ending.append(asyncio.create_task(end(job)))
                return job

            async def end(job: str) -> None:
                # Jobs that stay open would soon be promised more room than the disk has.
                await asyncio.sleep(1 / PER_S / 2)
                await bus.publish(JobCancelled(job=job, by="bench"))

            ending: list[asyncio.Task[None]] = []
            found = await watch(made, events, "job:created", shown, PEER_COUNT)
            runs.setdefault("job_made", []).append(found)
            await asyncio.gather(*ending)


class Posting:
    """`POST /api/jobs` over one kept connection; the job's id."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token

    async def __aenter__(self) -> Posting:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    async def __call__(self, job: str) -> str:
        body = msgspec.json.encode({"url": f"https://example.org/{job}.mp4"})
        head = f"POST /api/jobs HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nAuthorization: Bearer {self._token}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        told = msgspec.json.decode(await self._reader.readexactly(length))
        if b" 201 " not in answer.split(b"\r\n", 1)[0]:
            raise SystemExit(f"refused: {told}")
        return str(told["job"])


async def _peer(events: int, runs: Runs) -> None:
    from celery import Celery

    from bench.peers.place import read_times
    from bench.peers.stack import Client, Stack

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        stack = Stack(Path(folder))
        queue = Celery(broker=f"redis+socket://{folder}/r.sock?virtual_host=1")
        queue.conf.task_default_queue = "events"
        client = Client(stack.port)
        try:
            await stack.up()
            async with dashboards(stack.port, PEER_COUNT, "/ws") as shown:
                for name, kind, event in (
                    ("job_started", "job:downloading", started),
                    ("job_made", "job:created", created),
                ):

                    async def publish(job: str, event: Callable[[str], Event] = event) -> None:
                        messages: list[Event | Command] = [event(job)]
                        if event is created:
                            messages.append(Command(stage="download", job=job))
                        await client.store(messages)

                    found = await watch(publish, events, kind, shown, PEER_COUNT)
                    runs.setdefault(name, []).append(found)

                async def hand_out(job: str) -> None:
                    await asyncio.to_thread(queue.send_task, "jobs.start", (job, encode(started(job)).decode()))

                def begins() -> dict[str, int]:
                    now_ns, now_s = time.monotonic_ns(), time.time()
                    told = read_times(stack.folder)["began"]
                    return {job: now_ns - int((now_s - times[0]) * 1e9) for job, times in told.items()}

                found = await watch(hand_out, events, "job:downloading", shown, PEER_COUNT, begins=begins)
                runs.setdefault("job_started_unstored", []).append(found)
        finally:
            client.close()
            queue.close()
            stack.end()
