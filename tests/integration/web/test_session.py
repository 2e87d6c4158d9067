"""Claim, login, logout, passwords, tokens: over real HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from appliance.accounts import claims, sessions, throttle, tokens, users
from appliance.accounts.secrets import hash_password
from appliance.sqlite import sqlite3
from bus.events import UserAction
from tests.integration.web.conftest import PASSWORD, WebBox


async def issue(web: WebBox) -> str:
    return await web.services.db.change(lambda db: claims.issue(db, web.services.gate.clock()))


async def test_a_new_box_is_claimed_once(web: WebBox) -> None:
    nobody = await web.nobody()
    before = (await nobody.get("/api/me")).json()
    assert (before["status"], before["claimed"], before["code"]) == (401, False, "not-logged-in")
    token = await issue(web)
    wrong = await nobody.post("/api/claim", json={"token": "x" * 43, "user": "anna", "password": PASSWORD})
    assert (wrong.status_code, wrong.json()["code"]) == (403, "bad-claim")
    weak = await nobody.post("/api/claim", json={"token": token, "user": "anna", "password": "short"})
    assert (weak.status_code, weak.json()["code"]) == (422, "account-refused")
    claimed = await nobody.post("/api/claim", json={"token": token, "user": "anna", "password": PASSWORD})
    assert claimed.status_code == 201, claimed.text
    assert claimed.json() == {**claimed.json(), "user": "anna", "role": "admin", "claimed": True}
    assert (await nobody.get("/api/me")).json()["user"] == "anna"
    again = await nobody.post("/api/claim", json={"token": token, "user": "eve", "password": PASSWORD})
    assert (again.status_code, again.json()["code"]) == (409, "claimed")


async def test_a_claim_is_void_after_fifteen_minutes_and_when_a_newer_one_was_issued(web: WebBox) -> None:
    first = await issue(web)
    second = await issue(web)
    nobody = await web.nobody()
    old = await nobody.post("/api/claim", json={"token": first, "user": "eve", "password": PASSWORD})
    assert old.status_code == 403
    real = web.services.gate.clock
    web.services.gate.clock = lambda: real() + claims.CLAIM_S + 1
    late = await nobody.post("/api/claim", json={"token": second, "user": "eve", "password": PASSWORD})
    assert late.status_code == 403
    assert await web.services.door.claimed() is False


async def test_a_login_gives_a_new_id_and_a_logout_ends_it(web: WebBox) -> None:
    admin = await web.client("admin")
    first = admin.cookies["appliance_session"]
    told: list[str] = []
    web.services.gate.on_end(told.append)
    again = await admin.post("/api/login", json={"user": "admin", "password": PASSWORD})
    assert again.cookies["appliance_session"] != first
    assert len(told) == 1
    assert told == [await _id_of(first)]
    stolen = await web.nobody(cookies={"appliance_session": first})
    assert (await stolen.get("/api/me")).status_code == 401
    admin.headers["X-CSRF-Token"] = again.json()["csrf"]
    assert (await admin.post("/api/logout")).status_code == 204
    assert len(told) == 2
    assert (await admin.get("/api/me")).status_code == 401


async def _id_of(secret: str) -> str:
    from appliance.accounts.secrets import digest

    return digest(secret)


async def test_an_id_chosen_by_the_client_is_never_taken_over(web: WebBox) -> None:
    await web.add_user("admin", "admin")
    fixed = "f" * 43
    victim = await web.nobody(cookies={"appliance_session": fixed})
    answer = await victim.post("/api/login", json={"user": "admin", "password": PASSWORD})
    assert answer.status_code == 200
    attacker = await web.nobody(cookies={"appliance_session": fixed})
    assert (await attacker.get("/api/me")).status_code == 401


async def test_cookies_are_out_of_reach_of_scripts_and_other_sites(web: WebBox) -> None:
    await web.add_user("admin", "admin")
    nobody = await web.nobody()
    answer = await nobody.post("/api/login", json={"user": "admin", "password": PASSWORD})
    cookies = answer.headers.get_list("set-cookie")
    assert len(cookies) == 2
    for cookie in cookies:
        lower = cookie.lower()
        assert "httponly" in lower
        assert "samesite=strict" in lower
        assert "path=/" in lower


async def test_a_session_ends_when_idle_and_when_old(web: WebBox) -> None:
    admin = await web.client("admin")
    gate = web.services.gate
    real = gate.clock
    gate.clock = lambda: real() + web.config.web.session_idle_s + 61
    assert (await admin.get("/api/me")).status_code == 401
    gate.clock = lambda: real() - 3600
    assert (await admin.get("/api/me")).status_code == 401, "a clock that was set back makes no session good"
    gate.clock = real
    assert (await admin.get("/api/me")).status_code == 200


async def test_a_wrong_password_and_an_unknown_user_look_the_same(web: WebBox) -> None:
    await web.add_user("admin", "admin")
    nobody = await web.nobody()
    wrong = await nobody.post("/api/login", json={"user": "admin", "password": "wrong password"})
    unknown = await nobody.post("/api/login", json={"user": "nobody", "password": "wrong password"})
    assert (wrong.status_code, unknown.status_code) == (401, 401)
    told = [{k: v for k, v in answer.json().items() if k != "request"} for answer in (wrong, unknown)]
    assert told[0] == told[1]


async def test_guessing_is_slowed_and_the_owner_still_gets_in(web: WebBox) -> None:
    owner = await web.client("admin")  # this browser is known from now on
    guesser = await web.nobody(headers={"X-Forwarded-For": "203.0.113.9"})
    statuses = [
        (await guesser.post("/api/login", json={"user": "admin", "password": f"guess number {n}"})).status_code
        for n in range(8)
    ]
    assert statuses == [401] * 5 + [429] * 3, "a burst of five, then by the minute; forward headers change nothing"
    slowed = await guesser.post("/api/login", json={"user": "admin", "password": PASSWORD})
    assert slowed.status_code == 429
    assert 1 <= int(slowed.headers["Retry-After"]) <= 60
    back = await owner.post("/api/login", json={"user": "admin", "password": PASSWORD})
    assert back.status_code == 200, "the owner's browser has a bucket of its own"
    real = web.services.gate.clock
    web.services.gate.clock = lambda: real() + 6.5
    later = await guesser.post("/api/login", json={"user": "admin", "password": "guess number 9"})
    assert later.status_code == 401, "ten a minute: one more after six seconds"


async def test_guesses_side_by_side_are_slowed_like_those_one_after_the_other(web: WebBox) -> None:
    await web.add_user("anna", "admin")
    nobody = await web.nobody()
    wrong = {"user": "anna", "password": "not this one"}
    answers = await asyncio.gather(*(nobody.post("/api/login", json=wrong) for _ in range(40)))
    tried = [answer for answer in answers if answer.status_code == 401]
    assert {answer.status_code for answer in answers} == {401, 429}
    assert len(tried) <= throttle.BURST + 1


async def test_a_password_change_ends_every_other_session(web: WebBox) -> None:
    one, two = await web.client("operator"), await web.client("operator")
    wrong = await one.post("/api/password", json={"old": "not the password", "new": "another good one"})
    assert (wrong.status_code, wrong.json()["code"]) == (403, "wrong-password")
    changed = await one.post("/api/password", json={"old": PASSWORD, "new": "another good one"})
    assert changed.status_code == 200
    assert (await one.get("/api/me")).status_code == 200
    assert (await two.get("/api/me")).status_code == 401


async def test_a_password_that_an_administrator_sets_meanwhile_stands(web: WebBox) -> None:
    anna = await web.client("operator", "anna")
    door, made = web.services.door, hash_password("set by an administrator", "anna")
    real = door.hash

    async def slow(user: str, password: str) -> str:
        await web.services.db.change(lambda db: users.set_password(db, "anna", made, web.services.gate.clock()))
        return await real(user, password)

    door.hash = slow  # type: ignore[method-assign]
    answer = await anna.post("/api/password", json={"old": PASSWORD, "new": "another good one"})
    assert (answer.status_code, answer.json()["code"]) == (403, "wrong-password")
    assert await web.services.db.read(lambda db: users.kept_password(db, "anna")) == made


async def test_changes_with_a_cookie_need_the_token_of_the_page(web: WebBox) -> None:
    admin = await web.client("admin")
    good = admin.headers.pop("X-CSRF-Token")
    missing = await admin.post("/api/logout")
    assert (missing.status_code, missing.json()["code"]) == (403, "csrf")
    other = await web.client("viewer")
    foreign = await admin.post("/api/logout", headers={"X-CSRF-Token": other.headers["X-CSRF-Token"]})
    assert foreign.status_code == 403
    assert (await admin.post("/api/logout", headers={"X-CSRF-Token": good})).status_code == 204


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
async def test_changes_from_pages_of_other_sites_are_refused(web: WebBox, headers: dict[str, str]) -> None:
    await web.add_user("admin", "admin")
    nobody = await web.nobody()
    answer = await nobody.post("/api/login", json={"user": "admin", "password": PASSWORD}, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "foreign-origin")


async def test_a_request_from_our_own_page_is_taken(web: WebBox) -> None:
    await web.add_user("admin", "admin")
    nobody = await web.nobody()
    answer = await nobody.post(
        "/api/login",
        json={"user": "admin", "password": PASSWORD},
        headers={"Origin": web.url, "Sec-Fetch-Site": "same-origin"},
    )
    assert answer.status_code == 200


async def test_a_token_works_without_cookie_and_cannot_touch_credentials(web: WebBox) -> None:
    program = await web.bearer("admin")
    assert (await program.get("/api/me")).json() == {
        "user": "token:test",
        "role": "admin",
        "csrf": None,
        "claimed": True,
    }
    refused = await program.post("/api/password", json={"old": PASSWORD, "new": "another good one"})
    assert (refused.status_code, refused.json()["code"]) == (403, "token-not-allowed")
    wrong = await web.nobody(headers={"Authorization": "Bearer apt_nope"})
    assert (await wrong.get("/api/me")).status_code == 401


async def test_what_another_process_revokes_is_noticed(web: WebBox) -> None:
    program = await web.bearer("viewer")
    assert (await program.get("/api/me")).status_code == 200
    kept = await web.services.db.read(tokens.all_tokens)
    ended = _heard(web)
    principal = await web.services.gate.by_token(program.headers["Authorization"].split()[1])
    assert principal is not None
    release = web.services.gate.hold(principal)

    def revoke() -> None:
        other = sqlite3.connect(web.config.data_dir / "web.db", timeout=5)
        tokens.revoke(other, kept[0].id)
        other.commit()
        other.close()

    await asyncio.to_thread(revoke)
    async with asyncio.timeout(10):
        assert await ended.get() == kept[0].id
    release()
    assert (await program.get("/api/me")).status_code == 401


async def test_who_is_asked_about_while_it_is_revoked_is_not_remembered(
    web: WebBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = await web.token("viewer")
    gate = web.services.gate
    (kept,) = await web.services.db.read(tokens.all_tokens)
    real, asked, go_on = gate.db.change, asyncio.Event(), asyncio.Event()

    async def slow(change: Any) -> Any:
        asked.set()
        await go_on.wait()
        return await real(change)

    monkeypatch.setattr(gate.db, "change", slow)
    asking = asyncio.create_task(gate.by_token(secret))
    await asked.wait()
    monkeypatch.undo()
    await real(lambda db: tokens.revoke(db, kept.id))
    gate.ended([kept.id])
    go_on.set()
    await asking
    assert await gate.by_token(secret) is None


def _heard(web: WebBox) -> asyncio.Queue[str]:
    heard: asyncio.Queue[str] = asyncio.Queue()
    web.services.gate.on_end(heard.put_nowait)
    return heard


async def test_who_logs_in_is_in_the_audit_trail(web: WebBox) -> None:
    await web.client("operator")
    stored = await web.services.bus.read(0, "evt.user.action.>")
    found = [s.event for s in stored]
    assert [(e.user, e.action, e.remote) for e in found if isinstance(e, UserAction)] == [
        ("operator", "session.login", "127.0.0.1")
    ]


async def test_a_user_has_a_bounded_number_of_sessions(web: WebBox) -> None:
    await web.add_user("viewer", "viewer")

    def many(db: sqlite3.Connection) -> int:
        for n in range(sessions.MAX_SESSIONS + 5):
            sessions.begin(db, "viewer", remote="127.0.0.1", agent="test", now=1000.0 + n)
        return len(sessions.of_user(db, "viewer"))

    assert await web.services.db.change(many) == sessions.MAX_SESSIONS


async def test_nothing_secret_is_kept_in_the_clear(web: WebBox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    admin = await web.client("admin")
    token = await web.token("viewer")
    program = await web.nobody(headers={"Authorization": f"Bearer {token}"})
    await program.get("/api/me", params={"token": token})
    await admin.get("/api/me")
    secrets = [PASSWORD, token, admin.cookies["appliance_session"], admin.headers["X-CSRF-Token"]]

    def stored() -> bytes:
        return (web.config.data_dir / "web.db").read_bytes()

    kept = await asyncio.to_thread(stored)
    logged = "\n".join(
        f"{record.getMessage()} {record.__dict__}" for record in caplog.records if record.name == "web.access"
    )
    assert "GET /api/me 200" in logged
    for secret in secrets:
        assert secret.encode() not in kept
        assert secret not in logged
    assert isinstance(admin, httpx.AsyncClient)
