"""The box, its bus or its cache goes away under an open page: the page says so, and is right again without a reload."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route, WebSocketRoute, expect

from bus.events import ClipPlanned, JobAnalyzed, JobCreated, JobDeleted, JobSource
from bus.ids import new_id
from tests.browser.box import ADMIN, BrowserBox
from tests.browser.conftest import Visit, Visitor, note

pytestmark = pytest.mark.slow
LIVE = "[data-freshness=live]"
MARK = "window.wasHere = true"


def hold(page: Page, box: BrowserBox, reason: str) -> None:
    """Something that other pages must see: a stage is paused by the API, as another operator would."""
    page.evaluate(
        """async ([mode, reason]) => {
          const me = await (await fetch('/api/me')).json();
          const answer = await fetch('/api/admin/controls', {
            method: 'POST',
            headers: {'Content-Type': 'application/json', 'X-CSRF-Token': me.csrf},
            body: JSON.stringify({target: 'crop', mode, reason}),
          });
          if (!answer.ok) throw new Error(await answer.text());
        }""",
        ["pause" if reason else "run", reason],
    )


def returns(box: BrowserBox, page: Page, gone: Callable[[], object], back: Callable[[], bool]) -> float:
    """Takes something away, waits until it is back, then tells how long the page took to say Live again."""
    page.evaluate(MARK)
    expect(page.locator(LIVE)).to_be_visible()
    gone()
    expect(page.locator("[data-freshness=stale], [data-freshness=polling]")).to_be_visible(timeout=20_000)
    assert page.locator("[data-stage=cut]").is_visible(), "what is known stays on the screen"
    box.wait("it is back", back)
    started = time.monotonic()
    expect(page.locator(LIVE)).to_be_visible(timeout=30_000)
    took_s = time.monotonic() - started
    assert page.evaluate("window.wasHere"), "without a reload"
    return took_s


def test_the_web_process_is_killed(box: BrowserBox, visit: Visitor, claimed: object) -> None:
    visitor = visit(state=claimed)
    page = visitor.open("/admin")
    visitor.box_may_be_away = True
    took_s = returns(box, page, lambda: box.box.kill("-m", "web"), box.answers)
    visitor.box_may_be_away = False
    note(f"web killed: live again {took_s:.2f} s after it answered")
    hold(page, box, "after web")
    expect(page.locator("[data-stage=crop]")).to_contain_text("Paused")
    hold(page, box, "")
    expect(page.locator("[data-stage=crop]")).not_to_contain_text("Paused")


def test_the_bus_is_killed(box: BrowserBox, visit: Visitor, claimed: object) -> None:
    visitor = visit(state=claimed)
    page = visitor.open("/admin")
    visitor.box_may_be_away = True
    took_s = returns(box, page, lambda: box.box.kill("nats-server"), box.answers)
    note(f"bus killed: live again {took_s:.2f} s after it answered")
    hold(page, box, "after bus")
    expect(page.locator("[data-stage=crop]")).to_contain_text("Paused")
    hold(page, box, "")


def test_the_cache_is_killed(box: BrowserBox, visit: Visitor, claimed: object) -> None:
    if not box.box.find("redis-server") and not box.box.find("valkey-server"):
        pytest.skip("no cache server on this machine")
    visitor = visit(state=claimed)
    page = visitor.open("/admin")
    expect(page.locator(LIVE)).to_be_visible()
    box.box.kill("-server", "cache.sock")
    hold(page, box, "without cache")
    expect(page.locator("[data-stage=crop]")).to_contain_text("Paused")
    expect(page.locator('[data-type="service:down"]', has_text="cache").first).to_be_visible()
    expect(page.locator(LIVE)).to_be_visible()
    hold(page, box, "")


def test_a_dropped_frame_is_noticed_and_healed(box: BrowserBox, visit: Visitor, claimed: object) -> None:
    visitor = visit(state=claimed)
    dropped: list[str] = []
    asked: list[str] = []

    def between(near: WebSocketRoute) -> None:
        far = near.connect_to_server()

        def up(message: str | bytes) -> None:
            asked.append(str(message))
            far.send(message)

        def down(message: str | bytes) -> None:
            frame = json.loads(message)
            if frame["kind"] == "event" and frame["event"].get("reason") == "lost on the way" and not dropped:
                dropped.append(frame["event"]["id"])
                return
            near.send(message)

        near.on_message(up)
        far.on_message(down)

    visitor.context.route_web_socket("**/ws*", between)
    page = visitor.open("/admin")
    expect(page.locator(LIVE)).to_be_visible()
    hold(page, box, "lost on the way")
    hold(page, box, "seen")  # its number shows that one is missing
    for reason in ("lost on the way", "seen"):
        expect(page.locator('[data-type="control:changed"]', has_text=reason)).to_have_count(1)
    assert len(dropped) == 1
    assert any('"resume"' in message for message in asked)
    hold(page, box, "")


def test_a_page_that_wakes_up_replaces_its_dead_socket(box: BrowserBox, visit: Visitor, claimed: object) -> None:
    """A socket that is open for the browser and dead on the wire, as after a sleep: no byte comes any more."""
    visitor = visit(state=claimed)
    sockets: list[WebSocketRoute] = []

    def between(near: WebSocketRoute) -> None:
        sockets.append(near)
        far = near.connect_to_server()
        deaf = len(sockets) == 1
        first: list[bool] = []

        def down(message: str | bytes) -> None:
            if not deaf or not first or json.loads(message)["kind"] == "hello":
                near.send(message)
            first.append(True)

        near.on_message(lambda message: None if deaf else far.send(message))
        far.on_message(down)

    visitor.context.route_web_socket("**/ws*", between)
    page = visitor.open("/admin")
    expect(page.locator(LIVE)).to_be_visible()
    hold(page, box, "while asleep")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("[data-stage=crop]")).to_contain_text("Paused", timeout=10_000)
    assert len(sockets) > 1
    hold(page, box, "")
    expect(page.locator("[data-stage=crop]")).not_to_contain_text("Paused")


def refused_twice(visitor: Visit, pattern: str, detail: str) -> list[str]:
    """The first two requests for these addresses get a 503; returns which they were, as they come."""
    visitor.refusals = ("503",)
    refused: list[str] = []

    def answer(route: Route) -> None:
        if len(refused) == 2:
            route.continue_()
            return
        refused.append(route.request.url)
        body = json.dumps({"detail": detail})
        route.fulfill(status=503, content_type="application/problem+json", body=body)

    visitor.context.route(pattern, answer)
    return refused


def test_a_page_opened_while_the_box_does_not_answer_comes_by_itself(visit: Visitor, claimed: object) -> None:
    visitor = visit(state=claimed)
    refused_twice(visitor, "**/api/me", "the box starts")
    page = visitor.open("/")
    expect(page.get_by_text("the box starts")).to_be_visible()
    expect(page.locator(LIVE)).to_be_visible(timeout=20_000)
    expect(page.get_by_text("the box starts")).to_have_count(0)


def test_clips_that_could_not_be_read_are_read_again(box: BrowserBox, visit: Visitor, claimed: object) -> None:
    job = new_id()
    origin = JobSource(kind="file", location="/x", name="unread.mp4")
    done = JobAnalyzed(job=job, clips=1, candidates=1, real_time_factor=1.0, attempt=1, worker=new_id(), seconds=1.0)
    plan = ClipPlanned(job=job, clip=1, start_s=0.0, end_s=20.0, score=0.5, title="The only clip", reasons=[])
    box.tell([JobCreated(job=job, origin=origin, owner=ADMIN), done, plan])
    visitor = visit(state=claimed)
    refused = refused_twice(visitor, f"**/api/jobs/{job}", "too much to do")
    page = visitor.open("/")
    expect(page.get_by_text("The only clip")).to_be_visible(timeout=20_000)
    assert len(refused) == 2
    box.tell([JobDeleted(job=job, by=ADMIN)])
    expect(page.get_by_text("unread.mp4")).to_have_count(0)
