"""The live feed behind the whole application: who may listen, and until when."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from appliance.accounts import tokens
from appliance.accounts.database import open_accounts, path_of, transaction
from tests.feed_client import FeedClient
from tests.integration.web.conftest import WebBox
from tests.integration.web.filled import project, tell
from tests.unit.appliance import facts


def where(web: WebBox, rooms: str = "jobs") -> str:
    return f"ws://127.0.0.1:{web.port}/ws?rooms={rooms}"


async def browser(web: WebBox, role: Any) -> dict[str, str]:
    """The headers of a page of ours."""
    client = await web.client(role)
    return {"Cookie": f"appliance_session={client.cookies['appliance_session']}", "Origin": web.url}


async def first(connection: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(10):
        found: dict[str, Any] = msgspec.json.decode(await connection.recv())
        return found


async def test_a_page_and_a_program_may_listen_each_in_its_rooms(web: WebBox) -> None:
    async with connect(where(web), additional_headers=await browser(web, "viewer")) as connection:
        assert (await first(connection))["rooms"] == {"jobs": 0}
    bearer = {"Authorization": f"Bearer {await web.token('operator')}"}
    async with connect(where(web, "monitoring,admin"), additional_headers=bearer) as connection:
        assert (await first(connection))["code"] == "forbidden"
        assert (await first(connection))["rooms"] == {"monitoring": 0}
        await web.services.bus.publish(facts.created("a"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"Cookie": None}, "not logged in"),
        ({"Cookie": "appliance_session=nonsense"}, "not logged in"),
        ({"Origin": None}, "no page tells its origin"),
        ({"Origin": "null"}, "sandboxed"),
        ({"Origin": "http://evil.example"}, "foreign"),
        ({"Origin": "http://127.0.0.1:1"}, "another port is another site"),
        ({"Host": "evil.example"}, "a foreign name leads here"),
    ],
)
async def test_who_may_not_listen_is_refused_before_the_connection(
    web: WebBox, changes: dict[str, str | None], why: str
) -> None:
    headers = {**await browser(web, "admin"), **changes}
    with pytest.raises(InvalidStatus) as refused:
        await connect(
            where(web), additional_headers={key: value for key, value in headers.items() if value is not None}
        )
    assert refused.value.response.status_code in (400, 401, 403), why
    assert web.services.hub.connections == 0


async def test_a_logout_and_a_revoked_token_end_the_connection(web: WebBox) -> None:
    client = await web.client("admin")
    cookie = {"Cookie": f"appliance_session={client.cookies['appliance_session']}", "Origin": web.url}
    secret = await web.token("viewer", "dashboard")
    async with (
        connect(where(web), additional_headers=cookie) as mine,
        connect(where(web), additional_headers={"Authorization": f"Bearer {secret}"}) as program,
    ):
        await first(mine), await first(program)
        assert (await client.post("/api/logout")).status_code == 204
        await ends(mine, 4401)
        # As the command line does, in another process: found by the gate's watch.
        await asyncio.to_thread(revoke_elsewhere, web)
        await ends(program, 4401)


def revoke_elsewhere(web: WebBox) -> None:
    db = open_accounts(path_of(web.config.data_dir))
    with transaction(db):
        tokens.revoke(db, tokens.by_name_or_id(db, "dashboard").id)
    db.close()


async def ends(connection: ClientConnection, code: int) -> None:
    async with asyncio.timeout(10):
        await connection.wait_closed()
    assert connection.close_code == code


async def test_a_snapshot_and_the_feed_fit_together(web: WebBox) -> None:
    """A client that starts from the status document and resumes sees every later fact once."""
    bus = await web.nats.bus()
    await bus.publish(facts.created("a"))
    await project(web)
    lagging = [await bus.publish(facts.created(f"b{n}")) for n in range(3)]  # not in the database yet
    admin = await web.bearer("admin")

    async def snapshot() -> tuple[str, int]:
        told = (await admin.get("/api/admin/ssot")).json()
        return told["epoch"], told["seq"]

    bearer = f"Bearer {await web.token('admin', 'feed')}"
    async with FeedClient(f"ws://127.0.0.1:{web.port}/ws", ["admin"], snapshot, Authorization=bearer) as client:
        await client.until(lambda state: len(state.applied) == 3)
        later = await bus.publish(facts.created("c"))
        await client.until(lambda state: len(state.applied) == 4)
        assert client.state.applied == [*lagging, later]
        told = (await admin.get("/api/admin/ssot?sections=websocket")).json()["websocket"]
        assert (told["connections"], told["rooms"]["admin"], told["resumed"]) == (1, 1, 1)
        assert told["latency"]["p50_s"] >= 0
        series = (await admin.get("/metrics")).text
        assert 'appliance_ws_connections{room="admin"} 1.0' in series
        assert "appliance_ws_resumes_total 1.0" in series


async def test_the_program_of_the_document_follows_the_box(web: WebBox, tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "LIVE.md").read_text()
    found = re.search(r"<!-- run -->\n```python\n(.*?)```", page, re.DOTALL)
    assert found is not None
    await tell(web, facts.created("before"))
    env = {**os.environ, "BOX": web.url, "TOKEN": await web.token("admin")}
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", found[1], env=env, stdout=asyncio.subprocess.PIPE, cwd=tmp_path
    )
    assert program.stdout is not None
    try:
        async with asyncio.timeout(30):
            assert (await program.stdout.readline()).startswith(b"jobs by state:")
        bus = await web.nats.bus()
        wanted = [f"{await bus.publish(facts.created(f'a{n}'))} job:created a{n}\n".encode() for n in range(3)]
        async with asyncio.timeout(30):
            assert [await program.stdout.readline() for _ in range(3)] == wanted
        await web.nats.kill()
        await web.nats.start()
        last = f"{await bus.publish(facts.created('b'))} job:created b\n".encode()
        async with asyncio.timeout(30):
            assert await program.stdout.readline() == last
    finally:
        program.kill()
        await program.wait()
