"""The audit trail and the metrics: nothing lost while the bus is away, no series of a stranger's making."""

from __future__ import annotations

import asyncio

from bus.events import UserAction
from tests.integration.web.conftest import PASSWORD, WebBox
from tests.integration.web.uploading import content, create, send


async def actions(web: WebBox) -> list[str]:
    stored = [s.event for s in await web.services.bus.read(0, "evt.user.action.>")]
    return [e.action for e in stored if isinstance(e, UserAction)]


async def test_people_can_log_in_and_nothing_is_forgotten_while_the_bus_is_away(web: WebBox) -> None:
    for user in ("ann", "bob"):
        await web.add_user(user, "operator")
    ann = await web.client("operator", "ann")
    await web.nats.kill()
    async with asyncio.timeout(20):
        bob = await web.client("operator", "bob")
        assert (await bob.get("/api/me")).status_code == 200
        assert (await ann.post("/api/logout")).status_code == 204
    await web.nats.start()
    async with asyncio.timeout(30):
        while await web.services.db.read(lambda db: db.execute("SELECT count(*) FROM unsaid").fetchone()[0]):
            await asyncio.sleep(0.05)
    assert await actions(web) == ["session.login", "session.login", "session.logout"]
    await ann.post("/api/login", json={"user": "ann", "password": PASSWORD})
    assert (await actions(web))[-1] == "session.login", "and told at once again"


async def test_the_metrics_count_by_template(web: WebBox) -> None:
    client = await web.bearer("operator")
    data = content(100_000)
    url = await create(client, len(data))
    await send(client, url, data, 0)
    nobody = await web.nobody()
    for n in range(20):
        await nobody.get(f"/made-up/{n}")
        await nobody.request("BREW", f"/pot/{n}")
    assert (await nobody.get("/metrics")).status_code == 401
    scraped = await client.get("/metrics")
    assert scraped.headers["content-type"].startswith("text/plain")
    lines = scraped.text.splitlines()
    assert 'appliance_http_request_seconds_count{method="PATCH",route="/api/uploads/{ident}",status="2xx"} 1.0' in lines
    counted = [line for line in lines if line.startswith("appliance_http_request_seconds_count")]
    assert [line for line in counted if "made-up" in line or "pot" in line or "BREW" in line] == []
    assert any('route="unmatched"' in line for line in counted)
    assert 'appliance_uploads_total{outcome="complete"} 1.0' in lines
    assert "appliance_upload_bytes_total 100000.0" in lines
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)
    opened = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert opened.text.endswith("# EOF\n")


async def test_answers_are_compressed_and_validated(web: WebBox) -> None:
    client = await web.bearer("operator")
    for n in range(20):
        await create(client, 1000, filename=f"talk {n}.mp4")
    first = await client.get("/api/uploads", headers={"Accept-Encoding": "br"})
    assert first.headers["content-encoding"] == "br"
    assert len(first.json()["uploads"]) == 20
    again = await client.get("/api/uploads", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304
    assert (await client.get("/api/me")).headers["cache-control"] == "no-store"
