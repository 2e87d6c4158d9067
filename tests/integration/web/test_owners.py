"""Every route × every caller, on something that is another one's: answered as docs/WEB.md says ("Whose is what").

The table is made from the application itself: a route for which nothing is declared here fails the test.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeAlias

import httpx
from msgspec import Struct
from msgspec.structs import replace

from appliance.accounts.roles import Role, allows
from bus.box_facts import AlertRaised
from bus.events import JobCreated, JobFailed
from bus.ids import new_id
from tests.integration.web.conftest import PASSWORD, WebBox
from tests.integration.web.filled import life, project, tell, write_files
from tests.integration.web.test_admin import letter
from tests.integration.web.test_roles import refused, routes
from tests.integration.web.uploading import OFFSET_TYPE, TUS, content, create, offset, send
from tests.unit.appliance import facts

Whose: TypeAlias = Literal["nobody's", "one's own", "the box's", "its owner's", "administrators'"]
Made: TypeAlias = dict[str, Any]
OWNER = "ann"


class Case(Struct, frozen=True):
    """What a route does to a thing, and whose that is."""

    whose: Whose
    make: Callable[[WebBox, httpx.AsyncClient], Awaitable[Made]] | None = None
    """Something of the owner's: what the path and the request are filled with."""
    good: int = 200
    """The status for those who may."""
    options: Callable[[Made], dict[str, Any]] = lambda made: {}


async def job(web: WebBox, owner: httpx.AsyncClient) -> Made:
    """One that has ended with a clip that is ready and one that failed: whatever is asked of it has something to do."""
    ident = new_id()
    events = life(ident, end="clip-failed")
    await tell(web, *[replace(one, owner=OWNER) if isinstance(one, JobCreated) else one for one in events])
    await asyncio.to_thread(write_files, web.config.data_dir, ident, 2)
    return {"job": ident, "clip": 1, "kind": "video"}


async def unfinished(web: WebBox, owner: httpx.AsyncClient) -> Made:
    return {"ident": (await create(owner, 1000)).rsplit("/", 1)[-1]}


async def finished(web: WebBox, owner: httpx.AsyncClient) -> Made:
    data = content(1000)
    url = await create(owner, len(data), job="no")
    assert (await send(owner, url, data, 0)).status_code == 204
    return {"ident": url.rsplit("/", 1)[-1]}


async def alert(web: WebBox, owner: httpx.AsyncClient) -> Made:
    ident = f"disk-{new_id()}"
    await tell(web, AlertRaised(alert=ident, severity="warning", message="full", rule="disk.space", device=ident))
    seen = await owner.post(f"/api/admin/alerts/{ident}/ack", json={"note": "mine"})
    silenced = await owner.post(f"/api/admin/alerts/{ident}/silence", json={"for_s": 60, "reason": "mine"})
    assert (seen.status_code, silenced.status_code) == (200, 200)
    return {"alert": ident}


async def given_up(web: WebBox, owner: httpx.AsyncClient) -> Made:
    ident = new_id()
    event = JobFailed(job=ident, stage="transcribe", attempts=3, code="crashed", error="died")
    created = replace(facts.created(ident), owner=OWNER)
    await tell(web, created, *life(ident, end="running")[1:], event)
    await letter(web, event)
    groups = (await owner.get("/api/admin/dead-letters")).json()["groups"]
    return {"ids": [one["id"] for group in groups for one in group["letters"] if one["job"] == ident]}


async def hold(web: WebBox, owner: httpx.AsyncClient) -> Made:
    made = await owner.post("/api/admin/controls", json={"target": "cut", "mode": "pause", "reason": "mine"})
    assert made.status_code == 200
    return {}


async def person(web: WebBox, owner: httpx.AsyncClient) -> Made:
    name = f"u{new_id()}"
    await web.add_user(name, "viewer")
    return {"user": name}


async def token(web: WebBox, owner: httpx.AsyncClient) -> Made:
    secret = await web.token("viewer")
    return {"ident": secret.split("_")[1]}


def tus(**more: str) -> Callable[[Made], dict[str, Any]]:
    return lambda made: {"headers": {**TUS, **more}}


def piece(**more: str) -> Callable[[Made], dict[str, Any]]:
    headers = {**TUS, "Content-Type": OFFSET_TYPE, "Upload-Offset": "0", **more}
    return lambda made: {"content": content(10), "headers": headers}


