"""Jobs over HTTP: made, listed, looked at, stopped, tried again, kept and removed."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from appliance.control.ledger import hold, release
from appliance.errors import SourceUnavailable
from appliance.storage.settings import Admission
from bus.events import FilesPinned, JobCancelled, JobCreated, JobDeleted, JobRetried, UserAction
from bus.ids import new_id
from tests.integration.conftest import NatsBox
from tests.integration.web.conftest import WebBox, config_for, web_box
from tests.integration.web.filled import finished_job, life, project, tell
from tests.unit.appliance import facts


async def said(web: WebBox, kind: type, job: str | None = None) -> list[object]:
    stored = await web.services.bus.read(0, "evt.>", 1000)
    return [one.event for one in stored if isinstance(one.event, kind) and job in (None, one.event.job)]


async def test_a_url_becomes_a_job_that_everybody_sees_at_once(web: WebBox) -> None:
    operator, viewer = await web.client("operator"), await web.client("viewer")
    asked = {"url": "https://example.org/a/talk.mp4", "clips": 4, "length": "20..40", "language": "en"}
    answer = await operator.post("/api/jobs", json=asked)
    assert answer.status_code == 201, answer.text
    job = answer.json()
    assert (job["state"], job["stage"], job["name"], job["owner"], job["kind"]) == (
        "queued",
        "download",
        "talk.mp4",
        "operator",
        "url",
    )
    (created,) = await said(web, JobCreated)
    assert isinstance(created, JobCreated)
    assert (created.options.clips, created.options.min_length_s, created.options.max_length_s) == (4, 20.0, 40.0)
    before = (await viewer.get(f"/api/jobs/{job['job']}")).json()
    assert before == {"job": job, "clips": []}, "the row is not written yet"
    await project(web)
    assert (await viewer.get(f"/api/jobs/{job['job']}")).json()["job"]["state"] == "queued"
    assert [one["job"] for one in (await viewer.get("/api/jobs")).json()["jobs"]] == [job["job"]]
    assert [(one.user, one.action, one.target, one.remote) for one in await said(web, UserAction)][-1] == (  # type: ignore[attr-defined]
        "operator",
        "job.create",
        job["job"],
        "127.0.0.1",
    )


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"url": "https://example.org/a", "upload": "x"},
        {"url": "/etc/passwd"},
        {"url": "file:///etc/passwd"},
        {"url": "ftp://example.org/a"},
        {"url": "https://u:p@example.org/a"},
        {"url": "https:///a"},
        {"url": "https://example.org/a", "length": "60..15"},
        {"url": "https://example.org/a", "length": "0..15"},
        {"url": "https://example.org/a", "length": "15-60"},
        {"url": "https://example.org/a", "length": "15..60", "min_length_s": 3},
        {"url": "https://example.org/a", "clips": 0},
        {"url": "https://example.org/a", "clips": 51},
        {"url": "https://example.org/a", "language": "english please"},
        {"url": "https://example.org/a", "surprise": 1},
        {"upload": "01jd3v5n8q2w4e6r8t0y2u4i6p"},
    ],
)
async def test_what_cannot_be_a_job_is_refused_with_the_reason(web: WebBox, asked: dict[str, object]) -> None:
    operator = await web.bearer("operator")
    answer = await operator.post("/api/jobs", json=asked)
    assert answer.status_code in (400, 404, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert len(answer.json()["detail"]) > 10
    assert await said(web, JobCreated) == []


async def test_an_upload_that_waited_becomes_a_job_and_another_one(web: WebBox) -> None:
    operator, viewer = await web.client("operator"), await web.client("viewer")
    video = b"\x1a\x45\xdf\xa3" + bytes(100_000)
    sent = await operator.post("/api/uploads/file", files={"file": ("talk.webm", video)}, data={"job": "no"})
    assert sent.status_code == 201, sent.text
    ident = sent.json()["id"]
    made = await operator.post("/api/jobs", json={"upload": ident, "clips": 2})
    assert made.status_code == 201, made.text
    assert (made.json()["kind"], made.json()["name"], made.json()["owner"]) == ("upload", "talk.webm", "operator")
    listed = (await operator.get("/api/uploads")).json()["uploads"]
    assert [one["job"] for one in listed] == [made.json()["job"]]
    again = await operator.post("/api/jobs", json={"upload": ident, "clips": 5})
    assert again.status_code == 201
    assert again.json()["job"] != made.json()["job"]
    assert (await viewer.post("/api/jobs", json={"upload": ident})).status_code == 403
    stranger = await web.client("operator", "stranger")
    assert (await stranger.post("/api/jobs", json={"upload": ident})).status_code == 404


async def test_a_closed_intake_and_a_full_disk_are_told_with_their_reasons(web: WebBox, nats: NatsBox) -> None:
    operator = await web.bearer("operator")
    await hold(web.services.bus, "intake", "operator", by="ada", reason="spring cleaning")
    async with asyncio.timeout(10):
        await web.services.ledger.until("intake", "pause")
    closed = await operator.post("/api/jobs", json={"url": "https://example.org/a"})
    assert (closed.status_code, closed.json()["code"]) == (503, "intake-closed")
    assert "spring cleaning" in closed.json()["detail"]
    await release(web.services.bus, "intake", "operator", by="ada")
    full = replace(config_for(nats), admission=Admission(reserve_bytes=10**18, max_percent=100.0))
    async with web_box(nats, full) as other:
        token = await other.bearer("operator")
        answer = await token.post("/api/jobs", json={"url": "https://example.org/a"})
    assert (answer.status_code, answer.json()["code"]) == (507, "no-room")
    assert answer.json()["need_bytes"] > 0
    assert answer.json()["free_bytes"] < answer.json()["reserve_bytes"]


async def test_the_room_for_jobs_is_looked_at_before_anybody_asks(web: WebBox) -> None:
    """So that who makes a job need not wait for it."""
    async with asyncio.timeout(10):
        while web.services.admission._seen is None:
            await asyncio.sleep(0.01)


async def test_jobs_are_listed_a_page_at_a_time_by_state(web: WebBox) -> None:
    jobs = [new_id() for _ in range(7)]
    for job in jobs:
        await tell(web, facts.created(job))
    await tell(web, facts.job_failed(jobs[2], "download"), JobDeleted(job=jobs[3], by="ada"))
    viewer = await web.bearer("viewer")
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await viewer.get(f"/api/jobs?limit=4{cursor}")).json()
        seen += [one["job"] for one in page["jobs"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == [job for job in reversed(jobs) if job != jobs[3]]
    failed = (await viewer.get("/api/jobs?state=failed,deleted")).json()["jobs"]
    assert [(one["job"], one["state"]) for one in failed] == [(jobs[3], "deleted"), (jobs[2], "failed")]
    assert (await viewer.get("/api/jobs?state=lost")).json()["code"] == "unknown-state"
    for query in ("limit=0", "limit=201", "cursor=x", "limit=x"):
        assert (await viewer.get(f"/api/jobs?{query}")).status_code == 400


async def test_one_job_with_its_clips_its_progress_and_its_timeline(web: WebBox) -> None:
    job = await finished_job(web)
    viewer = await web.bearer("viewer")
    told = (await viewer.get(f"/api/jobs/{job}")).json()
    assert (told["job"]["state"], told["job"]["clips_ready"], told["job"]["progress"]) == ("completed", 2, None)
    assert [clip["clip"] for clip in told["clips"]] == [1, 2]
    assert told["clips"][0]["urls"]["video"] == f"/api/clips/{job}/1/video"
    assert isinstance(told["clips"][0]["reasons"], list)
    timeline = (await viewer.get(f"/api/jobs/{job}/events")).json()
    assert [one["event"]["type"] for one in timeline["events"]][:2] == ["job:created", "job:downloading"]
    assert timeline["events"][-1]["event"]["type"] == "job:completed"
    first = (await viewer.get(f"/api/jobs/{job}/events?limit=2")).json()
    rest = (await viewer.get(f"/api/jobs/{job}/events?after={first['next']}")).json()
    assert first["events"] + rest["events"] == timeline["events"]
    other = new_id()
    await tell(web, *life(other, end="running"))
    web.services.hub.progress(
        b'{"job":"%b","clip":null,"stage":"transcribe","done":0.25,"eta_s":9.0,"elapsed_s":3.0}' % other.encode()
    )
    working = (await viewer.get(f"/api/jobs/{other}")).json()["job"]
    assert working["progress"] == {"stage": "transcribe", "clip": None, "done": 0.25, "eta_s": 9.0}


async def test_the_log_is_told_from_its_end_in_whole_lines(web: WebBox) -> None:
    job = await finished_job(web)
    viewer = await web.bearer("viewer")
    whole = await viewer.get(f"/api/jobs/{job}/log")
    assert whole.headers["content-type"] == "text/plain; charset=utf-8"
    assert whole.text.startswith("line 0\n")
    end = await viewer.get(f"/api/jobs/{job}/log?max_bytes=20")
    assert end.text == "line 998\nline 999\n"
    quiet = new_id()
    await tell(web, facts.created(quiet))
    assert (await viewer.get(f"/api/jobs/{quiet}/log")).text == ""


async def test_a_cancel_is_in_the_audit_trail_also_when_the_job_cannot_be_shown(
    web: WebBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = await web.client("operator")
    job = (await operator.post("/api/jobs", json={"url": "https://example.org/talk.mp4"})).json()["job"]

    async def away(*_: object) -> None:
        raise SourceUnavailable("the database does not answer")

    monkeypatch.setattr(web.services.readers, "run", away)
    assert (await operator.post(f"/api/jobs/{job}/cancel")).status_code == 503
    assert await said(web, JobCancelled, job)
    actions = [told.action for told in await said(web, UserAction) if isinstance(told, UserAction)]
    assert actions[-1] == "job.cancel"


async def test_cancel_retry_pin_and_delete_are_facts_with_a_name(web: WebBox) -> None:
    operator = await web.client("operator")
    job = new_id()
    await tell(web, *life(job, end="running"))
    cancelled = await operator.post(f"/api/jobs/{job}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"], cancelled.json()["stage"]) == (200, "cancelled", None)
    (fact,) = await said(web, JobCancelled)
    assert fact.by == "operator"  # type: ignore[attr-defined]
    await project(web)
    again = await operator.post(f"/api/jobs/{job}/cancel")
    assert (again.status_code, again.json()["state"]) == (200, "cancelled")
    assert len(await said(web, JobCancelled)) == 1
    retried = await operator.post(f"/api/jobs/{job}/retry")
    assert retried.json()["items"] == [{"stage": "transcribe", "clip": None}]
    assert retried.json()["job"]["state"] == "running"
    assert len(await said(web, JobRetried)) == 1
    await project(web)
    busy = await operator.post(f"/api/jobs/{job}/retry")
    assert (busy.status_code, busy.json()["code"]) == (422, "intake-refused")
    assert (await operator.post(f"/api/jobs/{job}/pin")).json()["pinned"] is True
    assert len(await said(web, FilesPinned)) == 1
    await project(web)
    assert (await operator.get(f"/api/jobs/{job}")).json()["job"]["pinned"] is True
    assert (await operator.post(f"/api/jobs/{job}/unpin")).json()["pinned"] is False
    gone = await operator.delete(f"/api/jobs/{job}")
    assert (gone.status_code, gone.content) == (204, b"")
    assert len(await said(web, JobDeleted)) == 1
    actions = [one.action for one in await said(web, UserAction)]  # type: ignore[attr-defined]
    assert actions[-5:] == ["job.cancel", "job.retry", "job.pin", "job.unpin", "job.delete"]


@pytest.mark.parametrize(
    "job", ["01jd3v5n8q2w4e6r8t0y2u4i6p", "x", "..", "%2e%2e", "A" * 26, "a%00" + "b" * 24, "*", ">"]
)
async def test_a_job_that_is_not_there_is_not_found(web: WebBox, job: str) -> None:
    operator = await web.bearer("operator")
    for method, path in (
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("POST", "/pin"),
        ("GET", "/events"),
        ("GET", "/log"),
        ("GET", "/clips.zip"),
    ):
        answer = await operator.request(method, f"/api/jobs/{job}{path}")
        assert answer.status_code in (400, 404, 405), (method, path, answer.text)
    assert await said(web, JobCancelled) == []
