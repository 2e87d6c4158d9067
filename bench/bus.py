"""The bus against the disk under it: storing one fact, one atomic batch, reading back.

    python -m bench.bus [--messages 1000] [--dir DIR] [--json]

An acknowledged message is on disk, so no publish can be faster than one write and fsync on the same volume: that floor
is measured in the same run, before and after, and the ratios are to it. The server runs as in the appliance. Everything
is sequential, one message in flight, except `reading` (all facts in order, as the dispatcher does).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from msgspec import Struct, to_builtins

from bus.commit import Expect
from bus.connection import Bus
from bus.events import ClipPlanned, Command, Event, JobCreated, JobSource
from bus.ids import new_id
from bus.projection import FactReader
from bus.provision import provision
from bus.server import credentials, prepare, wait_ready
from bus.subjects import item_filter

_BYTES = 512
_BATCH_CLIPS = 5
_WARM_UP = 50


class Spread(Struct, frozen=True):
    """Latencies in milliseconds."""

    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        ordered = sorted(seconds)
        at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3 for share in (0.50, 0.99)]
        return cls(round(at[0], 3), round(at[1], 3))


class Report(Struct, frozen=True):
    """One run."""

    messages: int
    floor: Spread
    """One write of 512 bytes and fsync on the same volume."""
    publish: Spread
    batch: Spread
    """Eleven messages: a fact with compare-and-set, then a fact and a command for each of five clips."""
    live: Spread
    """From the call of publish to the fact's arrival at another connection."""
    last_fact: Spread
    read_per_s: float
    publish_to_floor: float
    batch_to_floor: float
    server_rss_mib: float


def _fsync_floor(folder: Path, count: int) -> list[float]:
    seconds = []
    data = b"x" * _BYTES
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(count):
            started = time.perf_counter()
            file.write(data)
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - started)
    return seconds


async def _timed(call: Callable[[int], Awaitable[object]], count: int) -> list[float]:
    for number in range(_WARM_UP):
        await call(-1 - number)
    seconds = []
    for number in range(count):
        started = time.perf_counter()
        await call(number)
        seconds.append(time.perf_counter() - started)
    return seconds


def _created(job: str) -> JobCreated:
    return JobCreated(job=job, origin=JobSource(kind="file", location="/videos/talk.mp4", name="talk.mp4"))


def _plan(job: str) -> list[Event | Command]:
    messages: list[Event | Command] = [_created(job)]
    for clip in range(1, _BATCH_CLIPS + 1):
        messages.append(
            ClipPlanned(
                job=job, clip=clip, start_s=10.0 * clip, end_s=10.0 * clip + 20, score=0.5, title="t", reasons=["r"]
            )
        )
        messages.append(Command(stage="faces", job=job, clip=clip))
    return messages


async def _live_latency(bus: Bus, other: Bus, count: int) -> list[float]:
    async with other.live() as feed:

        async def there(number: int) -> None:
            publishing = asyncio.ensure_future(bus.publish(_created(new_id())))
            await feed.next(5)
            await publishing

        return await _timed(there, count)


async def _read_all(bus: Bus) -> float:
    async with FactReader(bus, 0) as reader:
        started, seen = time.perf_counter(), 0
        while facts := await reader.batch(512, wait_s=0):
            for fact in facts:
                _ = fact.event
            seen += len(facts)
    return seen / (time.perf_counter() - started)


def _rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return round(int(status.partition("VmRSS:")[2].split()[0]) / 1024, 1)


async def measure(folder: Path, count: int) -> Report:
    """Runs a server in `folder` and measures it; `count` messages of each kind."""
    spec = await asyncio.to_thread(prepare, folder)
    floor = await asyncio.to_thread(_fsync_floor, folder, count)
    with (folder / "nats.log").open("wb") as log:
        server = subprocess.Popen(spec.argv, env={**os.environ, **spec.env}, stdout=log, stderr=log)
    try:
        await wait_ready(spec)
        settings = await asyncio.to_thread(credentials, folder, "supervisor", url=spec.url)
        async with await Bus.connect(settings) as bus, await Bus.connect(settings) as other:
            await provision(bus.jetstream)
            publish = await _timed(lambda _: bus.publish(_created(new_id())), count)

            async def batch(_: int) -> None:
                job = new_id()
                await bus.commit(_plan(job), Expect(item_filter(job), 0))

            batches = await _timed(batch, max(1, count // 4))
            live = await _live_latency(bus, other, max(1, count // 4))
            job = new_id()
            await bus.commit(_plan(job))
            last_fact = await _timed(lambda _: bus.last_fact(job), count)
            read_per_s = await _read_all(other)
            rss_mib = _rss_mib(server.pid)
    finally:
        server.terminate()
        server.wait(timeout=10)
    floor += await asyncio.to_thread(_fsync_floor, folder, count)
    floor_spread, publish_spread, batch_spread = Spread.of(floor), Spread.of(publish), Spread.of(batches)
    return Report(
        messages=count,
        floor=floor_spread,
        publish=publish_spread,
        batch=batch_spread,
        live=Spread.of(live),
        last_fact=Spread.of(last_fact),
        read_per_s=round(read_per_s),
        publish_to_floor=round(publish_spread.p50_ms / floor_spread.p50_ms, 2),
        batch_to_floor=round(batch_spread.p50_ms / floor_spread.p50_ms, 2),
        server_rss_mib=rss_mib,
    )


def _print(report: Report) -> None:
    print(f"{'':28}{'p50 ms':>9}{'p99 ms':>9}   to the fsync floor (p50)")
    rows = (
        ("write + fsync (floor)", report.floor, 1.0),
        ("publish one fact", report.publish, report.publish_to_floor),
        (f"batch of {1 + 2 * _BATCH_CLIPS}, guarded", report.batch, report.batch_to_floor),
        ("publish to live feed", report.live, None),
        ("last fact of an item", report.last_fact, None),
    )
    for name, spread, ratio in rows:
        shown = "" if ratio is None else f"{ratio:>8.2f} x"
        print(f"{name:28}{spread.p50_ms:>9.3f}{spread.p99_ms:>9.3f}   {shown}")
    print(f"reading facts in order      {report.read_per_s:>9.0f} a second, decoded")
    print(f"nats-server resident        {report.server_rss_mib:>9.1f} MiB after all that")


def main(argv: list[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.bus", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=1000, help="of each kind (default 1000)")
    parser.add_argument("--dir", type=Path, help="folder on the volume to measure (default: a temporary one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args(argv)
    if not 10 <= args.messages <= 100_000:
        parser.error("--messages: from 10 to 100000")
    with tempfile.TemporaryDirectory(prefix="bench-bus-", dir=args.dir) as folder:
        report = asyncio.run(measure(Path(folder), args.messages))
    if args.json:
        print(json.dumps(to_builtins(report)))
    else:
        _print(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
