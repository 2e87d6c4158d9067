"""Against the stack that this design replaces: `python -m bench.peer [--seconds 8] [--json]`.

FastAPI, Redis pub/sub and Celery (`bench/peers`) and ours, one after the other on this machine, with the same facts at
the same moments (`bench.traffic`), the same rows, cache keys and actions. Needs the `bench` extra.

* 100 facts a second. *sent* is the call of the client, *stored* is durable: with us the server's time stamp, before its
  fsync, with the peer the end of the SQLite transaction, after it. Invalidation from *sent* is seen from outside with
  us (Redis MONITOR) and told by the worker with the peer.
* The highest rate at which 99 of 100 facts have their cache invalidated within a quarter of a second, in steps of three
  seconds, 16 facts in a commit.
* SIGKILL of one process in the middle of six seconds at 200 facts a second, started again a second later. Counted when
  nothing moves any more: acknowledged facts without their row; facts whose cache keys were never invalidated ("stale");
  jobs whose clips have all ended and that were not ended themselves (their action was lost), or ended twice.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import uvloop

from appliance.cache.settings import Cache as CacheSettings
from appliance.config import Config
from appliance.sqlite import sqlite3
from bench.dispatcher import BATCH_FACTS, LANES, QUIET_PER_S, Samples, from_outside, monitored, spread, start, told
from bench.ssot import servers
from bench.traffic import Publisher, Sent, lanes, last_fact, lives, on

STEP_S, WITHIN_S = 3.0, 0.25
OURS_PER_S = (2000, 3000, 4000)
PEER_PER_S = (100, 200, 400, 600, 800, 1200)
KILL_PER_S, KILL_S, KILL_AT_S, DOWN_S = 200, 6.0, 2.0, 1.0
LOSSES = ("rows_lost", "never_invalidated", "jobs_not_ended", "jobs_ended_twice")
QUIET_S = 1.5
"""Nothing has moved for this long: it is over."""
MISSING = (
    "the peer needs FastAPI and Celery: run `make bench WHAT=peer`, which installs them, or"
    " `pip install --require-hashes -r requirements-bench.lock`"
)


# -- 100 a second, and more -------------------------------------------------------------------------------------------


async def ours(seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data_dir = Path(folder)
        async with servers(data_dir) as (bus, url), Samples(bus) as samples:
            process = start(Config(data_dir=data_dir, cache=CacheSettings(url=url)))
            try:
                await samples.first()
                publisher, rng = Publisher(on(bus)), random.Random(1)
                commits, batches = lives(random.Random(2)), lanes(random.Random(4), LANES, BATCH_FACTS)
                await publisher.paced(commits, QUIET_PER_S, 3.0, rng)
                before, warm = await samples.level(last_fact(publisher.sent)), len(publisher.sent)
                async with monitored(url.removeprefix("unix://")) as marks:
                    await publisher.paced(commits, QUIET_PER_S, seconds, rng)
                    after = await samples.level(last_fact(publisher.sent))
                sent = publisher.sent[warm:]
                found = {
                    "sent_to_acknowledged": spread([one.acked_s - one.sent_s for one in sent]),
                    "sent_to_invalidated": spread(from_outside(sent, marks)),
                    "stored_to_invalidated": told(after.invalidated.since(before.invalidated)),
                    "stored_to_acted": told(after.acted.since(before.acted)),
                }

                async def step(rate: int) -> float | None:
                    earlier = samples.seen[-1]
                    await publisher.paced(batches, rate, STEP_S, rng)
                    level = await samples.level(last_fact(publisher.sent))
                    return level.invalidated.since(earlier.invalidated).quantile_s(0.99)

                found["sustained_per_s"] = await climb(publisher, step, OURS_PER_S)
            finally:
                process.kill()
                process.wait()
    return found


async def theirs(seconds: float) -> dict[str, Any]:
    from bench.peers.place import read_times
    from bench.peers.stack import Client, Stack

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        stack = Stack(Path(folder))
        try:
            await stack.up()
            client = Client(stack.port)
            publisher, rng = Publisher(client.store), random.Random(1)
            commits, batches = lives(random.Random(2)), lanes(random.Random(4), LANES, BATCH_FACTS)
            await publisher.paced(commits, QUIET_PER_S, 3.0, rng)
            await idle(stack.waiting)
            warm = len(publisher.sent)
            await publisher.paced(commits, QUIET_PER_S, seconds, rng)
            await idle(stack.waiting)
            sent = publisher.sent[warm:]
            times = read_times(stack.folder)
            found = {
                "sent_to_acknowledged": spread([one.acked_s - one.sent_s for one in sent]),
                "sent_to_invalidated": spread(delays(sent, times["invalidated"])),
                "stored_to_invalidated": spread(delays(sent, times["invalidated"], times["stored"])),
                "stored_to_acted": spread(delays(sent, times["acted"], times["stored"])),
            }

            async def step(rate: int) -> float | None:
                earlier = len(publisher.sent)
                await publisher.paced(batches, rate, STEP_S, rng)
                await idle(stack.waiting)
                now = await asyncio.to_thread(read_times, stack.folder)
                waited = sorted(delays(publisher.sent[earlier:], now["invalidated"], now["stored"]))
                return waited[int(len(waited) * 0.99)] if waited else None

            found["sustained_per_s"] = await climb(publisher, step, PEER_PER_S)
            client.close()
        finally:
            stack.end()
    return found


async def climb(
    publisher: Publisher, step: Callable[[int], Awaitable[float | None]], rates: Sequence[int]
) -> dict[str, Any]:
    """The highest of the rates that was stored in time and followed within `WITHIN_S`, and the first that was not."""
    best, missed = 0, None
    for rate in rates:
        acked, began = publisher.acked_facts, time.monotonic()
        sending = asyncio.create_task(_paced_s(publisher, began))
        longest = await step(rate)
        stored_per_s = (publisher.acked_facts - acked) / max(STEP_S, await sending)
        if longest is None or longest > WITHIN_S or stored_per_s < 0.9 * rate:
            missed = {"offered": rate, "stored": round(stored_per_s), "p99_s": longest and round(longest, 2)}
            break
        best = rate
    return {"best": best, "missed": missed}


async def _paced_s(publisher: Publisher, began: float) -> float:
    """Seconds until no more was acknowledged for half a second."""
    seen, at = publisher.acked_facts, began
    while time.monotonic() < began + STEP_S or time.monotonic() < at + 0.5:
        await asyncio.sleep(0.05)
        if publisher.acked_facts != seen:
            seen, at = publisher.acked_facts, time.monotonic()
    return at - began


def delays(
    sent: Sequence[Sent], done: dict[str, list[float]], since: dict[str, list[float]] | None = None
) -> list[float]:
    """Seconds from each fact's sending, or the moment in `since`, to the first in `done`."""
    found = []
    for one in sent:
        for _, ident in one.facts:
            if ident in done:
                found.append(done[ident][0] - (one.sent_s if since is None else since[ident][0]))
    return found


