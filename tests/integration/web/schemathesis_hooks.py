"""What schemathesis cannot know: who it is, what it must not be left without, and what the API says of deleted jobs.

It runs in a process of its own beside the box: `FUZZ_URL` and `FUZZ_DATA_DIR` name the box.
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests
import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, ServerError
from schemathesis.openapi.checks import UseAfterFree

from appliance.accounts import sessions, users
from appliance.accounts.database import changed, path_of
from appliance.accounts.secrets import csrf_of, hash_password
from appliance.errors import AccountUnknown
from web.auth.guard import COOKIE

USER, PASSWORD = "fuzz", "correct horse battery"
DATABASE = path_of(Path(os.environ["FUZZ_DATA_DIR"]))
URL = os.environ["FUZZ_URL"]
KEPT = {"GET /api/jobs/{job}", "GET /api/jobs/{job}/events", "GET /api/jobs/{job}/log"}
"""What may be read of a deleted job: it has ended as `deleted`, and its history stays."""
TAKES_VIDEOS = {"POST /api/jobs", "POST /api/uploads", "POST /api/uploads/file"}
"""What may be answered with 507 and the numbers: the disk has no room for what all open jobs will need."""
ENDS_SESSIONS = ("/api/login", "/api/logout", "/api/password", "/api/admin/users/{user}")
MEANT = {
    "/api/login": ("user", "password"),
    "/api/password": ("old", "new"),
    "/api/admin/users": ("user", "password"),
    "/api/jobs": ("url",),
}
"""Texts in bodies that have to mean something, by path."""
APPENDS = "PATCH /api/uploads/{ident}"
VIDEO = b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom"
"""What the box takes for the beginning of one."""
WAIT_S = 10.0


def _ids(members: str, name: str) -> Callable[[Any], list[tuple[object, ...]]]:
    return lambda answer: [(one[name],) for one in answer[members]]


SOURCES: dict[str, tuple[tuple[str, ...], str, Any]] = {
    "/api/admin/users/{user}": (("user",), "/api/admin/users", _ids("users", "user")),
    "/api/tokens/{ident}": (("ident",), "/api/tokens", _ids("tokens", "id")),
    "/api/uploads/{ident}": (("ident",), "/api/uploads", _ids("uploads", "id")),
    "/api/clips/{job}/{clip}/{kind}": (
        ("job", "clip"),
        "/api/jobs?state=completed&limit=200",
        lambda answer: [(one["job"], clip) for one in answer["jobs"] for clip in (1, 2)],
    ),
}
"""Where ids of what is there are had from: names of the parameters, the address, and how they are read."""

schemathesis.serializer.alias("application/offset+octet-stream", "application/octet-stream")


class Person:
    """An administrator with a session that is good: as the commands `user add` and `user passwd` would, whatever the
    fuzzing has made of the account."""

    def __init__(self) -> None:
        self._hash = hash_password(PASSWORD, USER)
        self._secret: str | None = None

    def headers(self) -> dict[str, str]:
        if self._secret is None:
            self._secret = changed(DATABASE, self._enter)
        return {"Cookie": f"{COOKIE}={self._secret}", "X-CSRF-Token": csrf_of(self._secret)}

    def forget(self) -> None:
        self._secret = None

    def _enter(self, db: Any) -> str:
        now = time.time()
        try:
            users.find(db, USER)
        except AccountUnknown:
            users.add(db, USER, self._hash, "admin", now)
        else:
            users.set_role(db, USER, "admin", now)
            users.set_disabled(db, USER, False, now)
            users.set_password(db, USER, self._hash, now)
        return sessions.begin(db, USER, remote="127.0.0.1", agent="fuzz", now=now)


person = Person()


@schemathesis.auth(refresh_interval=None)
class Session:
    def get(self, case: Any, context: Any) -> dict[str, str]:
        return person.headers()

    def set(self, case: Any, data: dict[str, str], context: Any) -> None:
        case.headers = {**(case.headers or {}), **data}


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """Half of the bodies whose texts have to mean something do, and half of what is appended begins as a video does;
    what is made wrong on purpose stays wrong."""
    if context.operation.label == APPENDS and isinstance(body, bytes) and not chance(body) % 2:
        return VIDEO + body
    names = MEANT.get(context.operation.path, ())
    if not names or not isinstance(body, dict) or not set(names) <= set(body) or chance(body) % 2:
        return body
    if not all(isinstance(body[name], str) and 1 <= len(body[name]) <= 64 for name in names):
        return body
    match context.operation.path:
        case "/api/login":
            return {**body, "user": USER, "password": PASSWORD}
        case "/api/password":
            return {**body, "old": PASSWORD, "new": body["new"] + PASSWORD}
        case "/api/admin/users":
            return {**body, "user": f"u{chance(body)}", "password": body["password"] + PASSWORD}
        case _ if isinstance(body.get("upload", ""), str):
            return {**body, "url": "https://video.example/talk.mp4", "upload": None}
    return body


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:
    """Half of the ids that could be ones are ids of what is there."""
    source = SOURCES.get(context.operation.path)
    if source is None or not isinstance(path_parameters, dict) or not set(source[0]) <= set(path_parameters):
        return path_parameters
    names, asked, pick = source
    drawn = chance(path_parameters)
    if drawn % 2 or not re.fullmatch("[0-9a-z]{1,64}", str(path_parameters[names[0]])):
        return path_parameters
    answer = _ask("GET", asked).json()
    if context.operation.label == APPENDS:
        answer = {"uploads": [one for one in answer["uploads"] if one["state"] == "receiving"]}
    known = pick(answer)
    if not known:
        return path_parameters
    return {**path_parameters, **dict(zip(names, known[drawn // 2 % len(known)], strict=True))}


def chance(value: Any) -> int:
    """A number that is the same for the same value: a failure can be repeated."""
    return zlib.crc32(repr(value).encode())


@schemathesis.hook
def map_headers(context: Any, headers: Any) -> Any:
    """Half of what is appended is appended at the start."""
    if context.operation.label == APPENDS and isinstance(headers, dict):
        at = str(headers.get("Upload-Offset"))
        if re.fullmatch("[0-9]{1,18}", at) and not chance(at) % 2:
            return {**headers, "Upload-Offset": "0"}
    return headers


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """The next case finds itself logged in, the intake open, and room on the disk, as this one did."""
    path = case.operation.path
    if path in ENDS_SESSIONS and response.status_code < 300:
        person.forget()
    if response.status_code == 507:
        _make_room()
    if path == "/api/admin/controls" and response.status_code == 200 and case.method.upper() == "POST":
        _open_intake()


def _open_intake() -> None:
    _ask("POST", "/api/admin/controls", json={"target": "intake", "mode": "run"})
    _until("the intake is open", lambda: _ask("GET", "/api/storage/forecast?size_bytes=1").json()["intake"]["open"])


def _make_room() -> None:
    """Nobody works off the jobs of this box, and nobody ends the uploads: all are given up."""
    for upload in _ask("GET", "/api/uploads").json()["uploads"]:
        if upload["state"] == "receiving":
            _ask("DELETE", f"/api/uploads/{upload['id']}")
    given_up = _open_jobs()
    for job in given_up:
        _ask("POST", f"/api/jobs/{job}/cancel")
    _until("they are closed", lambda: not given_up & _open_jobs())


def _open_jobs() -> set[str]:
    return {job["job"] for job in _ask("GET", "/api/jobs?state=queued,running,clipping&limit=200").json()["jobs"]}


def _ask(method: str, path: str, **options: Any) -> requests.Response:
    answer = requests.request(method, URL + path, headers=person.headers(), timeout=30, **options)
    answer.raise_for_status()
    return answer


def _until(what: str, true: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < ends_at, f"after {WAIT_S:g} s still not: {what}"
        time.sleep(0.01)


@schemathesis.hook
def filter_failure(context: Any, failure: Exception, case: Any, response: Any) -> bool:
    """False: this is as the API says, or was never sent."""
    label = case.operation.label
    if isinstance(failure, AcceptedNegativeData) and label == "POST /api/uploads/file" and isinstance(case.body, dict):
        return [] not in case.body.values()  # an empty list leaves no trace in a form
    if isinstance(failure, UseAfterFree) and label in KEPT:
        return bool(label == "GET /api/jobs/{job}" and response.json()["job"]["state"] != "deleted")
    if isinstance(failure, ServerError) and response.status_code == 507 and label in TAKES_VIDEOS:
        told = response.json()
        free_bytes = told["free_bytes"] - told.get("promised_bytes", 0) - told["reserve_bytes"]
        return bool(told["code"] != "no-room" or told["need_bytes"] <= free_bytes)
    return True
