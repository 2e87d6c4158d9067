"""The status document over HTTP, from the cache: `python -m bench.http_cache [--seconds 3] [--json]`.

Ours (`python -m web`, the dispatcher that keeps the cache warm, a real nats-server and redis-server, as many jobs as
make a document of some 55 KB) and the stack that it replaces (FastAPI under uvicorn, a real redis-server;
`bench/peers/status.py`) run side by side. The peer's cache holds the very bytes that ours answers with. One client for
both, raw sockets (`bench.raw_http`), bearer token, no compression:

* hit: one request at a time over one kept connection, from the send to the last byte. The sides take turns of
  50 requests, so that whatever else the machine does meets both. Only answers with `X-Cache: hit` count as ours.
* requests a second: 4 kept connections, each sending as soon as it is answered, in turns as well.
* between them the limits: uvicorn answering the same bytes with nothing behind it (`bench.floor`), and a bare GET of
  them from Redis.

The peer is measured twice. As its guides write it the document is a dict that the endpoint returns; that is the stack
that was replaced and what the promise is held against. `bytes` is the best that FastAPI can do: the cached bytes go out
as they are; it is shown for comparison.
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
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import uvloop
from msgspec import Struct

from bench.dashboards import spread
from bench.floor import FILE_VARIABLE
from bench.raw_http import Kept, hammer
from bench.web_box import web_box
from tests.ports import free_port

JOBS = 40
PATH = "/api/admin/ssot"
TURN = 50
HITS = 1_000
CONNECTIONS = 4
TURNS = 3
WAIT_S, WAIT_TRIES = 20.0, 100
PEER_P50_SHARE, PEER_RATE_FACTOR = 0.5, 2.0
TOKEN = "bench-peer-token"
MISSING = (
    "the peer needs FastAPI: run `make bench WHAT=ssot`, which installs it, or"
    " `pip install --require-hashes -r requirements-bench.lock`; ours is measured alone"
)


class Side(Struct, frozen=True):
    """One server under test."""

    name: str
    port: int
    path: str
    token: str
    cached: bool = False
    """Answers say how they were had; only hits count."""


# -- the servers ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def floor(folder: Path, body: bytes) -> AsyncIterator[Side]:
    """uvicorn with nothing behind it, answering `body`."""
    (folder / "body").write_bytes(body)
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "bench.floor:app", "--port", str(port), "--loop", "uvloop"]
    argv += ["--no-access-log", "--log-level", "warning", "--lifespan", "off"]
    process = subprocess.Popen(argv, env={**os.environ, FILE_VARIABLE: str(folder / "body")})
    try:
        await _answers(port)
        yield Side("uvicorn", port, "/", "")
    finally:
        process.kill()
        process.wait()


async def _answers(port: int, limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise SystemExit(f"nothing answers on port {port} after {limit_s:g} s") from None
            await asyncio.sleep(0.05)
        else:
            return


@asynccontextmanager
async def peer(folder: Path, body: bytes) -> AsyncIterator[list[Side]]:
    """FastAPI, with `body` in its Redis."""
    from bench.peers.stack import Stack
    from bench.peers.status import DOCUMENT, TOKEN_VARIABLE

    stack = Stack(folder, {TOKEN_VARIABLE: TOKEN})
    try:
        await stack.up(worker=False)
        await stack.redis("SET", DOCUMENT, body.decode())
        yield [Side("peer", stack.port, PATH, TOKEN), Side("peer, bytes", stack.port, f"{PATH}/bytes", TOKEN)]
    finally:
        stack.end()


# -- measuring --------------------------------------------------------------------------------------------------------


class Hits:
    """The hits of one side, over one connection."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.seconds: list[float] = []
        self.others = 0
        """Answers that were no hit, not counted."""
        self._kept = Kept(side.port, {"Authorization": f"Bearer {side.token}"})
        self.request = self._kept.request("GET", side.path)

    def turn(self, count: int = TURN) -> None:
        for _ in range(count):
            answer = self._kept.send(self.request)
            if answer.status != 200:
                raise SystemExit(f"{self.side.name} answered {answer.status}: {answer.body[:300]!r}")
            if self.side.cached and answer.headers["x-cache"] != "hit":
                self.others += 1
            else:
                self.seconds.append(answer.seconds)

    def close(self) -> None:
        self._kept.close()


