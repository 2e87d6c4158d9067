"""The live feed: `python -m bench.live [--events 120] [--json]`. Times are from the call of publish, fsync included, to
the bytes at a dashboard's socket.

A real nats-server, a database, and `python -m web` as its own process. Dashboards are raw sockets in a process of their
own (`bench.readers`), which reads the clock when bytes arrive; the publisher is this process. Each event is one job
that starts, twenty a second.

* bare: the same facts from a bare socket to another one (`bench.bare`): what no program is faster than here.
* bus: the same publishes, at a plain subscription in this process.
* feed: 1, 200 and 500 dashboards in the room `admin`; of every event and dashboard, and of the last dashboard of
  each event. Web's memory before and with 500.
* stalled: 50 dashboards, alone and beside one that reads nothing, in turns of a second; each time it comes back with
  an old position, so that more waits for it than its buffers take. `alone_apart`: the p99 of one half of the turns
  without it over the other half's, so what chance alone makes of the same thing.
* peer (needs the `bench` extra): the replaced stack and ours by turns (`bench.by_turns`).
* stolen_share: what the host took of this machine's time meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import socket
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import uvloop

from bench.bare import bare
from bench.by_turns import PEER_COUNT, by_turns, started
from bench.dashboards import PER_S, Run, dashboards, joined, spread, watch
from bench.ssot import servers
from bench.web_box import WebProcess, web_config
from bus.commit import outgoing
from bus.connection import Bus
from bus.ids import new_id
from bus.stored import Stored

COUNTS = (1, 200, 500)
P50_ONE_MS, P99_500_MS, MEMORY_500_MB = 1.0, 25.0, 40.0
PEER_SHARE = 0.5
STALL_TURNS, STALL_EVENTS, STALL_PER_S = 10, 60, 50.0
STALL_MISSED = 1000
"""Events that the one who stalls asks for: about 400 KB, of which the kernel takes some 250."""
STALL_PEEK_BYTES = 1024


async def on_bus(bus: Bus, watcher: Bus, events: int) -> dict[str, Any]:
    """Arrival at a plain subscription of another connection of this process."""
    arrived: dict[str, int] = {}
    began: dict[str, int] = {}

    def note(stored: Stored) -> None:
        arrived[stored.subject.split(".")[3]] = time.monotonic_ns()

    async with watcher.listen("evt.job.downloading.>", note):
        for _ in range(events):
            due, job = time.monotonic() + 1 / PER_S, new_id()
            began[job] = time.monotonic_ns()
            await bus.publish(started(job))
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        await watcher.settle(5)
    return spread([(arrived[job] - at) / 1e9 for job, at in began.items()])


async def ours(events: int) -> dict[str, Any]:
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with servers(Path(folder)) as (bus, _):
            web = WebProcess(web_config(Path(folder)))

            async def publish(job: str) -> None:
                await bus.publish(started(job))

            try:
                await web.start()
                facts = [outgoing(started(new_id())) for _ in range(events)]
                report["bare"] = spread(await bare(bus.settings, facts))
                async with await Bus.connect(bus.settings) as watcher:
                    report["bus"] = await on_bus(bus, watcher, events)
                report["memory_before_mb"] = round(web.rss_mb, 1)
                for count in COUNTS:
                    async with dashboards(web.port, count, "/ws?rooms=admin", web.token) as shown:
                        found = await watch(publish, events, "job:downloading", shown, count)
                        report[f"feed_{count}"] = found.report()
                        report[f"memory_{count}_mb"] = round(web.rss_mb, 1)
                report["stalled"] = await beside_stalled(web, bus)
            finally:
                web.end()
    return report


async def beside_stalled(web: WebProcess, bus: Bus) -> dict[str, Any]:
    async def publish(job: str) -> None:
        await bus.publish(started(job))

    for _ in range(STALL_MISSED // 500):
        await bus.commit([started(new_id()) for _ in range(500)])
    turns: dict[str, list[Run]] = {"without": [], "with": []}
    async with dashboards(web.port, 50, "/ws?rooms=admin", web.token) as shown:

        async def turn(name: str) -> None:
            found = await watch(publish, STALL_EVENTS, "job:downloading", shown, 50, per_s=STALL_PER_S)
            turns[name].append(found)

        for _ in range(STALL_TURNS):
            await turn("without")
            state = await bus.stream_state()
            with stalled(web, state.epoch, state.last_seq - STALL_MISSED) as sock:
                while len(sock.recv(STALL_PEEK_BYTES, socket.MSG_PEEK)) < STALL_PEEK_BYTES:
                    await asyncio.sleep(0.01)  # until it is served: a handshake is not what is measured
                await turn("with")
    alone = [spread(joined(turns["without"][half::2]).each)["p99_ms"] for half in (0, 1)]
    return {
        **{name: spread(joined(found).each) for name, found in turns.items()},
        "alone_apart": round(max(alone) / min(alone), 3),
        "missing": sum(found.missing for each in turns.values() for found in each),
        "lost": shown.lost,
    }


def stalled(web: WebProcess, epoch: str, seq: int) -> closing[socket.socket]:
    """A dashboard that never reads, with the smallest buffer, and asks for all that came after `seq`."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", web.port))
    head = f"GET /ws?rooms=admin&epoch={epoch}&seq={seq} HTTP/1.1\r\nHost: 127.0.0.1:{web.port}\r\n"
    head += f"Upgrade: websocket\r\nConnection: Upgrade\r\nAuthorization: Bearer {web.token}\r\n"
    head += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    sock.sendall(head.encode())
    return closing(sock)


def judged(report: dict[str, Any]) -> dict[str, bool]:
    """What was promised, and whether it holds."""
    mine = report["ours"]
    of_bare = mine["feed_1"]["all"]["p50_ms"] / mine["bare"]["p50_ms"]
    found = {
        f"one dashboard: p50 ≤ {P50_ONE_MS:g} ms ({of_bare:.2f} × two bare sockets)": mine["feed_1"]["all"]["p50_ms"]
        <= P50_ONE_MS,
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
    parser.add_argument("--events", type=int, default=120, help="of each figure; with the peer, of each turn")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    before = psutil.cpu_times()
    report: dict[str, Any] = {"load_before": os.getloadavg()[0], "ours": uvloop.run(ours(arguments.events))}
    with_peer = bool(importlib.util.find_spec("fastapi") and importlib.util.find_spec("celery"))
    for who, found in uvloop.run(by_turns(arguments.events, with_peer=with_peer)).items():
        report.setdefault(who, {}).update(found)
    report["load_after"] = os.getloadavg()[0]
    report["stolen_share"] = round(stolen(before, psutil.cpu_times()), 4)
    report["judged"] = judged(report)
    print(json.dumps(report, indent=None if arguments.json else 2, ensure_ascii=False))
    return 0 if all(report["judged"].values()) else 1


def stolen(before: Any, after: Any) -> float:
    """The host's share of all processor time between two of `psutil.cpu_times()`."""
    spent = sum(after) - sum(before)
    return (after.steal - before.steal) / spent if spent else 0.0


if __name__ == "__main__":
    sys.exit(main())