async def idle(waiting: Callable[[], Awaitable[int]], limit_s: float = 60.0) -> None:
    """Until nothing waits, for a moment on end."""
    deadline, quiet_at = time.monotonic() + limit_s, time.monotonic() + 0.5
    while time.monotonic() < min(deadline, quiet_at):
        if await waiting():
            quiet_at = time.monotonic() + 0.5
        await asyncio.sleep(0.05)


# -- killed -----------------------------------------------------------------------------------------------------------


async def kill_our_dispatcher() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        data_dir = Path(folder)
        async with servers(data_dir) as (bus, url), Samples(bus) as samples:
            config = Config(data_dir=data_dir, cache=CacheSettings(url=url))
            process = start(config)
            try:
                await samples.first()
                publisher = Publisher(on(bus))
                sending = asyncio.create_task(
                    publisher.paced(lives(random.Random(6), 12), KILL_PER_S, KILL_S, random.Random(7))
                )
                await asyncio.sleep(KILL_AT_S)
                process.kill()
                process.wait()
                await asyncio.sleep(DOWN_S)
                process = start(config)
                await sending
                last = last_fact(publisher.sent)
                await samples.level(last)
                await settle(data_dir / "appliance.db")
                position = await mark(url.removeprefix("unix://"))
                facts = [seq for one in publisher.sent for seq, _ in one.facts]
                stale = sum(1 for seq in facts if seq > position)
                return counted(publisher, data_dir / "appliance.db", stale)
            finally:
                process.kill()
                process.wait()


