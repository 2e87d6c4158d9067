"""The API against its own description, by schemathesis: no 5xx, nothing that is not described.

A few cases each in `make test`; `make fuzz` goes on for ten minutes, stateful.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from hypothesis import settings

from appliance.accounts import users
from appliance.accounts.database import changed, path_of
from appliance.accounts.secrets import hash_password
from appliance.store.database import open_writer
from tests.integration.conftest import NatsBox
from tests.integration.web.conftest import PASSWORD, config_for
from tests.integration.web.process import WebProcess
from web.auth.guard import COOKIE

LONG_S = 600
EXCLUDED = ("/api/logout", "/api/password", "/api/admin/controls")
"""Would end the session that the tool uses, or close the intake, to which 503 is the right answer."""
RULES = Path(__file__).with_name("schemathesis.toml")


def login(process: WebProcess) -> tuple[str, str]:
    """An administrator's session and its CSRF token. Blocking."""
    kept = hash_password(PASSWORD, "admin")
    changed(path_of(process.config.data_dir), lambda db: users.add(db, "admin", kept, "admin", 0.0))
    answer = httpx.post(
        f"{process.url}/api/login", json={"user": "admin", "password": PASSWORD}, trust_env=False, timeout=30
    )
    return answer.cookies[COOKIE], answer.json()["csrf"]


@pytest.mark.timeout(LONG_S + 300)
async def test_the_api_keeps_to_its_description(nats: NatsBox, tmp_path: Path) -> None:
    long = settings.get_current_profile_name() == "fuzz"
    (await asyncio.to_thread(open_writer, nats.data_dir / "appliance.db")).close()
    process = WebProcess(config_for(nats))
    await process.start()
    try:
        cookie, csrf = await asyncio.to_thread(login, process)
        command = [
            str(Path(sys.executable).with_name("schemathesis")),
            *("--config-file", str(RULES), "run", f"{process.url}/schema/openapi.json"),
            *("-H", f"Cookie: {COOKIE}={cookie}", "-H", f"X-CSRF-Token: {csrf}"),
            *(word for path in EXCLUDED for word in ("--exclude-path", path)),
            *("--seed", "1", "--workers", "1", "--suppress-health-check", "all"),
        ]
        if long:
            command += ["--max-examples", "100000", "--max-time", str(LONG_S)]
        else:
            command += ["--phases", "fuzzing", "--max-examples", "3"]
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": str(RULES.with_name("schemathesis_hooks.py"))},
            capture_output=True,
            text=True,
            timeout=LONG_S + 200,
        )
        assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
        async with await asyncio.to_thread(process.client) as alive:
            assert (await alive.get("/readyz")).status_code == 200
    finally:
        await process.kill()
