"""Processes of the box as the supervisor starts them, to be killed and started again, web on the same port."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import httpx
import msgspec
from msgspec.structs import replace

from appliance.accounts import tokens
from appliance.accounts.database import changed, path_of
from appliance.accounts.roles import Role
from appliance.config import Config
from appliance.parent import STATUS_FD_VARIABLE, Status
from appliance.supervisor.programs import CONFIG_VARIABLE, config_to_child
from tests.ports import free_port

READY_S = 60.0


class BoxProcess:
    """`python -m <module>` over the bus of this data folder."""

    def __init__(self, module: str, config: Config) -> None:
        self.module = module
        self.config = config
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Returns when it is ready."""
        await asyncio.to_thread(self._start)

    def _start(self) -> None:
        reading, writing = os.pipe()
        environment = {
            **os.environ,
            CONFIG_VARIABLE: config_to_child(self.config),
            STATUS_FD_VARIABLE: str(writing),
        }
        output = self.config.data_dir / f"{self.module}.out"
        with output.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self.module], env=environment, pass_fds=[writing], stdout=log, stderr=log
            )
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            ready = any(msgspec.json.decode(line, type=Status).ready for line in pipe)
        assert ready, f"{self.module} ended at start:\n{output.read_text()[-3000:]}"

    async def kill(self) -> None:
        """SIGKILL, waited for."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM; the exit status."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return await asyncio.to_thread(process.wait, 30)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid


class WebProcess(BoxProcess):
    """`python -m web`."""

    def __init__(self, config: Config) -> None:
        super().__init__("web", replace(config, web=replace(config.web, port=free_port(), access_log=False)))
        self.url = f"http://127.0.0.1:{self.config.web.port}"

    def client(self, role: Role = "operator") -> httpx.AsyncClient:
        """A program with a new token, made as the command `token add` makes it. Blocking."""
        made = changed(
            path_of(self.config.data_dir),
            lambda db: tokens.create(db, name="test", role=role, by="test", now=0.0),
        )
        return httpx.AsyncClient(
            base_url=self.url, headers={"Authorization": f"Bearer {made[1]}"}, timeout=30, trust_env=False
        )
