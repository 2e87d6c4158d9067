"""The live feed: `python -m bench.live [--events 120] [--json]`. Times are from the call of publish, fsync included, to
the bytes at a dashboard's socket.

A real nats-server, a database, and `python -m web` as its own process. Dashboards are raw sockets in a process of their
own (`bench.readers`), which reads the clock when bytes arrive; the publisher is this process. Each event is one job
that starts, twenty a second.

* bus: the same publishes, at a plain subscription of this machine: what no feed can be faster than.
* feed: 1, 200 and 500 dashboards in the room `admin`; of every event and dashboard, and of the last dashboard of
  each event. Web's memory before and with 500.
* stalled: 50 dashboards, and one that reads nothing.
* peer (needs the `bench` extra): FastAPI, Redis pub/sub and a WebSocket loop that encodes for each dashboard
  (`bench/peers`), 25 dashboards. A job is made over HTTP, and one is started; until the last dashboard has it. Ours
  runs its dispatcher meanwhile, the peer its Celery worker. `job_started_unstored`, for comparison: the peer's worker
  tells the dashboards by PUBLISH from inside its task, and nothing is stored; ours and the others are, with fsync.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from bench.dispatcher import Samples, start
from bench.ssot import servers
from bench.web_box import WebProcess, web_config
from bus.connection import Bus
from bus.events import Command, Event, JobCancelled, JobCreated, JobDownloading, JobSource, encode
from bus.ids import new_id
from bus.stored import Stored

COUNTS = (1, 200, 500)
PEER_COUNT = 25
PER_S = 20.0
LATE_S = 15.0
"""Frames that have not come so long after the last publish are missing."""
P50_ONE_MS, P99_500_MS, MEMORY_500_MB = 1.0, 25.0, 40.0
PEER_SHARE = 0.5
SHARES = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
Publish = Callable[[str], Awaitable[str | None]]


class Dashboards:
    """`count` of them, in their own process."""

    def __init__(self, port: int, count: int, path: str, bearer: str | None) -> None:
        arguments = [str(port), str(count), path, *([bearer] if bearer else [])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.readers", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.lost = 0

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        line = await asyncio.to_thread(self._process.stdout.readline)
        if not line:
            raise SystemExit("the dashboards ended")
        return line

    async def ready(self) -> None:
        await self._line()

    async def arrived(self) -> dict[str, list[int]]:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        told = json.loads(await self._line())
        self.lost = told.pop("lost")
        return dict(told)

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@asynccontextmanager
async def dashboards(port: int, count: int, path: str, bearer: str | None = None) -> AsyncIterator[Dashboards]:
    found = Dashboards(port, count, path, bearer)
    try:
        await found.ready()
        yield found
    finally:
        found.end()


def started(job: str) -> Event:
    return JobDownloading(job=job, stage="download", attempt=1, worker="w")


def created(job: str) -> Event:
    source = JobSource(kind="url", location="https://example.org/talk.mp4", name="talk.mp4")
    return JobCreated(job=job, origin=source)


def spread(seconds: Sequence[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    return {name: round(ordered[min(len(ordered) - 1, int(len(ordered) * q))] * 1e3, 3) for name, q in SHARES.items()}


async def run(
    publish: Publish,
    events: int,
    kind: str,
    shown: Dashboards,
    count: int,
    during: asyncio.Future[Any] | None = None,
    begins: Callable[[], dict[str, int]] | None = None,
) -> dict[str, Any]:
    """Publishes at a steady pace; of all dashboards, and of the last one of each event.

    `during`: go on until it is done instead of for `events`. `begins`: when each job's event began, in monotonic
    nanoseconds, told at the end by somebody else; otherwise it is the call of `publish`.
    """
    await shown.arrived()
    began: dict[str, int] = {}
    while not during.done() if during is not None else len(began) < events:
        due = time.monotonic() + 1 / PER_S
        job = new_id()
        began_ns = time.monotonic_ns()
        told = await publish(job)
        began[f"{kind} {told or job}"] = began_ns
        await asyncio.sleep(max(0.0, due - time.monotonic()))
    arrived: dict[str, list[int]] = {}
    deadline = time.monotonic() + LATE_S
    while True:
        for key, times in (await shown.arrived()).items():
            if key in began:
                arrived.setdefault(key, []).extend(times)
        missing = len(began) * count - sum(len(times) for times in arrived.values())
        if not missing or shown.lost or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    if begins is not None:
        began = {f"{kind} {job}": at for job, at in begins().items()}
    each = [(at - began[key]) / 1e9 for key, times in arrived.items() for at in times]
    last = [(max(times) - began[key]) / 1e9 for key, times in arrived.items()]
    return {"all": spread(each), "last": spread(last), "missing": missing, "lost": shown.lost, "events": len(began)}


async def on_bus(bus: Bus, watcher: Bus, events: int) -> dict[str, Any]:
    """Arrival at a plain subscription of another connection."""
    arrived: dict[int, int] = {}
    seconds = []

    def note(stored: Stored) -> None:
        arrived[stored.seq] = time.monotonic_ns()

    async with watcher.listen("evt.job.downloading.>", note):
        for _ in range(events):
            began = time.monotonic_ns()
            seq = await bus.publish(started(new_id()))
            async with asyncio.timeout(5):
                while seq not in arrived:
                    await asyncio.sleep(0)
            seconds.append((arrived[seq] - began) / 1e9)
            await asyncio.sleep(1 / PER_S / 5)
    return spread(seconds)


async def ours(events: int) -> dict[str, Any]:
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with servers(Path(folder)) as (bus, _):
            web = WebProcess(web_config(Path(folder)))

            async def publish(job: str) -> None:
                await bus.publish(started(job))

            try:
                await web.start()
                async with await Bus.connect(bus.settings) as watcher:
                    report["bus"] = await on_bus(bus, watcher, events)
                report["memory_before_mb"] = round(web.rss_mb, 1)
                for count in COUNTS:
                    async with dashboards(web.port, count, "/ws?rooms=admin", web.token) as shown:
                        report[f"feed_{count}"] = await run(publish, events, "job:downloading", shown, count)
                        report[f"memory_{count}_mb"] = round(web.rss_mb, 1)
                async with dashboards(web.port, 50, "/ws?rooms=admin", web.token) as shown:
                    before = await run(publish, events, "job:downloading", shown, 50)
                    with stalled(web):
                        after = await run(publish, events, "job:downloading", shown, 50)
                    report["stalled"] = {
                        "without": before["all"],
                        "with": after["all"],
                        "missing": before["missing"] + after["missing"],
                        "lost": after["lost"],
                    }
                dispatcher = start(web.config)
                try:
                    await beside_dispatcher(web, bus, events, report)
                finally:
                    dispatcher.kill()
                    dispatcher.wait()
            finally:
                web.end()
    return report


async def beside_dispatcher(web: WebProcess, bus: Bus, events: int, report: dict[str, Any]) -> None:
    """What is compared with the peer: like its worker, the dispatcher takes in every fact meanwhile."""

    async def publish(job: str) -> None:
        await bus.publish(started(job))

    async with Samples(bus) as samples:
        await samples.level((await bus.stream_state()).last_seq)
    async with dashboards(web.port, PEER_COUNT, "/ws?rooms=admin", web.token) as shown:
        report["job_started"] = await run(publish, events, "job:downloading", shown, PEER_COUNT)
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
            report["job_made"] = await run(made, events, "job:created", shown, PEER_COUNT)
            await asyncio.gather(*ending)


def stalled(web: WebProcess) -> closing[socket.socket]:
    """A dashboard that never reads, with the smallest buffer."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", web.port))
    head = (
        f"GET /ws?rooms=admin HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    )
    head += f"Authorization: Bearer {web.token}\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    sock.sendall(f"{head}Sec-WebSocket-Version: 13\r\n\r\n".encode())
    return closing(sock)


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


async def peer(events: int) -> dict[str, Any]:
    from celery import Celery

    from bench.peers.place import read_times
    from bench.peers.stack import Client, Stack

    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        stack = Stack(Path(folder))
        queue = Celery(broker=f"redis+socket://{folder}/r.sock?virtual_host=1")
        queue.conf.task_default_queue = "events"
        client = Client(stack.port)
        try:
            await stack.up()
            async with dashboards(stack.port, PEER_COUNT, "/ws") as shown:
                for name, kind, event in (
                    ("job_made", "job:created", created),
                    ("job_started", "job:downloading", started),
                ):

                    async def publish(job: str, event: Callable[[str], Event] = event) -> None:
                        messages: list[Event | Command] = [event(job)]
                        if event is created:
                            messages.append(Command(stage="download", job=job))
                        await client.store(messages)

                    report[name] = await run(publish, events, kind, shown, PEER_COUNT)

                async def hand_out(job: str) -> None:
                    await asyncio.to_thread(queue.send_task, "jobs.start", (job, encode(started(job)).decode()))

                def begins() -> dict[str, int]:
                    now_ns, now_s = time.monotonic_ns(), time.time()
                    told = read_times(stack.folder)["began"]
                    return {job: now_ns - int((now_s - times[0]) * 1e9) for job, times in told.items()}

                report["job_started_unstored"] = await run(
                    hand_out, events, "job:downloading", shown, PEER_COUNT, begins=begins
                )
        finally:
            client.close()
            stack.end()
    return report


def judged(report: dict[str, Any]) -> dict[str, bool]:
    """What was promised, and whether it holds."""
    mine = report["ours"]
    found = {
        f"one dashboard: p50 ≤ {P50_ONE_MS:g} ms": mine["feed_1"]["all"]["p50_ms"] <= P50_ONE_MS,
        f"500 dashboards: p99 ≤ {P99_500_MS:g} ms": mine["feed_500"]["all"]["p99_ms"] <= P99_500_MS,
        f"500 dashboards: at most {MEMORY_500_MB:g} MB more": mine["memory_500_mb"] - mine["memory_before_mb"]
        <= MEMORY_500_MB,
        "nobody dropped, nothing missing": not any(
            mine[name]["lost"] or mine[name]["missing"]
            for name in (*(f"feed_{count}" for count in COUNTS), "stalled", "job_made", "job_started")
        ),
        "one that stalls costs the others at most 10 % (p99)": mine["stalled"]["with"]["p99_ms"]
        <= 1.1 * mine["stalled"]["without"]["p99_ms"],
    }
    if "peer" in report:
        for name in ("job_made", "job_started"):
            for share in ("p50_ms", "p99_ms"):
                ratio = mine[name]["last"][share] / report["peer"][name]["last"][share]
                found[f"{name}, last of {PEER_COUNT}, {share[:3]} ≤ {PEER_SHARE:g} × the peer's ({ratio:.2f})"] = (
                    ratio <= PEER_SHARE
                )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=120)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"load_before": os.getloadavg()[0], "ours": uvloop.run(ours(arguments.events))}
    if importlib.util.find_spec("fastapi") and importlib.util.find_spec("celery"):
        report["peer"] = uvloop.run(peer(arguments.events))
    report["load_after"] = os.getloadavg()[0]
    report["judged"] = judged(report)
    print(json.dumps(report, indent=None if arguments.json else 2, ensure_ascii=False))
    return 0 if all(report["judged"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