def body(**fields: Any) -> Callable[[Made], dict[str, Any]]:
    return lambda made: {"json": fields}


UPLOAD, JOB, CLIP = "/api/uploads/{ident:str}", "/api/jobs/{job:str}", "/api/clips/{job:str}/{clip:int}/{kind:str}"
ALERT, USER = "/api/admin/alerts/{alert:str}", "/api/admin/users/{user:str}"
CASES: dict[tuple[str, str], Case] = {
    ("HEAD", UPLOAD): Case("its owner's", unfinished, 200, tus()),
    ("GET", UPLOAD): Case("its owner's", unfinished),
    ("PATCH", UPLOAD): Case("its owner's", unfinished, 204, piece()),
    ("DELETE", UPLOAD): Case("its owner's", unfinished, 204, tus()),
    ("POST", UPLOAD): Case("its owner's", unfinished, 204, piece(**{"X-HTTP-Method-Override": "PATCH"})),
    ("POST", "/api/jobs"): Case("its owner's", finished, 201, lambda made: {"json": {"upload": made["ident"]}}),
    ("GET", JOB): Case("the box's", job),
    ("DELETE", JOB): Case("the box's", job, 204),
    **{("POST", f"{JOB}/{verb}"): Case("the box's", job) for verb in ("cancel", "retry", "pin", "unpin")},
    **{("GET", f"{JOB}/{part}"): Case("the box's", job) for part in ("events", "log", "clips.zip")},
    ("GET", CLIP): Case("the box's", job),
    ("HEAD", CLIP): Case("the box's", job),
    ("POST", f"{ALERT}/ack"): Case("the box's", alert, 200, body()),
    ("POST", f"{ALERT}/silence"): Case("the box's", alert, 200, body(for_s=60, reason="x")),
    ("POST", f"{ALERT}/unsilence"): Case("the box's", alert),
    ("POST", "/api/admin/dead-letters/replay"): Case("the box's", given_up, 200, lambda made: {"json": made}),
    ("POST", "/api/admin/controls"): Case("the box's", hold, 200, body(target="cut", mode="run")),
    ("PATCH", USER): Case("administrators'", person, 200, body(disabled=True)),
    ("DELETE", USER): Case("administrators'", person, 204),
    ("DELETE", "/api/tokens/{ident:str}"): Case("administrators'", token, 204),
    **{
        ("POST", path): Case("one's own")
        for path in ("/api/login", "/api/logout", "/api/password", "/api/uploads", "/api/uploads/file")
    },
    **{("GET", path): Case("one's own") for path in ("/api/me", "/api/uploads")},
    **{
        ("POST", path): Case("nobody's")
        for path in ("/api/claim", "/api/admin/users", "/api/tokens", "/api/alerts/webhook")
    },
    **{
        ("GET", path): Case("nobody's")
        for path in (
            *("/", "/admin", "/login", "/claim", "/assets/{name:path}", "/healthz", "/readyz", "/metrics"),
            *("/schema", "/schema/openapi.json", "/schema/{path:str}", "/schema/style.css"),
            *("/api/jobs", "/api/admin/ssot", "/api/admin/events", "/api/admin/audit", "/api/admin/workers"),
            *("/api/admin/alerts", "/api/admin/dead-letters", "/api/admin/controls", "/api/admin/storage"),
            *("/api/admin/users", "/api/tokens", "/api/storage/forecast"),
        )
    },
}
"""`nobody's`: it names nothing of anybody's; what it lists is the box's. `one's own`: it can mean nothing else."""


async def test_each_route_has_its_answer_for_what_is_another_ones(web: WebBox) -> None:
    owner = await web.client("operator", OWNER)
    callers: list[tuple[str, Role, httpx.AsyncClient]] = [
        ("viewer", "viewer", await web.client("viewer")),
        ("another operator", "operator", await web.client("operator", "bob")),
        ("a program", "operator", await web.bearer("operator")),
        ("administrator", "admin", await web.client("admin")),
    ]
    wrong = []
    for template, method, handler in routes(web):
        if method == "OPTIONS":
            continue
        case = CASES.get((method, template))
        if case is None:
            wrong.append(f"{method} {template}: whose it is, is not declared")
            continue
        if case.make is None:
            continue
        for who, role, client in callers:
            made = await case.make(web, owner)
            answer = await ask(client, method, template, case, made)
            got = refused(answer) or answer.status_code
            wants = expected(case, role, handler.opt.get("role", "admin"))
            if method == "HEAD" and wants == "not-allowed":
                wants = "refused"  # without a body to say why
            if got != wants:
                wrong.append(f"{method} {template} by {who}: {got}, not {wants}: {answer.text[:200]}")
            if wants == 404:
                nothing = await ask(client, method, template, case, {**made, "ident": new_id()})
                if told(answer) != told(nothing):
                    wrong.append(f"{method} {template} by {who}: tells that it is there: {answer.text[:200]}")
                if (await owner.get(f"/api/uploads/{made['ident']}")).json()["job"] is not None:
                    wrong.append(f"{method} {template} by {who}: has made a job of it")
                if case.make is unfinished and await offset(owner, f"/api/uploads/{made['ident']}") != 0:
                    wrong.append(f"{method} {template} by {who}: has changed it")
    assert wrong == []


