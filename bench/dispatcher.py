"""The dispatcher on a box's real pieces: `python -m bench.dispatcher [--seconds 20] [--json]`.

A real nats-server, a real redis-server on a unix socket, a real database on disk, and the dispatcher as its own process
(`python -m appliance.dispatcher`), while this process stores the lives of many jobs (`bench.traffic`).

* quiet: 100 facts a second with the pauses of a Poisson process. From the moment at which the server stored a fact (by
  its clock, so its own fsync is included) to: the rows committed, the cache invalidated, the first attempt of each
  action begun. The dispatcher counts these itself, always (`tel.dispatcher.box`); here the interval's counts are read.
  Beside it, from outside: from the call of publish to the invalidation that Redis shows to MONITOR.
* ladder: rising rates for a few seconds each, facts in atomic batches of 16 or some more. A rate is sustained when all
  of it was stored in time and 99 of 100 facts written within a quarter of a second: of a queue that grows, more wait.
* catching up: killed with SIGKILL; 20,000 facts are stored; started again. Facts a second until it is level, and
  whether every fact that was acknowledged in the whole run is in the database, once.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from appliance.cache.settings import Cache as CacheSettings
from appliance.config import Config
from appliance.dispatcher.figures import DispatcherSample
from appliance.dispatcher.histogram import Durations, quantiles_ms
from appliance.sqlite import sqlite3
from appliance.store.database import journal_mode
from appliance.supervisor.programs import dispatcher_program
from bench.ssot import servers
from bench.traffic import Publisher, Sent, lanes, last_fact, lives, on
from bus.connection import Bus

QUIET_PER_S = 100
LADDER_PER_S = (1000, 2000, 3000, 4000, 5000)
STEP_S = 4.0
LANES, BATCH_FACTS = 20, 16
BACKLOG_FACTS = 20_000
WAITING_S = 0.25
P50_MS, P99_MS, SUSTAINED_PER_S = 5.0, 20.0, 3000
SHARES = {"p50_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99, "max_ms": 1.0}
_MARK = re.compile(rb'^\+(\d+\.\d+) .*"SET" "[^"]*ssot:1:mark:events" "\[\\"[^\\]*\\",(\d+)\]')


class Samples:
    """What the dispatcher tells of itself, as it comes."""

    def __init__(self, bus: Bus) -> None:
        self._feed = bus.telemetry_feed("tel.dispatcher.box")
        self.seen: list[DispatcherSample] = []

    async def first(self) -> DispatcherSample:
        """The first sample of a process that began now."""
        return await self.until(lambda sample: True, 30.0)

    async def until(self, true: Any, wait_s: float) -> DispatcherSample:
        """The next sample of which it is true. Ends the program after `wait_s`."""
        deadline = time.monotonic() + wait_s
        while (left_s := deadline - time.monotonic()) > 0:
            if (got := await self._feed.next(left_s)) is not None:
                self.seen.append(msgspec.json.decode(got.data, type=DispatcherSample))
                if true(self.seen[-1]):
                    return self.seen[-1]
        raise SystemExit(f"the dispatcher did not get there within {wait_s:g} s; last heard: {self.seen[-1:]}")

    async def level(self, seq: int, wait_s: float = 60.0) -> DispatcherSample:
        """The next sample in which `seq` is written, and its actions are done."""
        return await self.until(lambda s: s.seq >= seq and s.lag_events == 0 and s.actions_open == 0, wait_s)

    async def __aenter__(self) -> Samples:
        await self._feed.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._feed.__aexit__(None, None, None)


def start(config: Config) -> subprocess.Popen[bytes]:
    """The dispatcher's process, as the supervisor starts it."""
    program = dispatcher_program(config)
    with (config.data_dir / "dispatcher.log").open("ab") as log:
        return subprocess.Popen(program.argv, env={**os.environ, **program.env}, stdout=log, stderr=log)


