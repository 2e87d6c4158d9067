"""The API against its own description, by schemathesis: no 5xx, nothing that is not described.

A few cases each in `make test`; `make fuzz` goes on for ten minutes, stateful, and tells what was asked. Every route is
in it, those that end the session or close the intake as well: `schemathesis_hooks.py` logs in again and opens it again.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from appliance.config import Config
from bus.ids import new_id
from tests.integration.conftest import NatsBox
from tests.integration.web.conftest import config_for
from tests.integration.web.filled import life, write_files
from tests.integration.web.process import BoxProcess, WebProcess

EVERY_S = 0.5
LONG_S = int(os.environ.get("FUZZ_S", "600"))
SEED = os.environ.get("FUZZ_SEED", "1")
NEVER_GOOD = {"POST /api/claim"}
"""The box has an administrator."""
RULES = Path(__file__).with_name("schemathesis.toml")
_COUNTED = re.compile(r'appliance_http_request_seconds_count\{method="(\w+)",route="([^"]+)",status="2xx"\}')


async def work(nats: NatsBox, config: Config) -> None:
    """Until cancelled: jobs in all states come up, some with clips, since those that are there get deleted."""
    bus = await nats.bus()
    for end in cycle(("completed", "clip-failed", "failed", "running")):
        for event in life(job := new_id(), end=end):
            await bus.publish(event)
        if end.startswith("c"):
            await asyncio.to_thread(write_files, config.data_dir, job, 2)
        await asyncio.sleep(EVERY_S)


def never_good(described: dict[str, Any], metrics: str) -> set[str]:
    """What is described and was never answered with success: the fuzzing has not come past its door."""
    operations = {f"{method.upper()} {path}" for path, methods in described["paths"].items() for method in methods}
    return operations - {f"{method} {path}" for method, path in _COUNTED.findall(metrics)}


@pytest.mark.timeout(LONG_S + 300)
async def test_the_api_keeps_to_its_description(
    nats: NatsBox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    long = settings.get_current_profile_name() == "fuzz"
    process = WebProcess(config_for(nats))
    dispatcher = BoxProcess("appliance.dispatcher", process.config)
    await dispatcher.start()
    await process.start()
    working = asyncio.create_task(work(nats, process.config))
    try:
        async with await asyncio.to_thread(process.client) as program:
            described = await program.get("/schema/openapi.json")
        description = tmp_path / "openapi.json"
        description.write_bytes(described.content)
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            *("--config-file", str(RULES), "run", str(description), "--url", process.url),
            *("--seed", SEED, "--workers", "1", "--suppress-health-check", "all", "--request-timeout", "30"),
        ]
        if long:
            command += ["--max-examples", "100000", "--max-time", str(LONG_S)]
        else:
            command += ["--phases", "fuzzing", "--max-examples", "3"]
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            cwd=tmp_path,
            env={
                **os.environ,
                "SCHEMATHESIS_HOOKS": str(RULES.with_name("schemathesis_hooks.py")),
                "FUZZ_URL": process.url,
                "FUZZ_DATA_DIR": str(process.config.data_dir),
            },
            capture_output=True,
            text=True,
            timeout=LONG_S + 200,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        async with await asyncio.to_thread(process.client) as alive:
            assert (await alive.get("/readyz")).status_code == 200
            counted = (await alive.get("/metrics")).text
        if long:
            with capsys.disabled():
                sys.stdout.write(done.stdout[done.stdout.rindex(" SUMMARY ") :])
            assert never_good(described.json(), counted) <= NEVER_GOOD
    finally:
        working.cancel()
        await process.kill()
        await dispatcher.kill()