class Gets:
    """A bare GET from Redis, by a raw socket."""

    def __init__(self, path: Path, key: str, size: int) -> None:
        self.seconds: list[float] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._need = len(f"${size}\r\n") + size + 2
        self._request = f"GET {key}\r\n".encode()

    def turn(self, count: int = TURN) -> None:
        for _ in range(count):
            began = time.perf_counter()
            self._socket.sendall(self._request)
            size = 0
            while size < self._need:
                size += len(self._socket.recv(262_144))
            self.seconds.append(time.perf_counter() - began)

    def close(self) -> None:
        self._socket.close()


async def measure(seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with web_box(JOBS) as (web, _):
            here = Side("ours", web.port, PATH, web.token, cached=True)
            body = await asyncio.to_thread(document, here)
            async with floor(Path(folder), body) as bare:
                if importlib.util.find_spec("fastapi") is None:
                    sys.stderr.write(f"{MISSING}\n")
                    return await compare([here, bare], None, len(body), seconds)
                from bench.peers.status import DOCUMENT

                async with peer(Path(folder), body) as theirs:
                    gets = Gets(Path(folder) / "r.sock", DOCUMENT, len(body))
                    return await compare([here, *theirs, bare], gets, len(body), seconds)


def document(side: Side) -> bytes:
    """The body of the answer that a hit is. Blocking."""
    with closing(Kept(side.port, {"Authorization": f"Bearer {side.token}"})) as kept:
        for _ in range(WAIT_TRIES):
            answer = kept.get(side.path)
            if answer.status == 200 and answer.headers["x-cache"] == "hit":
                return answer.body
            time.sleep(WAIT_S / WAIT_TRIES)
    raise SystemExit(f"after {WAIT_S:g} s still no hit: {answer.status} {answer.headers} {answer.body[:300]!r}")


async def compare(sides: Sequence[Side], gets: Gets | None, size: int, seconds: float) -> dict[str, Any]:
    """Turn by turn."""
    hits = [Hits(side) for side in sides]
    turns: list[Callable[[], None]] = [one.turn for one in hits]
    if gets is not None:
        turns.append(gets.turn)
    for one in hits:
        await asyncio.to_thread(one.turn)
        one.seconds.clear()
    while len(hits[0].seconds) < HITS:
        for turn in turns:
            await asyncio.to_thread(turn)
        if hits[0].others > HITS:
            raise SystemExit("the cache does not answer: no hits")
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    for _ in range(TURNS):
        for one in hits:
            rate = await asyncio.to_thread(hammer, one.side.port, one.request, CONNECTIONS, seconds / TURNS)
            rates[one.side.name].append(rate)
    found: dict[str, Any] = {"bytes": size, "not_hits": hits[0].others}
    for one in hits:
        per_s = round(sum(rates[one.side.name]) / TURNS)
        found[one.side.name] = {**spread(one.seconds), "per_s": per_s, "requests": len(one.seconds)}
        one.close()
    if gets is not None:
        found["redis GET"] = spread(gets.seconds)
        gets.close()
    return found


# -- telling ----------------------------------------------------------------------------------------------------------


def judged(found: dict[str, Any]) -> dict[str, bool]:
    """What was promised, and whether it holds."""
    if "peer" not in found:
        return {}
    mine, other = found["ours"], found["peer"]
    share, factor = mine["p50_ms"] / other["p50_ms"], mine["per_s"] / other["per_s"]
    return {
        f"hit, p50 ≤ {PEER_P50_SHARE:g} × the peer's ({share:.2f})": share <= PEER_P50_SHARE,
        f"requests a second ≥ {PEER_RATE_FACTOR:g} × the peer's ({factor:.1f})": factor >= PEER_RATE_FACTOR,
    }


def show(found: dict[str, Any]) -> None:
    print(
        f"{found['bytes']} bytes over HTTP/1.1, kept connections; load {found['load_before']} to {found['load_after']}"
    )
    print(f"  {'':14}{'p50 ms':>10}{'p99 ms':>10}{'a second':>10}   (1 and {CONNECTIONS} connections)")
    for name in ("ours", "peer", "peer, bytes", "uvicorn", "redis GET"):
        if name in found:
            row = found[name]
            print(f"  {name:14}{row['p50_ms']:>10.3f}{row['p99_ms']:>10.3f}{row.get('per_s', ''):>10}")
    for what, holds in found["judged"].items():
        print(f"  {'met   ' if holds else 'MISSED'} {what}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="of as many requests as can be, for each side")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    load = round(os.getloadavg()[0], 2)
    found = {"load_before": load, **uvloop.run(measure(arguments.seconds))}
    found["load_after"] = round(os.getloadavg()[0], 2)
    found["judged"] = judged(found)
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)
    return 0 if all(found["judged"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