async def kill_theirs(name: str) -> dict[str, Any]:
    """`name`: web, worker or redis."""
    from bench.peers.place import read_times
    from bench.peers.stack import Client, Stack
    from bench.peers.tasks import VISIBILITY_S

    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        stack = Stack(Path(folder))
        try:
            await stack.up()
            client = Client(stack.port)
            publisher = Publisher(client.store)
            sending = asyncio.create_task(
                publisher.paced(lives(random.Random(6), 12), KILL_PER_S, KILL_S, random.Random(7))
            )
            await asyncio.sleep(KILL_AT_S)
            stack.kill(name)  # type: ignore[arg-type]
            await asyncio.sleep(DOWN_S)
            stack.start(name)  # type: ignore[arg-type]
            await sending
            with suppress(OSError):
                await idle(stack.waiting, 3 * VISIBILITY_S)
            await settle(stack.folder / "appliance.db")
            invalidated = (await asyncio.to_thread(read_times, stack.folder)).get("invalidated", {})
            facts = [ident for one in publisher.sent for _, ident in one.facts]
            stale = sum(1 for ident in facts if ident not in invalidated)
            client.close()
            return counted(publisher, stack.folder / "appliance.db", stale)
        finally:
            stack.end()


async def settle(database: Path, limit_s: float = 20.0) -> None:
    """Until no fact has come into the database for `QUIET_S`."""
    deadline, seen, at = time.monotonic() + limit_s, -1, time.monotonic()
    while time.monotonic() < min(deadline, at + QUIET_S):
        (count,) = await asyncio.to_thread(_one, database, "SELECT count(*) FROM events")
        if count != seen:
            seen, at = count, time.monotonic()
        await asyncio.sleep(0.2)


async def mark(sock: str) -> int:
    """The position up to which the event flow in our cache is known to be wrong."""
    reader, writer = await asyncio.open_unix_connection(sock)
    writer.write(f"GET {CacheSettings().prefix}ssot:1:mark:events\r\n".encode())
    try:
        if (await reader.readline()).startswith(b"$-1"):
            return 0
        return int(json.loads(await reader.readline())[1])
    finally:
        writer.close()


_UNENDED = """SELECT count(*) FROM jobs WHERE clips_planned > 0 AND clips_ready + clips_failed >= clips_planned
 AND NOT EXISTS (SELECT 1 FROM events WHERE events.job = jobs.job AND type IN ('job:completed', 'job:failed'))"""
_ENDED_TWICE = """SELECT count(*) FROM (SELECT job FROM events WHERE type IN ('job:completed', 'job:failed')
 GROUP BY job HAVING count(*) > 1)"""
_ENDED = "SELECT count(DISTINCT job) FROM events WHERE type IN ('job:completed', 'job:failed')"


def counted(publisher: Publisher, database: Path, stale: int) -> dict[str, Any]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        rows = {ident for (ident,) in db.execute("SELECT id FROM events")}
        (unended,), (twice,), (ended,) = (db.execute(query).fetchone() for query in (_UNENDED, _ENDED_TWICE, _ENDED))
    acked = [ident for one in publisher.sent for _, ident in one.facts]
    return {
        "acknowledged": len(acked),
        "refused": publisher.refused_facts,
        "rows_lost": sum(1 for ident in acked if ident not in rows),
        "never_invalidated": stale,
        "jobs_ended": ended,
        "jobs_not_ended": unended,
        "jobs_ended_twice": twice,
    }