@contextlib.asynccontextmanager
async def monitored(socket: str) -> AsyncIterator[list[tuple[int, float]]]:
    """The positions up to which Redis was told that the event flow is wrong, and when, while the block runs."""
    reader, writer = await asyncio.open_unix_connection(socket)
    marks: list[tuple[int, float]] = []

    async def read() -> None:
        while line := await reader.readline():
            if found := _MARK.match(line):
                marks.append((int(found[2]), float(found[1])))

    writer.write(b"MONITOR\r\n")
    task = asyncio.create_task(read())
    try:
        yield marks
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        writer.close()


def told(durations: Durations) -> dict[str, Any]:
    return {"facts": durations.count, **quantiles_ms(durations, SHARES)}


def spread(seconds: Sequence[float]) -> dict[str, Any]:
    ordered = sorted(seconds)
    at = {name: ordered[min(len(ordered) - 1, int(len(ordered) * share))] for name, share in SHARES.items()}
    return {"facts": len(ordered), **{name: round(value * 1000, 2) for name, value in at.items()}}


def from_outside(sent: Sequence[Sent], marks: list[tuple[int, float]]) -> list[float]:
    """Seconds from each fact's publish to the first invalidation that includes it."""
    reached = [seq for seq, _ in marks]
    found = []
    for one in sent:
        for seq, _ in one.facts:
            if (n := bisect.bisect_left(reached, seq)) < len(marks):
                found.append(marks[n][1] - one.sent_s)
    return found


async def quiet(publisher: Publisher, samples: Samples, socket: str, seconds: float) -> dict[str, Any]:
    rng, commits = random.Random(1), lives(random.Random(2))
    await publisher.paced(commits, QUIET_PER_S, min(3.0, seconds), rng)
    before = await samples.level(last_fact(publisher.sent))
    warm = len(publisher.sent)
    async with monitored(socket) as marks:
        await publisher.paced(commits, QUIET_PER_S, seconds, rng)
        after = await samples.level(last_fact(publisher.sent))
    sent = publisher.sent[warm:]
    return {
        "written": told(after.written.since(before.written)),
        "invalidated": told(after.invalidated.since(before.invalidated)),
        "acted": told(after.acted.since(before.acted)),
        "publish_to_ack": spread([one.acked_s - one.sent_s for one in sent]),
        "publish_to_invalidated": spread(from_outside(sent, marks)),
    }


async def ladder(publisher: Publisher, samples: Samples, rates: Sequence[int]) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    commits = lanes(random.Random(4), LANES, BATCH_FACTS)
    before = samples.seen[-1]
    for rate in rates:
        acked, began = publisher.acked_facts, time.time()
        await publisher.paced(commits, rate, STEP_S, None)
        took_s = time.time() - began
        stored_per_s = (publisher.acked_facts - acked) / took_s
        level = await samples.level(last_fact(publisher.sent))
        written = level.written.since(before.written)
        step = {
            "offered_per_s": rate,
            "stored_per_s": round(stored_per_s),
            **{f"written_{name}": value for name, value in quantiles_ms(written, SHARES).items()},
            "load": round(os.getloadavg()[0], 2),
        }
        step["sustained"] = stored_per_s >= 0.95 * rate and (written.quantile_s(0.99) or 0.0) <= WAITING_S
        steps.append(step)
        before = level
        if not step["sustained"]:
            break
    return steps


async def catching_up(
    publisher: Publisher, samples: Samples, config: Config, process: subprocess.Popen[bytes]
) -> tuple[dict[str, Any], subprocess.Popen[bytes]]:
    process.kill()
    process.wait()
    await publisher.burst(lanes(random.Random(5), LANES, 200), BACKLOG_FACTS)
    again, began = start(config), time.time()
    first = await samples.until(lambda sample: sample.started_at.timestamp() >= began and sample.events > 0, 60.0)
    level = await samples.level(last_fact(publisher.sent))
    # From the first transaction, which the sample before it cannot date: from the start of counting, to be strict.
    begun_s = first.started_at.timestamp()
    per_s = level.events / max(0.001, level.ts.timestamp() - begun_s)
    return {"facts": level.events, "seconds": round(level.ts.timestamp() - begun_s, 2), "per_s": round(per_s)}, again


