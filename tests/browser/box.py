"""A real box behind a wire, and what a test does to it from outside."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from appliance.boxlink import connect
from appliance.face import read_web_file
from bus.events import AnyEvent
from tests.browser.proxy import Wire
from tests.faults.harness import RealBox

PASSWORD = "correct horse battery"
ADMIN = "anna"
VIEWER = "vera"
WAIT_S = 60.0


class BrowserBox:
    """`appliance up` whose pages are reached through `wire`."""

    def __init__(self, folder: Path, port: int) -> None:
        self.box = RealBox(folder, "workers: {transcribe: {max: 1}}\n")
        text = self.box.config_path.read_text().replace("web: {port: 0}", f"web: {{port: {port}}}")
        self.box.config_path.write_text(text)
        self.port = port
        self.wire = Wire(port)

    @property
    def _command(self) -> list[str]:
        return [sys.executable, "-m", "appliance", "-c", str(self.box.config_path)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.wire.port}"

    @property
    def data_dir(self) -> Path:
        return self.box.config.data_dir

    def start(self) -> None:
        self.box.start()
        self.wait("the web process tells its address", lambda: read_web_file(self.data_dir) is not None)

    def claim_address(self) -> str:
        """What `appliance up` printed, as reached through the wire."""
        printed = (self.box.folder / "up.log").read_text
        self.wait("the claim address is printed", lambda: "/claim#" in printed())
        token = re.search(r"/claim#(\S+)", printed())
        assert token is not None
        return f"{self.url}/claim#{token.group(1)}"

    def add_user(self, user: str, role: str) -> None:
        subprocess.run(
            [*self._command, "user", "add", user, "--role", role, "--password-stdin"],
            input=PASSWORD + "\n",
            text=True,
            check=True,
            capture_output=True,
            timeout=60,
        )

    def tell(self, events: Iterable[AnyEvent]) -> None:
        """Stores the events on the bus. In a thread: the browser's driver has the loop of the test's."""

        async def publish() -> None:
            async with await connect(self.box.config, "web") as bus:
                for event in events:
                    await bus.publish(event)

        with ThreadPoolExecutor(1) as pool:
            pool.submit(asyncio.run, publish()).result(WAIT_S)

    def answers(self) -> bool:
        """Whether the web process is ready and its bus answers."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    @staticmethod
    def wait(what: str, holds: Callable[[], bool], timeout_s: float = WAIT_S) -> float:
        """Seconds until it holds. Fails with `what` when it does not."""
        started = time.monotonic()
        while not holds():
            assert time.monotonic() - started < timeout_s, f"after {timeout_s:.0f} s still not: {what}"
            time.sleep(0.05)
        return time.monotonic() - started