def expected(case: Case, role: Role, need: Role) -> int | str:
    if not allows(role, need):
        return "not-allowed"
    return 404 if case.whose == "its owner's" and role != "admin" else case.good


async def ask(client: httpx.AsyncClient, method: str, template: str, case: Case, made: Made) -> httpx.Response:
    path = template.replace(":str}", "}").replace(":int}", "}").format_map(made)
    return await client.request(method, path, **case.options(made))


def told(answer: httpx.Response) -> tuple[int, object]:
    """All of an answer but what names the request."""
    document = {} if answer.request.method == "HEAD" else answer.json()
    return answer.status_code, {name: value for name, value in document.items() if name != "request"}


async def test_no_declared_route_is_gone(web: WebBox) -> None:
    there = {(method, template) for template, method, _ in routes(web)}
    assert set(CASES) - there == set()
    for (method, template), case in CASES.items():
        names = "{" in template and "path" not in template
        assert (case.make is not None) or not names, f"{method} {template} names something: whose is it?"


async def test_lists_show_ones_own_uploads_and_all_jobs(web: WebBox) -> None:
    ann, bob, vera, admin = (
        await web.client("operator", OWNER),
        await web.client("operator", "bob"),
        await web.client("viewer"),
        await web.client("admin"),
    )
    upload, made = await unfinished(web, ann), await job(web, ann)
    for client, sees in ((ann, True), (bob, False), (admin, True)):
        listed = (await client.get("/api/uploads")).json()["uploads"]
        assert [one["id"] for one in listed] == ([upload["ident"]] if sees else [])
    for client in (ann, bob, vera, admin):
        listed = (await client.get("/api/jobs")).json()["jobs"]
        assert [(one["job"], one["owner"]) for one in listed] == [(made["job"], OWNER)]


async def test_what_one_does_to_ones_own_session_leaves_others_alone(web: WebBox) -> None:
    ann, bob = await web.client("operator", OWNER), await web.client("operator", "bob")
    again = await web.client("operator", "bob")
    new = {"old": PASSWORD, "new": "another good one"}
    assert (await bob.post("/api/password", json=new)).status_code == 200
    assert (await again.get("/api/me")).status_code == 401, "one's other sessions end with the old password"
    bob.headers["X-CSRF-Token"] = (await bob.get("/api/me")).json()["csrf"]
    assert (await bob.post("/api/logout")).status_code == 204
    assert (await bob.get("/api/me")).status_code == 401
    assert (await ann.get("/api/me")).json()["user"] == OWNER


async def test_programs_of_one_name_are_one_owner(web: WebBox) -> None:
    """So that a token can be replaced by a new one in the middle of an upload."""
    old, new, other = [
        await web.nobody(headers={"Authorization": f"Bearer {await web.token('operator', name)}"})
        for name in ("studio", "studio", "archive")
    ]
    url = await create(old, 1000)
    assert await offset(new, url) == 0
    assert (await other.head(url, headers=TUS)).status_code == 404


async def test_what_was_done_by_others_is_no_secret_of_theirs_to_operators(web: WebBox) -> None:
    """The history of the box's jobs is the box's; who did what stays with administrators."""
    ann, bob = await web.client("operator", OWNER), await web.client("operator", "bob")
    made = await job(web, ann)
    assert (await ann.post(f"/api/jobs/{made['job']}/pin")).status_code == 200
    await project(web)
    seen = (await bob.get("/api/admin/events", params={"limit": 500})).json()["events"]
    assert made["job"] in {one["event"].get("job") for one in seen}
    assert "user:action" not in {one["event"]["type"] for one in seen}