def _one(database: Path, query: str) -> tuple[int, ...]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as db:
        found: tuple[int, ...] = db.execute(query).fetchone()
        return found


# -- all of it --------------------------------------------------------------------------------------------------------


async def measure(seconds: float, *, kills: bool) -> dict[str, Any]:
    report: dict[str, Any] = {"load_before": round(os.getloadavg()[0], 2)}
    report["ours"] = await ours(seconds)
    report["peer"] = await theirs(seconds)
    if kills:
        report["killed"] = {
            "ours: dispatcher": await kill_our_dispatcher(),
            "peer: web (FastAPI)": await kill_theirs("web"),
            "peer: worker (Celery)": await kill_theirs("worker"),
            "peer: redis (broker)": await kill_theirs("redis"),
        }
    report["load_after"] = round(os.getloadavg()[0], 2)
    return report


def show(report: dict[str, Any]) -> None:
    print(f"{QUIET_PER_S} facts a second; milliseconds; load {report['load_before']} to {report['load_after']}")
    print(f"  {'':26}{'ours p50':>10}{'p99':>9}{'peer p50':>10}{'p99':>9}   ours / peer p50, p99")
    for name in ("sent_to_acknowledged", "sent_to_invalidated", "stored_to_invalidated", "stored_to_acted"):
        mine, other = report["ours"][name], report["peer"][name]
        cells = f"{mine['p50_ms']:>10.2f}{mine['p99_ms']:>9.2f}{other['p50_ms']:>10.2f}{other['p99_ms']:>9.2f}"
        ratios = f"{mine['p50_ms'] / other['p50_ms']:.2f}, {mine['p99_ms'] / other['p99_ms']:.2f}"
        print(f"  {name.replace('_', ' '):26}{cells}   {ratios}")
    best = {side: report[side]["sustained_per_s"] for side in ("ours", "peer")}
    for side, found in best.items():
        missed = found["missed"]
        print(f"  {side}: {found['best']} facts a second sustained", end="\n" if missed is None else "; ")
        if missed is not None:
            print(f"at {missed['offered']}/s {missed['stored']}/s stored, p99 {missed['p99_s']} s")
    if best["peer"]["best"]:
        print(f"  ratio {best['ours']['best'] / best['peer']['best']:.1f}")
    if "killed" in report:
        print("SIGKILL in the middle, started again a second later")
        heads = ("acked", "refused", "rows lost", "stale", "jobs ended", "not", "twice")
        print(f"  {'':24}" + "".join(f"{head:>11}" for head in heads))
        for name, row in report["killed"].items():
            print(f"  {name:24}" + "".join(f"{value:>11}" for value in row.values()))


def met(report: dict[str, Any]) -> bool:
    """Ours loses nothing and is not slower."""
    mine, other = report["ours"], report["peer"]
    quick = mine["stored_to_invalidated"]["p50_ms"] <= other["stored_to_invalidated"]["p50_ms"]
    killed = report.get("killed", {}).get("ours: dispatcher", {})
    lossless = not any(killed.get(name) for name in LOSSES)
    return bool(quick and lossless and mine["sustained_per_s"]["best"] >= other["sustained_per_s"]["best"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="at 100 facts a second, of each")
    parser.add_argument("--no-kills", action="store_true", help="only the speeds")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    if any(importlib.util.find_spec(name) is None for name in ("celery", "fastapi")):
        sys.stderr.write(f"{MISSING}\n")
        return 2
    report = uvloop.run(measure(arguments.seconds, kills=not arguments.no_kills))
    if arguments.json:
        print(json.dumps(report, indent=1))
    else:
        show(report)
    return 0 if met(report) else 1


if __name__ == "__main__":
    sys.exit(main())
