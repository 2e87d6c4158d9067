"""The bus goes away in the middle of what was asked: the answer and the audit trail say how far it got."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from appliance import intake
from appliance.control import ledger
from bus.deadletters import DeadLetter, publish_dead_letter
from bus.events import JobFailed, UserAction
from bus.ids import new_id
from tests.integration.conftest import NatsBox
from tests.integration.web.conftest import WebBox, web_box
from tests.integration.web.filled import life, tell


@pytest.fixture
async def web(nats: NatsBox, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[WebBox]:
    monkeypatch.setattr("web.services.BUS_PATIENCE_S", 0.5)
    async with web_box(nats) as box:
        yield box


def dying_after(calls: int, web: WebBox, real: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
    """`real`, but the bus is killed after so many calls."""
    left = calls

    async def call(*args: object, **more: object) -> object:
        nonlocal left
        if left == 0:
            await web.nats.kill()
        left -= 1
        return await real(*args, **more)

    return call


async def last_action(web: WebBox) -> tuple[str, str | None]:
    """What the trail says last, once the bus is back."""
    await web.nats.start()
    async with asyncio.timeout(30):
        while await web.services.db.read(lambda db: db.execute("SELECT count(*) FROM unsaid").fetchone()[0]):
            await asyncio.sleep(0.05)
    last = (await web.services.bus.read(0, "evt.user.action.>"))[-1].event
    assert isinstance(last, UserAction)
    return last.action, last.target


async def test_stages_that_were_held_are_named(web: WebBox, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = await web.client("operator")
    monkeypatch.setattr("web.admin.controls.hold", dying_after(2, web, ledger.hold))
    answer = await operator.post("/api/admin/controls", json={"target": "all", "mode": "pause"})
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (503, "bus-unavailable")
    assert problem["detail"].startswith(
        "done: download, transcribe; not known: moments; not done: faces, crop, cut; ask again when"
    )
    assert await last_action(web) == ("control.pause", "download,transcribe perhaps:moments")


async def given_up(web: WebBox, count: int) -> list[str]:
    """Failed jobs with their letters, the newest first."""
    bus = await web.nats.bus()
    jobs = [new_id() for _ in range(count)]
    for job in jobs:
        event = JobFailed(job=job, stage="transcribe", attempts=3, code="crashed", error="it died")
        await tell(web, *life(job, end="running"), event)
        letter = DeadLetter(
            stage="transcribe", job=job, attempts=3, error="it died", code="crashed", failed_event=event.id
        )
        await publish_dead_letter(bus, letter)
    return jobs[::-1]


async def test_jobs_that_go_on_are_named(web: WebBox, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = await web.client("operator")
    first, second, third = await given_up(web, 3)
    monkeypatch.setattr("web.admin.letters.intake.retry_job", dying_after(1, web, intake.retry_job))
    answer = await operator.post("/api/admin/dead-letters/replay", json={"ids": "all"})
    told = answer.json()
    assert (answer.status_code, told["jobs"], told["left"]) == (200, [first], 1)
    (refused,) = told["refused"]
    assert refused["job"] == second
    assert refused["reason"].startswith("whether it goes on is not known: ")
    assert await last_action(web) == ("dead-letters.replay", f"{first} perhaps:{second}")
    assert third not in str(told)


async def test_when_nothing_was_done_it_is_a_problem(web: WebBox, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = await web.client("operator")
    (job,) = await given_up(web, 1)
    monkeypatch.setattr("web.admin.letters.intake.retry_job", dying_after(0, web, intake.retry_job))
    answer = await operator.post("/api/admin/dead-letters/replay", json={"ids": "all"})
    assert (answer.status_code, answer.json()["code"]) == (503, "bus-unavailable")
    assert await last_action(web) == ("dead-letters.replay", f"perhaps:{job}")
