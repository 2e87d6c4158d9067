"""A pool whose workers are processes of the smallest kind, for tests."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from appliance.supervisor.child import Child, ChildSpec, Death, Restart
from appliance.supervisor.pool import Pool

WAIT_S = 30.0
SCRIPT = """
import json, os, pathlib, signal, sys, time
fd, work = int(os.environ["APPLIANCE_STATUS_FD"]), pathlib.Path(sys.argv[1])
say = lambda **status: os.write(fd, json.dumps(status).encode() + b"\\n")
retired = []
signal.signal(signal.SIGUSR1, lambda *_: retired.append(1))
busy = work.with_suffix(".busy").exists()
say(ready=True, worker=str(os.getpid()), stage="cut", **({"job": "j"} if busy else {}))
while not retired or (busy and not work.with_suffix(".done").exists()):
    time.sleep(0.02)
"""


class Staff:
    """A pool whose workers are scripts: `<n>.busy` makes worker n busy until `<n>.done` is there."""

    def __init__(self, folder: Path, most: int) -> None:
        self.folder = folder
        self.start_timeout_s = 30.0
        self.prepare_s = 0.0
        self.script = SCRIPT
        self.left: list[str] = []
        self.deaths: list[Death] = []
        self.ready: list[str] = []
        self.news = asyncio.Event()
        self.pool = Pool("cut", most=most, hire=self.hire, on_left=self.on_left)

    def hire(self, number: int) -> Child:
        return Child(
            ChildSpec(
                name=f"cut-{number}",
                argv=[sys.executable, "-c", self.script, str(self.folder / str(number))],
                start_timeout_s=self.start_timeout_s,
                prepare_s=self.prepare_s,
            ),
            run_dir=self.folder,
            log_dir=self.folder,
            restart=Restart(delay_s=0.05, delay_max_s=0.1),
            on_ready=self.on_ready,
            on_death=self.on_death,
        )

    async def on_ready(self, name: str, pid: int) -> None:
        self.ready.append(name)
        self.news.set()

    async def on_death(self, death: Death) -> None:
        self.deaths.append(death)
        self.news.set()

    def on_left(self, name: str, restarts: int) -> None:
        self.left.append(name)
        self.news.set()

    def touch(self, name: str) -> None:
        (self.folder / name).touch()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not true():
                await self.news.wait()
                self.news.clear()

    def names(self) -> list[str]:
        return sorted(child.spec.name for child in self.pool.children)