def lost(database: Path, sent: Sequence[Sent]) -> dict[str, int]:
    """Facts that were acknowledged and are not in the database, and those there twice."""
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
    rows = dict(db.execute("SELECT seq, id FROM events").fetchall())
    total, distinct = db.execute("SELECT count(*), count(DISTINCT id) FROM events").fetchone()
    db.close()
    acked = [fact for one in sent for fact in one.facts]
    missing = sum(1 for seq, ident in acked if rows.get(seq) != ident)
    return {"acknowledged": len(acked), "lost": missing, "twice": total - distinct}


async def measure(seconds: float, rates: Sequence[int]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data_dir = Path(folder)
        async with servers(data_dir) as (bus, url), Samples(bus) as samples:
            config = Config(data_dir=data_dir, cache=CacheSettings(url=url))
            process = start(config)
            try:
                await samples.first()
                publisher = Publisher(on(bus))
                report: dict[str, Any] = {"journal": journal_mode(), "load_before": round(os.getloadavg()[0], 2)}
                report["quiet"] = await quiet(publisher, samples, url.removeprefix("unix://"), seconds)
                report["ladder"] = await ladder(publisher, samples, rates)
                report["catching_up"], process = await catching_up(publisher, samples, config, process)
                report["kept"] = await asyncio.to_thread(lost, data_dir / "appliance.db", publisher.sent)
                report["load_after"] = round(os.getloadavg()[0], 2)
            finally:
                process.kill()
                process.wait()
    return report


def met(report: dict[str, Any]) -> bool:
    parts = [report["quiet"][name] for name in ("written", "invalidated", "acted")]
    fast = all(part["p50_ms"] <= P50_MS and part["p99_ms"] <= P99_MS for part in parts)
    sustained = max((s["offered_per_s"] for s in report["ladder"] if s["sustained"]), default=0)
    return fast and sustained >= SUSTAINED_PER_S and not report["kept"]["lost"] and not report["kept"]["twice"]


def show(report: dict[str, Any]) -> None:
    load = f"load {report['load_before']} before, {report['load_after']} after"
    print(f"{QUIET_PER_S} facts a second, journal {report['journal']}, {load}; milliseconds")
    print(f"  {'':34}{'facts':>7}{'p50':>9}{'p95':>9}{'p99':>9}{'max':>9}")
    names = {
        "written": "stored -> rows committed",
        "invalidated": "stored -> cache invalidated",
        "acted": "stored -> action begun",
        "publish_to_ack": "publish -> acknowledged",
        "publish_to_invalidated": "publish -> invalidated, outside",
    }
    for name, words in names.items():
        row = report["quiet"][name]
        print(f"  {words:34}{row['facts']:>7}" + "".join(f"{row[share]:>9.2f}" for share in SHARES))
    print(f"  target of the first three: p50 {P50_MS:g}, p99 {P99_MS:g}")
    for step in report["ladder"]:
        verdict = "sustained" if step["sustained"] else "not sustained"
        print(
            f"  {step['offered_per_s']:>5}/s offered, {step['stored_per_s']:>5}/s stored, rows committed"
            f" p50 {step['written_p50_ms']:.1f} p99 {step['written_p99_ms']:.1f} max {step['written_max_ms']:.1f} ms:"
            f" {verdict} (load {step['load']})"
        )
    print(f"  target: {SUSTAINED_PER_S}/s sustained")
    found, kept = report["catching_up"], report["kept"]
    print(f"  after SIGKILL: {found['facts']} facts in {found['seconds']} s, start included: {found['per_s']}/s")
    print(f"  of {kept['acknowledged']} acknowledged facts {kept['lost']} lost, {kept['twice']} twice")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="at 100 facts a second")
    parser.add_argument("--rates", type=int, nargs="*", default=list(LADDER_PER_S), help="facts a second of the ladder")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    report = uvloop.run(measure(arguments.seconds, arguments.rates))
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        show(report)
    return 0 if met(report) else 1


if __name__ == "__main__":
    sys.exit(main())
