"""A large upload and the live feed beside it: `python -m bench.upload [--gib 1] [--json]`.

The whole box but its workers (web process, dispatcher, nats-server, redis-server). 25 dashboards, raw sockets in a
process of their own, and 20 events a second, from the call of publish (fsync included) to the bytes at a dashboard:

* idle: thirty seconds without an upload;
* during: while another process sends one file over one connection as fast as the box takes it (tus, one PATCH: on the
  disk and hashed before it is acknowledged);
* web's resident memory, ten times a second, against what it held before the upload.

The limits beside it: the same events at a plain subscription of the bus, which shares the disk with the upload, and a
file of the same size written by this process to the same volume, in pieces of 1 MiB, synced every 8 MiB like the box's.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import uvloop

from bench.by_turns import started
from bench.dashboards import PER_S, Dashboards, dashboards, spread, watch
from bench.raw_http import Kept
from bench.web_box import WebProcess, web_box
from bus.connection import Bus
from bus.stored import Stored

GIB = 1024**3
PIECE_BYTES, SYNC_BYTES = 1024**2, 8 * 1024**2
JOBS, COUNT = 10, 25
IDLE_S = 30.0
P99_FACTOR = 2.0
FLAT_MB = 40.0
"""Web may hold so much more while it takes an upload, whatever its size."""
HEAD = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"
"""What a video begins with, so that the box takes it."""
SEND_S = 600.0


def send(port: int, token: str, size: int) -> None:
    """Begin an upload and send all of it; prints the seconds from the first byte to the acknowledgement. Blocking."""
    tus = {"Authorization": f"Bearer {token}", "Tus-Resumable": "1.0.0"}
    told = ",".join(
        f"{key} {base64.b64encode(value).decode()}" for key, value in (("filename", b"a.mp4"), ("job", b"no"))
    )
    with closing(Kept(port, tus)) as kept:
        kept.socket.settimeout(SEND_S)
        made = kept.send(
            kept.request("POST", "/api/uploads", headers={"Upload-Length": str(size), "Upload-Metadata": told})
        )
        if made.status != 201:
            raise SystemExit(f"refused: {made.status} {made.body[:500]!r}")
        piece = memoryview(os.urandom(PIECE_BYTES))
        head = kept.head(
            "PATCH", made.headers["location"], size, "application/offset+octet-stream", {"Upload-Offset": "0"}
        )
        began = time.monotonic()
        kept.socket.sendall(head + HEAD)
        left = size - len(HEAD)
        while left:
            kept.socket.sendall(piece[: min(left, PIECE_BYTES)])
            left -= min(left, PIECE_BYTES)
        answer = kept.answer()
        if answer.status != 204 or answer.headers["upload-offset"] != str(size):
            raise SystemExit(f"not taken: {answer.status} {answer.headers} {answer.body[:500]!r}")
        print(time.monotonic() - began)


def write(folder: Path, size: int) -> float:
    """Seconds to write so much to the volume of `folder`. Blocking."""
    piece = os.urandom(PIECE_BYTES)
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        began, written = time.monotonic(), 0
        while written < size:
            written += file.write(piece[: min(PIECE_BYTES, size - written)])
            if written % SYNC_BYTES == 0:
                os.fdatasync(file.fileno())
        os.fdatasync(file.fileno())
        return time.monotonic() - began


async def memory(web: WebProcess, uploading: asyncio.Task[Any]) -> float:
    """The most that web holds, in 10⁶ bytes, until the upload is done."""
    most = web.rss_mb
    while not uploading.done():
        await asyncio.wait([uploading], timeout=0.1)
        most = max(most, web.rss_mb)
    return most


async def sender(web: WebProcess, size: int) -> float:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.upload", "--send", str(web.port), web.token, str(size)),
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await process.communicate()
    if process.returncode != 0:
        raise SystemExit("the upload failed")
    return float(told)


async def measure(size: int) -> dict[str, Any]:
    async with web_box(JOBS) as (web, bus):
        async with dashboards(web.port, COUNT, "/ws?rooms=admin", web.token) as shown:
            found = await beside(web, bus, shown, size)
        # Last: a file of this size that is removed again makes the disk slow for a while.
        floor_s = await asyncio.to_thread(write, web.config.data_dir, size)
        return {**found, "disk_mb_s": round(size / floor_s / 1e6, 1)}


async def beside(web: WebProcess, bus: Bus, shown: Dashboards, size: int) -> dict[str, Any]:
    began: dict[str, int] = {}
    on_bus: list[float] = []

    async def publish(job: str) -> None:
        began[job] = time.monotonic_ns()
        await bus.publish(started(job))

    def note(stored: Stored) -> None:
        if (began_ns := began.pop(stored.subject.split(".")[3], None)) is not None:
            on_bus.append((time.monotonic_ns() - began_ns) / 1e9)

    async with await Bus.connect(bus.settings) as watcher, watcher.listen("evt.job.downloading.>", note):
        events = round(IDLE_S * PER_S)
        await watch(publish, round(PER_S), "job:downloading", shown, COUNT)
        on_bus.clear()
        idle = (await watch(publish, events, "job:downloading", shown, COUNT)).report()
        idle["bus"] = spread(on_bus)
        on_bus.clear()
        before_mb = web.rss_mb
        uploading = asyncio.create_task(sender(web, size))
        watching = asyncio.create_task(memory(web, uploading))
        during = (await watch(publish, events, "job:downloading", shown, COUNT, uploading)).report()
        during["bus"] = spread(on_bus)
    seconds, most_mb = await uploading, await watching
    return {
        "bytes": size,
        "mb_s": round(size / seconds / 1e6, 1),
        "idle": idle,
        "during": during,
        "memory_before_mb": round(before_mb, 1),
        "memory_most_mb": round(most_mb, 1),
    }


def judged(found: dict[str, Any]) -> dict[str, bool]:
    idle, during = found["idle"], found["during"]
    factor = during["all"]["p99_ms"] / idle["all"]["p99_ms"]
    more_mb = found["memory_most_mb"] - found["memory_before_mb"]
    return {
        f"feed's p99 during the upload ≤ {P99_FACTOR:g} × idle ({factor:.2f})": factor <= P99_FACTOR,
        f"web's memory flat: at most {FLAT_MB:g} MB more ({more_mb:.1f})": more_mb <= FLAT_MB,
        "nobody dropped, nothing missing": not any(one["lost"] or one["missing"] for one in (idle, during)),
    }


def show(found: dict[str, Any]) -> None:
    print(
        f"{found['bytes'] / GIB:g} GiB at {found['mb_s']} MB/s (the disk alone: {found['disk_mb_s']} MB/s);"
        f" load {found['load_before']} to {found['load_after']}"
    )
    for name in ("idle", "during"):
        row = found[name]["all"]
        print(
            f"  feed, {name:7} p50 {row['p50_ms']:8.2f} ms   p99 {row['p99_ms']:8.2f} ms"
            f"   ({found[name]['events']} events at {COUNT} dashboards)"
        )
        row = found[name]["bus"]
        print(f"  bus,  {name:7} p50 {row['p50_ms']:8.2f} ms   p99 {row['p99_ms']:8.2f} ms")
    print(f"  web's memory  {found['memory_before_mb']} MB before, {found['memory_most_mb']} MB at most")
    for what, holds in found["judged"].items():
        print(f"  {'met   ' if holds else 'MISSED'} {what}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=1.0, help="size of the upload in GiB (default 1)")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--send", nargs=3, metavar=("PORT", "TOKEN", "BYTES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.send is not None:
        send(int(arguments.send[0]), arguments.send[1], int(arguments.send[2]))
        return 0
    if not 0.01 <= arguments.gib <= 1000:
        parser.error("--gib: from 0.01 to 1000")
    load_before = round(os.getloadavg()[0], 2)
    found: dict[str, Any] = uvloop.run(measure(round(arguments.gib * GIB)))
    found |= {"load_before": load_before, "load_after": round(os.getloadavg()[0], 2)}
    found["judged"] = judged(found)
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)
    return 0 if all(found["judged"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
