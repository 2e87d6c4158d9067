"""A real nats-server for integration tests, started as the appliance starts it.

`nats` gives each test freshly made streams in a data folder without a database or files of jobs. The server process and
its folder are shared by the session's tests; it is started again when one of them left it dead. The box offers
connections by role, `kill()` (SIGKILL) and `restart()`. A test that needs other limits or touches the server's files
takes a server of its own: `async with nats_box(folder, limits)`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from bus.connection import Bus, BusSettings
from bus.errors import ProvisioningError
from bus.provision import provision
from bus.roles import Role
from bus.server import ServerSpec, credentials, prepare, wait_ready, write_endpoint
from bus.streams import DEFAULTS, Limits

SERVER_FILES = ("nats", "nats.log")


class NatsBox:
    """One server in its own data folder."""

    def __init__(self, data_dir: Path, spec: ServerSpec) -> None:
        self.data_dir = data_dir
        self.spec = spec
        self.limits: Limits = DEFAULTS
        self._process: subprocess.Popen[bytes] | None = None
        self._buses: list[Bus] = []

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.data_dir / "nats.log").read_text()

    def settings(self, role: Role, **changes: float | str) -> BusSettings:
        plain = credentials(self.data_dir, role, url=self.spec.url)
        fields = {name: getattr(plain, name) for name in plain.__struct_fields__}
        return BusSettings(**{**fields, **changes})

    async def bus(self, role: Role = "supervisor", **changes: float | str) -> Bus:
        """A connection of `role`, closed at the end of the test; `changes` to its settings, like `patience_s`."""
        settings = await asyncio.to_thread(self.settings, role, **changes)
        bus = await Bus.connect(settings)
        self._buses.append(bus)
        return bus

    def start_now(self) -> None:
        """Starts the process. Blocking."""
        with (self.data_dir / "nats.log").open("ab") as log:
            self._process = subprocess.Popen(
                self.spec.argv, env={**os.environ, **self.spec.env}, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def kill_now(self) -> None:
        """SIGKILL, waited for. Blocking."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(timeout=10)

    def forget_files(self) -> None:
        """Removes what the processes of a box left in the data folder, but not the server's own files. Blocking."""
        for path in self.data_dir.iterdir():
            if path.name in SERVER_FILES:
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    async def kill(self) -> None:
        await asyncio.to_thread(self.kill_now)

    async def start(self) -> str:
        await asyncio.to_thread(self.start_now)
        return await wait_ready(self.spec, timeout_s=10)

    async def restart(self) -> str:
        """SIGKILL and a new start on the same data."""
        await self.kill()
        return await self.start()

    async def close_buses(self) -> None:
        while self._buses:
            await self._buses.pop().close()


@contextlib.asynccontextmanager
async def nats_box(data_dir: Path, limits: Limits = DEFAULTS) -> AsyncIterator[NatsBox]:
    """A started and provisioned server in `data_dir`."""
    spec = await asyncio.to_thread(prepare, data_dir, limits=limits)
    box = NatsBox(data_dir, spec)
    box.limits = limits
    try:
        url = await box.start()
        await asyncio.to_thread(write_endpoint, data_dir, url)
        async with await Bus.connect(await asyncio.to_thread(box.settings, "supervisor")) as bus:
            await provision(bus.jetstream, limits)
        yield box
        await box.close_buses()
    finally:
        await box.close_buses()
        await box.kill()


@pytest.fixture(scope="session")
def _shared_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsBox]:
    data_dir = tmp_path_factory.mktemp("nats")
    box = NatsBox(data_dir, prepare(data_dir))
    yield box
    box.kill_now()


async def _provision_anew(bus: Bus) -> None:
    """The server refuses a consumer whose predecessor's folder it is still removing, and tells nobody of the end."""
    async with asyncio.timeout(30):
        while True:
            try:
                await provision(bus.jetstream)
            except ProvisioningError:
                await asyncio.sleep(0.1)
            else:
                return


@pytest.fixture
async def nats(_shared_nats: NatsBox) -> AsyncIterator[NatsBox]:
    """A provisioned server whose streams are new, and nothing else in its data folder."""
    box = _shared_nats
    await asyncio.to_thread(box.forget_files)
    if not box.running:
        await asyncio.to_thread(write_endpoint, box.data_dir, await box.start())
    async with await Bus.connect(await asyncio.to_thread(box.settings, "supervisor")) as bus:
        for stream in await bus.jetstream.streams_info():
            await bus.jetstream.delete_stream(str(stream.config.name))
        await _provision_anew(bus)
    yield box
    await box.close_buses()
