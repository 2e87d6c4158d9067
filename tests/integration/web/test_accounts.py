"""Users and tokens over HTTP."""

from __future__ import annotations

import asyncio

from bus.events import UserAction
from tests.integration.web.conftest import PASSWORD, WebBox


async def test_a_users_life(web: WebBox) -> None:
    admin = await web.client("admin")
    made = await admin.post("/api/admin/users", json={"user": "anna", "password": PASSWORD, "role": "viewer"})
    assert (made.status_code, made.json()["role"]) == (201, "viewer")
    again = await admin.post("/api/admin/users", json={"user": "anna", "password": PASSWORD, "role": "admin"})
    assert (again.status_code, again.json()["code"]) == (422, "account-refused")
    anna = await web.client("viewer", "anna")
    raised = await admin.patch("/api/admin/users/anna", json={"role": "operator"})
    assert raised.json()["role"] == "operator"
    assert (await anna.get("/api/me")).status_code == 401, "a new role means a new session"
    anna = await web.client("operator", "anna")
    assert (await admin.patch("/api/admin/users/anna", json={"disabled": True})).json()["disabled"] is True
    assert (await anna.get("/api/me")).status_code == 401
    out = await anna.post("/api/login", json={"user": "anna", "password": PASSWORD})
    assert (out.status_code, out.json()["code"]) == (401, "wrong-login")
    await admin.patch("/api/admin/users/anna", json={"disabled": False, "password": "quite another one"})
    back = await anna.post("/api/login", json={"user": "anna", "password": "quite another one"})
    assert back.status_code == 200
    assert [u["user"] for u in (await admin.get("/api/admin/users")).json()["users"]] == ["admin", "anna"]
    assert (await admin.delete("/api/admin/users/anna")).status_code == 204
    assert (await admin.delete("/api/admin/users/anna")).status_code == 404
    assert (await anna.get("/api/me")).status_code == 401


async def test_the_last_administrator_stays(web: WebBox) -> None:
    admin = await web.client("admin")
    for answer in (
        await admin.patch("/api/admin/users/admin", json={"role": "viewer"}),
        await admin.patch("/api/admin/users/admin", json={"disabled": True}),
        await admin.delete("/api/admin/users/admin"),
    ):
        assert (answer.status_code, "last administrator" in answer.json()["detail"]) == (422, True)
    assert (await admin.get("/api/me")).status_code == 200


async def test_impossible_names_roles_and_passwords_are_refused(web: WebBox) -> None:
    admin = await web.client("admin")
    good = {"user": "anna", "password": PASSWORD, "role": "viewer"}
    for change, status in (
        ({"user": ""}, 400),
        ({"user": "a b"}, 422),
        ({"user": "<script>"}, 422),
        ({"user": "token:x"}, 422),
        ({"user": "a" * 65}, 400),
        ({"role": "root"}, 400),
        ({"password": "short"}, 422),
        ({"password": "aaaaaaaaaaaaaaaa"}, 422),
        ({"password": "a" * 2000}, 400),
        ({"more": 1}, 400),
    ):
        answer = await admin.post("/api/admin/users", json={**good, **change})
        assert answer.status_code == status, (change, answer.text)


async def test_a_tokens_life(web: WebBox) -> None:
    admin = await web.client("admin")
    made = (await admin.post("/api/tokens", json={"name": "backup", "role": "viewer"})).json()
    secret = made["token"]
    program = await web.nobody(headers={"Authorization": f"Bearer {secret}"})
    assert (await program.get("/api/me")).json()["user"] == "token:backup"
    listed = await admin.get("/api/tokens")
    assert secret not in listed.text
    assert [(t["name"], t["role"], t["created_by"]) for t in listed.json()["tokens"]] == [("backup", "viewer", "admin")]
    ended: asyncio.Queue[str] = asyncio.Queue()
    web.services.gate.on_end(ended.put_nowait)
    assert (await admin.delete(f"/api/tokens/{made['item']['id']}")).status_code == 204
    assert await asyncio.wait_for(ended.get(), 5) == made["item"]["id"]
    assert (await program.get("/api/me")).status_code == 401
    assert (await admin.delete(f"/api/tokens/{made['item']['id']}")).status_code == 404


async def test_a_token_ends_by_itself(web: WebBox) -> None:
    admin = await web.client("admin")
    made = (await admin.post("/api/tokens", json={"name": "short", "role": "viewer", "expires_s": 60})).json()
    program = await web.nobody(headers={"Authorization": f"Bearer {made['token']}"})
    assert (await program.get("/api/me")).status_code == 200
    real = web.services.gate.clock
    web.services.gate.clock = lambda: real() + 60.5
    assert (await program.get("/api/me")).status_code == 401


async def test_every_change_is_in_the_audit_trail(web: WebBox) -> None:
    admin = await web.client("admin")
    await admin.post("/api/admin/users", json={"user": "anna", "password": PASSWORD, "role": "viewer"})
    await admin.patch("/api/admin/users/anna", json={"role": "operator", "disabled": True})
    token = (await admin.post("/api/tokens", json={"name": "x", "role": "viewer"})).json()["item"]["id"]
    await admin.delete(f"/api/tokens/{token}")
    await admin.delete("/api/admin/users/anna")
    stored = [s.event for s in await web.services.bus.read(0, "evt.user.action.>")]
    told = [(e.action, e.target) for e in stored if isinstance(e, UserAction) and e.user == "admin"]
    assert told == [
        ("session.login", None),
        ("user.add", "anna"),
        ("user.change role disabled", "anna"),
        ("token.add", token),
        ("token.revoke", token),
        ("user.remove", "anna"),
    ]
