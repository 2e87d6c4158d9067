"""The second opinion, against a real HTTP server on the loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from stages.errors import Misconfigured
from stages.story.choice import Choice, Wish, choose
from stages.story.features import Evidence
from stages.story.rerank import MAX_GRADED, Endpoint, NoGrades, check, grade
from tests.unit.moments.talks import Talk, planted

Answer = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


@contextmanager
def server(answer: Answer) -> Iterator[str]:
    """Base URL of an endpoint that answers each request with `answer(handler, request body)`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer(self, body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/v1"
        finally:
            http.shutdown()
            thread.join(5)


def send(handler: BaseHTTPRequestHandler, content: str, status: int = 200) -> None:
    data = json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def endpoint(url: str, **more: Any) -> Endpoint:
    return Endpoint(**{"url": url, "model": "test-model", "timeout_s": 5.0, **more})


def pick(talk: Talk, duration_s: float, asked: Endpoint | None) -> Choice:
    said = talk.transcript()
    evidence = Evidence(said, talk.sound(duration_s), said.speech, [], [])
    return choose(duration_s, evidence, Wish(3, 15, 60, 1.0, 0.25), lambda a, b: [], asked)


def test_grades_are_read_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str | None, dict[str, Any]]] = []

    def answer(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        seen.append((handler.path, handler.headers.get("Authorization"), body))
        send(handler, 'Here you are:\n```json\n{"grades": {"1": 7, "3": 12, "2": -1}}\n```')

    monkeypatch.setenv("TEST_KEY", "sesame")
    with server(answer) as url:
        assert grade(endpoint(url, key_variable="TEST_KEY"), ["a", "b", "c", "d"]) == [0.7, 0.0, 1.0, None]
    ((path, authorization, body),) = seen
    assert (path, authorization) == ("/v1/chat/completions", "Bearer sesame")
    assert body["model"] == "test-model"
    assert "1. a\n\n2. b" in body["messages"][1]["content"]


def test_the_question_is_bounded() -> None:
    sizes: list[int] = []

    def answer(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        sizes.append(len(body["messages"][1]["content"]))
        send(handler, '{"grades": {"1": 1}}')

    with server(answer) as url:
        grade(endpoint(url), ["x" * 100_000] * 100)
    assert sizes[0] < MAX_GRADED * 720


def test_a_grade_moves_the_choice() -> None:
    talk, duration_s = planted(4, 10)
    before = pick(talk, duration_s, None)
    wanted = next(c for c in before.considered if all(abs(c.start_s - k.start_s) > 60 for k in before.clips))

    def answer(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        passages = body["messages"][1]["content"].split("\n\n")
        grades = {p.split(".")[0]: 10 if wanted.text[:80] in p else 0 for p in passages}
        send(handler, json.dumps({"grades": grades}))

    with server(answer) as url:
        after = pick(talk, duration_s, endpoint(url))
    assert len(after.clips) == 3
    assert any(c.text == wanted.text for c in after.clips)
    assert "graded by the language model 'test-model' too" in after.notes


def _slow(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    try:
        for _ in range(400):
            handler.wfile.write(b" ")
            time.sleep(0.01)  # drips: each read is quick, the whole is not
    except OSError:
        pass


def _huge(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(100):
            handler.wfile.write(b" " * 65_536)
    except OSError:
        pass


def _redirect(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    handler.send_response(302)
    handler.send_header("Location", "http://192.0.2.1/")
    handler.end_headers()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        pytest.param(lambda h, b: send(h, "I would rather not."), "not the JSON", id="prose"),
        pytest.param(lambda h, b: send(h, '{"grades": {}}'), "graded nothing", id="nothing"),
        pytest.param(lambda h, b: send(h, "{}", 500), "status 500", id="error"),
        pytest.param(_redirect, "status 302", id="redirect"),
        pytest.param(_huge, "larger than 256 KiB", id="huge"),
        pytest.param(_slow, "longer than 1 s", id="drip"),
    ],
)
def test_whatever_goes_wrong_the_own_order_stands(answer: Answer, words: str) -> None:
    talk, duration_s = planted(4, 5)
    with server(answer) as url:
        asked = endpoint(url, timeout_s=1.0)
        with pytest.raises(NoGrades, match=words):
            grade(asked, ["a", "b"])
        choice = pick(talk, duration_s, asked)
    own = pick(talk, duration_s, None)
    assert choice.clips == own.clips
    assert any("the box's own order stands" in note for note in choice.notes)


def test_nobody_there() -> None:
    with server(lambda h, b: None) as url:
        pass
    with pytest.raises(NoGrades, match="ConnectError"):
        grade(endpoint(url), ["a"])


@pytest.mark.parametrize(
    "url", ["http://example.com/v1", "http://192.168.1.5:8080/v1", "http://127.0.0.1.example.com/"]
)
def test_other_machines_need_consent(url: str) -> None:
    with pytest.raises(Misconfigured, match="leave this box"):
        check(endpoint(url))
    check(endpoint(url, remote=True))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "127.0.0.1:8080", "http://"])
def test_only_web_addresses(url: str) -> None:
    with pytest.raises(Misconfigured, match="http"):
        check(endpoint(url))


@pytest.mark.parametrize("url", ["http://localhost:8080/v1", "http://127.9.9.9/v1", "http://[::1]:8080/v1"])
def test_this_machine_is_fine(url: str) -> None:
    check(endpoint(url))
