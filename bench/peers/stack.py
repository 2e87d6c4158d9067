"""The peer's processes, and a client of its API that costs as little as may be."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from bench.peers.place import FOLDER_VARIABLE, Posted, Stored
from bench.peers.tasks import PORT_VARIABLE
from bench.traffic import Commit
from bus.events import Command, Event, encode
from tests.ports import free_port

CONNECTIONS = 64
QUIET = ("--without-gossip", "--without-mingle", "--without-heartbeat")
READY_S = 60.0
Name = Literal["redis", "web", "worker"]


class Stack:
    """redis-server (append-only file, synced each second: the recommended durability), uvicorn, and a Celery worker."""

    def __init__(self, folder: Path, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        self._processes: dict[Name, subprocess.Popen[bytes]] = {}
        path = os.pathsep.join([str(Path.cwd()), os.environ.get("PYTHONPATH", "")])
        self._env = {**os.environ, "PYTHONPATH": path, FOLDER_VARIABLE: str(folder), PORT_VARIABLE: str(self.port)}
        self._env |= env or {}

    def start(self, name: Name) -> None:
        """Start one of the processes; `ready` says when all are there. Blocking."""
        binary = shutil.which("redis-server") or shutil.which("valkey-server")
        if binary is None:
            raise SystemExit("no redis-server or valkey-server is installed: the peer needs one")
        redis = f"{binary} --port 0 --unixsocket r.sock --save '' --appendonly yes --appendfsync everysec"
        web = f"-m uvicorn bench.peers.app:app --port {self.port} --log-level warning --no-access-log --loop uvloop"
        worker = "-m celery -A bench.peers.tasks worker -Q events --concurrency 2 --loglevel warning"
        commands: dict[Name, list[str]] = {
            "redis": shlex.split(redis),
            "web": [sys.executable, *shlex.split(web), "--timeout-keep-alive", "75"],
            "worker": [sys.executable, *shlex.split(worker), *QUIET],
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                commands[name], env=self._env, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, name: Name) -> None:
        """SIGKILL it with all its children, as a lack of memory or a lost container does. Blocking."""
        process = self._processes.pop(name, None)
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()

    def end(self) -> None:
        for name in tuple(self._processes):
            self.kill(name)

    async def up(self, *, worker: bool = True) -> None:
        """All three, or those without the worker, answering."""
        self.start("redis")
        await self._until(self._redis_answers)
        self.start("web")
        await self._until(self._web_answers)
        if worker:
            self.start("worker")
            await self._until(self._worker_waits)

    async def redis(self, *words: str) -> bytes:
        """One command, the first line of its answer. Raises OSError."""
        reader, writer = await asyncio.open_unix_connection(self.folder / "r.sock")
        parts = [word.encode() for word in words]
        writer.write(b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts))
        line = await reader.readline()
        writer.close()
        return line.strip()

    async def waiting(self) -> int:
        """Tasks that wait or are not acknowledged. Raises OSError."""
        reader, writer = await asyncio.open_unix_connection(self.folder / "r.sock")
        writer.write(b"SELECT 1\r\nLLEN events\r\nHLEN unacked\r\n")
        lines = [await reader.readline() for _ in range(3)]
        writer.close()
        return sum(int(line[1:]) for line in lines[1:] if line.startswith(b":"))

    async def _until(self, true: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + READY_S
        while True:
            with suppress(OSError):
                if await true():
                    return
            if time.monotonic() > deadline:
                logs = "\n".join(path.read_text()[-2000:] for path in self.folder.glob("*.log"))
                raise SystemExit(f"the peer did not start within {READY_S:.0f} s:\n{logs}")
            await asyncio.sleep(0.05)

    async def _redis_answers(self) -> bool:
        return await self.redis("PING") == b"+PONG"

    async def _web_answers(self) -> bool:
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.close()
        return True

    async def _worker_waits(self) -> bool:
        """Its processes have opened their files of times."""
        return len(list(self.folder.glob("times-*.txt"))) >= 3


class Client:
    """`POST /commits` over kept connections. Raises OSError when the answer is none or not 201."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._slots = asyncio.Semaphore(CONNECTIONS)

    async def store(self, commit: Commit) -> int:
        """The sequence of the commit's first fact."""
        posted = Posted(
            events=[msgspec.Raw(encode(message)) for message in commit if isinstance(message, Event)],
            commands=[(m.stage, msgspec.Raw(msgspec.json.encode(m))) for m in commit if isinstance(m, Command)],
        )
        body = msgspec.json.encode(posted)
        head = f"POST /commits HTTP/1.1\r\nHost: peer\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        async with self._slots:
            reader, writer = self._free.pop() if self._free else await asyncio.open_connection("127.0.0.1", self._port)
            try:
                writer.write(head + body)
                answer = await _answer(reader)
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                writer.close()
                raise OSError("no answer") from error
            self._free.append((reader, writer))
        return msgspec.json.decode(answer, type=Stored).first_seq

    def close(self) -> None:
        for _, writer in self._free:
            writer.close()
        self._free.clear()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    body = await reader.readexactly(length)
    if b" 201 " not in head.split(b"\r\n", 1)[0]:
        raise OSError(head.split(b"\r\n", 1)[0].decode())
    return body
