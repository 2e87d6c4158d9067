"""`python -m web` as its own process over a real bus, cache and dispatcher, for benchmarks that ask it from outside."""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from msgspec.structs import replace

from appliance.accounts import secrets, sessions, tokens, users
from appliance.accounts.database import open_accounts, path_of, transaction
from appliance.cache.settings import Cache
from appliance.config import Config
from appliance.face import Web, WebSocket, read_web_file
from appliance.store.database import open_writer
from appliance.supervisor.programs import CONFIG_VARIABLE, config_to_child
from bench.dispatcher import Samples, start
from bench.ssot import DAYS, life, servers
from bus.connection import Bus
from bus.ids import new_id

START_S = 60.0
USER = "bench"
CONNECTIONS = 5000
"""Open at once in all and from one address, by configuration: all dashboards of a benchmark come from this machine."""


def web_config(data_dir: Path, cache_url: str = "off") -> Config:
    """What the web process runs with: any port, a cache that is there already, and limits that do not bind here."""
    return Config(
        data_dir=data_dir,
        cache=Cache(url=cache_url),
        web=replace(Web(), port=0, access_log=False, max_connections=CONNECTIONS),
        websocket=replace(WebSocket(), per_ip=CONNECTIONS, max_connections=CONNECTIONS),
    )


class WebProcess:
    """Started by `start`, ended by `end`. The bus of `config.data_dir` runs already."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.token = ""
        """An administrator's API token."""
        self.session = ""
        """The cookie of an administrator who is logged in."""

    async def start(self) -> None:
        """Returns when it serves. Ends the program with its log when it does not."""
        await asyncio.to_thread(self._prepare)
        env = {**os.environ, CONFIG_VARIABLE: config_to_child(self.config), "MALLOC_ARENA_MAX": "2"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([sys.executable, "-m", "web"], env=env, stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while (told := await asyncio.to_thread(read_web_file, self.config.data_dir)) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"the web process did not start:\n{self._log.read_text()[-3000:]}")
            await asyncio.sleep(0.05)
        self.port = int(told.url.rsplit(":", 1)[1])

    @property
    def _log(self) -> Path:
        return self.config.data_dir / "web.log"

    def _prepare(self) -> None:
        (self.config.data_dir / "run").mkdir(exist_ok=True)
        open_writer(self.config.data_dir / "appliance.db").close()
        now, password = time.time(), secrets.hash_password(secrets.new_secret(), USER)
        with closing(open_accounts(path_of(self.config.data_dir))) as db, transaction(db):
            users.add(db, USER, password, "admin", now)
            self.session = sessions.begin(db, USER, remote="127.0.0.1", agent="bench", now=now)
            self.token = tokens.create(db, name="bench", role="admin", by=USER, now=now)[1]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def rss_mb(self) -> float:
        """What it holds in memory, in 10⁶ bytes."""
        return float(psutil.Process(self.pid).memory_info().rss) / 1e6

    def end(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


@asynccontextmanager
async def web_box(jobs: int) -> AsyncIterator[tuple[WebProcess, Bus]]:
    """nats-server, redis-server, dispatcher and web process, and `jobs` ended jobs of the last 30 days."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with servers(Path(folder)) as (bus, url), Samples(bus) as samples:
            web = WebProcess(web_config(Path(folder), url))
            last = await tell(bus, jobs)
            dispatcher = start(web.config)
            try:
                await samples.level(last)
                await web.start()
                yield web, bus
            finally:
                web.end()
                dispatcher.kill()
                dispatcher.wait()


async def tell(bus: Bus, jobs: int) -> int:
    """Store the facts of so many jobs, one in ten failed; the position of the last one."""
    rng, last = random.Random(7), 0
    for number in range(jobs):
        began = datetime.now(UTC) - timedelta(days=DAYS) * (1 - number / jobs)
        events = life(new_id(), began, rng.choices(["completed", "failed"], [90, 10])[0])
        last = (await bus.commit(events)).last
    return last
