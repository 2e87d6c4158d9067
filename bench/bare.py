"""The least that nats-server and the disk cost: a bare socket publishes, another one in its own process has it.

    python -m bench.bare PORT USER PASSWORD COUNT      the subscriber: prints `ready`, then when each message came

No client library, no JSON, no feed: what no program is faster than on this machine, at the pace of the other figures.
The stream is the box's own, so each message is on the disk (fsync) before it is repeated to the subscriber.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from urllib.parse import urlsplit

from bench.dashboards import PER_S
from bus.commit import Outgoing
from bus.connection import BusSettings

_READ_BYTES = 65536
_WAIT_S = 10.0


def _connected(port: int, user: str, password: str, then: bytes = b"") -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=_WAIT_S)
    hello = json.dumps(
        {"verbose": False, "user": user, "pass": password, "headers": True, "lang": "bench", "version": "1"}
    )
    sock.sendall(b"CONNECT " + hello.encode() + b"\r\n" + then + b"PING\r\n")
    told = b""
    while b"PONG" not in told:
        told += (data := sock.recv(_READ_BYTES))
        if not data or b"-ERR" in told:
            raise SystemExit(f"nats-server: {told.decode(errors='replace')}")
    return sock


def subscribe(port: int, user: str, password: str, count: int) -> None:
    """Prints the monotonic nanoseconds at which each of `count` messages came. Blocking."""
    with closing(_connected(port, user, password, b"SUB live.evt.> 1\r\n")) as sock:
        print("ready", flush=True)
        times: list[int] = []
        left = b""
        while len(times) < count:
            data = sock.recv(_READ_BYTES)
            now = time.monotonic_ns()
            *lines, left = (left + data).split(b"\r\n")
            for line in lines:
                if line.startswith(b"HMSG "):
                    times.append(now)
                elif line == b"PING":
                    sock.sendall(b"PONG\r\n")
    print(json.dumps(times), flush=True)


def _publish(settings: BusSettings, messages: Sequence[Outgoing]) -> list[float]:
    who = (str(urlsplit(settings.url).port), settings.user, settings.password)
    reader = subprocess.Popen(
        [sys.executable, "-m", "bench.bare", *who, str(len(messages))], stdout=subprocess.PIPE, text=True
    )
    try:
        assert reader.stdout is not None
        if reader.stdout.readline() != "ready\n":
            raise SystemExit("the bare subscriber ended")
        began: list[int] = []
        with closing(_connected(int(who[0]), *who[1:])) as sock:
            for message in messages:
                sent = f"PUB {message.subject} {len(message.data)}\r\n".encode() + message.data + b"\r\n"
                began.append(time.monotonic_ns())
                sock.sendall(sent)
                time.sleep(1 / PER_S)
        if not (told := reader.stdout.readline()):
            raise SystemExit(f"the bare subscriber did not get all of {len(messages)} messages")
        came = json.loads(told)
    finally:
        reader.kill()
        reader.wait()
    return [(at - before) / 1e9 for before, at in zip(began, came, strict=True)]


async def bare(settings: BusSettings, facts: Sequence[Outgoing]) -> list[float]:
    """Seconds from the send of each fact to its arrival."""
    return await asyncio.to_thread(_publish, settings, facts)


if __name__ == "__main__":
    subscribe(int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
