"""Events, audit, workers, alerts, dead letters, controls, storage and the webhook."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from appliance.alerts import orders
from bus.deadletters import DeadLetter, publish_dead_letter
from bus.events import AlertCleared, AlertRaised, ClipFailed, JobFailed, JobRetried, UserAction
from bus.ids import new_id
from bus.registry import Registry, WorkerState
from tests.integration.web.conftest import WebBox
from tests.integration.web.filled import life, project, tell
from tests.unit.appliance import facts


async def test_the_history_is_read_both_ways_and_filtered(web: WebBox) -> None:
    job = new_id()
    last = await tell(web, *life(job, end="running"), UserAction(user="ada", action="x"))
    operator, admin = await web.bearer("operator"), await web.bearer("admin")
    newest = (await admin.get("/api/admin/events?limit=2")).json()
    assert [one["seq"] for one in newest["events"]] == [last, last - 1]
    assert newest["next"] == last - 1
    older = (await admin.get(f"/api/admin/events?before={newest['next']}&limit=500")).json()
    assert [one["seq"] for one in older["events"]] == list(range(last - 2, 0, -1))
    onward = (await admin.get("/api/admin/events?after=1&limit=2")).json()
    assert ([one["seq"] for one in onward["events"]], onward["next"]) == ([2, 3], 3)
    assert (await admin.get(f"/api/admin/events?after={last}")).json() == {"events": [], "next": None}
    types = (await admin.get("/api/admin/events?type=job:created,user:action")).json()["events"]
    assert [one["event"]["type"] for one in types] == ["user:action", "job:created"]
    assert len((await admin.get(f"/api/admin/events?job={job}")).json()["events"]) == last - 1
    kept = (await operator.get("/api/admin/events")).json()["events"]
    assert "user:action" not in [one["event"]["type"] for one in kept], "what people did is for administrators"
    assert (await operator.get("/api/admin/audit")).status_code == 403
    assert [one["event"]["user"] for one in (await admin.get("/api/admin/audit")).json()["events"]] == ["ada"]


async def test_workers(web: WebBox) -> None:
    bus = await web.nats.bus()
    await Registry(bus).put(
        WorkerState(worker="w1", stage="cut", pid=1, host="h", started_at=datetime.now(UTC), job="j", clip=2)
    )
    operator = await web.bearer("operator")
    told = (await operator.get("/api/admin/workers")).json()
    assert told["stages"]["cut"]["online"] == 1
    assert [(one["worker"], one["job"], one["clip"]) for one in told["workers"]] == [("w1", "j", 2)]


async def test_alerts_are_seen_silenced_and_heard_again(web: WebBox) -> None:
    await tell(
        web,
        AlertRaised(alert="disk-space-data", severity="warning", message="full", rule="disk.space", device="data"),
        AlertRaised(alert="workers-cut", severity="critical", message="none"),
    )
    operator = await web.client("operator")
    listed = (await operator.get("/api/admin/alerts")).json()
    assert [one["alert"] for one in listed["raised"]] == ["workers-cut", "disk-space-data"]
    seen = await operator.post("/api/admin/alerts/disk-space-data/ack", json={"note": "ordered a disk"})
    assert [(one["alert"], one["author"], one["note"]) for one in seen.json()["seen"]] == [
        ("disk-space-data", "operator", "ordered a disk")
    ]
    silenced = await operator.post(
        "/api/admin/alerts/disk-space-data/silence", json={"for_s": 3600, "reason": "disk is on its way"}
    )
    (made,) = silenced.json()["silences"]
    assert (made["rule"], made["device"], made["author"]) == ("disk.space", "data", "operator")
    kept = await asyncio.to_thread(orders.read, web.config.data_dir)
    assert kept.silence_of("disk.space", "data", web.services.gate.clock()) is not None
    assert (await operator.post("/api/admin/alerts/disk-space-data/unsilence")).json()["silences"] == []
    again = await operator.post("/api/admin/alerts/disk-space-data/silence", json={"for_s": 60, "reason": "again"})
    ident = again.json()["silences"][0]["id"]
    assert (await operator.post(f"/api/admin/alerts/{ident}/unsilence")).json()["silences"] == []
    no_rule = await operator.post("/api/admin/alerts/workers-cut/silence", json={"for_s": 60, "reason": "x"})
    assert (no_rule.status_code, no_rule.json()["code"]) == (422, "no-rule")
    for wrong in (
        {"for_s": 0, "reason": "x"},
        {"for_s": 60},
        {"for_s": 60, "reason": ""},
        {"for_s": 1e9, "reason": "x"},
    ):
        assert (await operator.post("/api/admin/alerts/disk-space-data/silence", json=wrong)).status_code in (400, 422)
    assert (await operator.post("/api/admin/alerts/nothing/ack", json={})).json()["code"] == "alert-not-found"
    await project(web)
    actions = [
        one["event"]["action"] for one in (await (await web.bearer("admin")).get("/api/admin/audit")).json()["events"]
    ]
    assert actions[:5] == [
        "alert.unsilence",
        "alert.silence",
        "alert.unsilence",
        "alert.silence",
        "alert.ack",
    ]


async def letter(web: WebBox, event: JobFailed | ClipFailed) -> None:
    await publish_dead_letter(
        await web.nats.bus(),
        DeadLetter(
            stage=event.stage,
            job=str(event.job),
            clip=event.clip,
            attempts=event.attempts,
            error=event.error,
            code=event.code,
            failed_event=event.id,
        ),
    )


async def test_dead_letters_are_grouped_and_go_on(web: WebBox) -> None:
    failed = [new_id() for _ in range(3)]
    for number, job in enumerate(failed):
        event = JobFailed(
            job=job, stage="transcribe", attempts=3, code="crashed", error=f"/data/{job}/x: died after {number}.5 s"
        )
        await tell(web, *life(job, end="running"), event)
        await letter(web, event)
    partly = new_id()
    clip = facts.clip_failed(partly, 2)
    events = life(partly, end="clip-failed")
    await tell(web, *[clip if isinstance(one, ClipFailed) else one for one in events])
    await letter(web, clip)
    operator = await web.client("operator")
    told = (await operator.get("/api/admin/dead-letters")).json()
    assert [(one["stage"], one["code"], one["count"]) for one in told["groups"]] == [
        ("transcribe", "crashed", 3),
        ("cut", "crashed", 1),
    ]
    assert [one["job"] for one in told["groups"][0]["letters"]] == failed[::-1]
    assert told["groups"][1]["letters"][0]["clip"] == 2
    with pytest.MonkeyPatch.context() as slow:
        slow.setattr("web.admin.letters.MAX_REPLAY_S", -1.0)
        late = (await operator.post("/api/admin/dead-letters/replay", json={"ids": "all"})).json()
    assert late == {"jobs": [], "refused": [], "left": 4}
    ids = [one["id"] for one in told["groups"][0]["letters"][:2]]
    replayed = (await operator.post("/api/admin/dead-letters/replay", json={"ids": ids})).json()
    assert (set(replayed["jobs"]), replayed["refused"], replayed["left"]) == (set(failed[1:]), [], 0)
    await project(web)
    left = (await operator.get("/api/admin/dead-letters")).json()
    assert left["count"] == 2
    rest = (await operator.post("/api/admin/dead-letters/replay", json={"ids": "all"})).json()
    assert set(rest["jobs"]) == {failed[0], partly}
    await project(web)
    assert (await operator.get("/api/admin/dead-letters")).json() == {"groups": [], "count": 0}
    retried = [one.event for one in await web.services.bus.read(0, "evt.job.retried.>", 100)]
    assert len([one for one in retried if isinstance(one, JobRetried) and one.by == "operator"]) >= 4
    assert (await operator.post("/api/admin/dead-letters/replay", json={"ids": "some"})).status_code == 400


async def test_controls_hold_and_let_go(web: WebBox) -> None:
    operator = await web.client("operator")
    told = (await operator.get("/api/admin/controls")).json()["controls"]
    assert {one["target"]: one["mode"] for one in told} == dict.fromkeys(
        ("intake", "download", "transcribe", "moments", "faces", "crop", "cut"), "run"
    )
    paused = await operator.post(
        "/api/admin/controls", json={"target": "all", "mode": "pause", "reason": "update", "for_s": 600}
    )
    modes = {one["target"]: one["mode"] for one in paused.json()["controls"]}
    assert (modes["intake"], modes["cut"]) == ("run", "pause")
    (hold,) = next(one["holds"] for one in paused.json()["controls"] if one["target"] == "cut")
    assert (hold["by"], hold["holder"], hold["reason"]) == ("operator", "operator", "update")
    drained = await operator.post("/api/admin/controls", json={"target": "cut", "mode": "drain"})
    assert {one["target"]: one["mode"] for one in drained.json()["controls"]}["cut"] == "drain"
    run = await operator.post("/api/admin/controls", json={"target": "all", "mode": "run"})
    assert {one["mode"] for one in run.json()["controls"]} == {"run"}
    for wrong in (
        {"target": "moon", "mode": "run"},
        {"target": "cut"},
        {"target": "cut", "mode": "pause", "for_s": -1},
        {"target": "cut", "mode": "pause", "for_s": 5e-324},
    ):
        assert (await operator.post("/api/admin/controls", json=wrong)).status_code == 400


async def test_a_hold_that_is_over_before_it_is_taken_is_refused(web: WebBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.admin.controls.timedelta", lambda seconds: timedelta(seconds=-seconds))
    operator = await web.client("operator")
    order = {"target": "cut", "mode": "pause", "for_s": 1}
    answer = await operator.post("/api/admin/controls", json=order)
    assert (answer.status_code, answer.json()["code"]) == (422, "hold-refused"), answer.text


async def test_storage(web: WebBox) -> None:
    operator = await web.bearer("operator")
    told = (await operator.get("/api/admin/storage")).json()
    assert told["total_bytes"] > told["free_bytes"] > 0
    assert told["uses"]["database"] > 0


FIRING: dict[str, Any] = {
    "version": "4",
    "status": "firing",
    "receiver": "box",
    "groupLabels": {},
    "alerts": [
        {
            "status": "firing",
            "labels": {"alertname": "Disk Full!", "severity": "page", "instance": "nas:9100"},
            "annotations": {"summary": "the disk\nis full"},
            "startsAt": "2026-01-01T00:00:00.123456789Z",
            "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://x",
            "fingerprint": "abc",
        }
    ],
}


async def test_alerts_of_another_system_become_ours_once(web: WebBox) -> None:
    program = await web.bearer("operator")
    first = await program.post("/api/alerts/webhook", json=FIRING)
    assert first.json() == {"raised": 1, "cleared": 0, "known": 0}, first.text
    assert (await program.post("/api/alerts/webhook", json=FIRING)).json()["known"] == 1
    (raised,) = await web.services.bus.read(0, "evt.alert.raised.>", 10)
    event = raised.event
    assert isinstance(event, AlertRaised)
    assert (event.severity, event.message, event.device, event.rule) == (
        "critical",
        "the disk is full (nas:9100)",
        "nas:9100",
        "external.Disk Full!",
    )
    assert event.alert.startswith("ext-disk-full-")
    resolved = {**FIRING, "alerts": [{**FIRING["alerts"][0], "status": "resolved"}]}
    assert (await program.post("/api/alerts/webhook", json=resolved)).json()["cleared"] == 1
    assert (await program.post("/api/alerts/webhook", json=resolved)).json()["known"] == 1
    (cleared,) = await web.services.bus.read(0, "evt.alert.cleared.>", 10)
    assert isinstance(cleared.event, AlertCleared)
    assert cleared.event.alert == event.alert
    audit = [one.event for one in await web.services.bus.read(0, "evt.user.>", 100)]
    assert [one.action for one in audit if isinstance(one, UserAction)] == ["alerts.webhook", "alerts.webhook"]
    nonsense: list[dict[str, Any]] = [
        {},
        {"alerts": [{}]},
        {"alerts": [{"status": "on", "labels": {}}]},
        {"alerts": "x"},
    ]
    for wrong in nonsense:
        assert (await program.post("/api/alerts/webhook", json=wrong)).status_code == 400
    assert (await (await web.nobody()).post("/api/alerts/webhook", json=FIRING)).status_code == 401
