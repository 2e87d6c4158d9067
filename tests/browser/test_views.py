"""Every page: drawn at a desk and on a phone, in light and dark, without anything that axe calls serious."""

from __future__ import annotations

import re
from statistics import median
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import DESKTOP, PHONE, SHOTS, Visitor, note
from web import pages, static

pytestmark = pytest.mark.slow
LOADS = 11
FIRST = re.findall(r"<([^>]+)>", static.FIRST)
AXE = pages.FOLDER / "node_modules" / "axe-core" / "axe.min.js"
OPERATIONS = ["jobs", "dead-letters", "workers", "events", "alerts", "storage", "users", "audit"]
VIEWS = {"videos": "/", "operations": "/admin", **{name: f"/admin#/{name}" for name in OPERATIONS}}


def settled(page: Page) -> None:
    """Data is on the screen."""
    expect(page.locator("[data-freshness=live]")).to_be_visible()
    page.wait_for_load_state("networkidle")


def findings(page: Page) -> list[str]:
    """What axe calls serious or critical."""
    if not page.evaluate("'axe' in window"):
        # Not as a script element: the page's content policy would refuse it, and rightly.
        page.evaluate(AXE.read_text())
    result: dict[str, Any] = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{found['id']} ({found['impact']}): {found['help']}: {node['html'][:160]}"
        for found in result["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"][:3]
    ]


@pytest.mark.parametrize(
    ("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light")], ids=["desk", "dark", "phone"]
)
def test_every_view(visit: Visitor, claimed: object, size: tuple[int, int], scheme: str) -> None:
    visitor = visit(size=size, scheme=scheme, state=claimed)
    page = visitor.open("/")
    wrong: list[str] = []
    settled(page)
    made = page.locator("article[data-job]")
    views = dict(VIEWS)
    if made.count():  # by the journey, when it ran before
        views["job"] = f"/admin#/jobs/{made.first.get_attribute('data-job')}"
    for name, path in views.items():
        page.goto("about:blank")
        page.goto(visitor.url + path)
        settled(page)
        page.screenshot(path=SHOTS / f"{name}-{size[0]}x{size[1]}-{scheme}.png")
        wide = page.evaluate("document.documentElement.scrollWidth")
        if wide > size[0]:
            wrong.append(f"{name}: scrolls sideways, {wide} wide")
        wrong += [f"{name}: {found}" for found in findings(page)]
    assert not wrong, "\n".join(wrong)


def test_the_first_screen_is_there_soon(visit: Visitor, claimed: object) -> None:
    """Notes the time from navigation to data on the screen, warm, and the server's share of it."""
    visitor = visit(state=claimed)
    visitor.context.add_init_script(
        "new MutationObserver((_, seen) => {"
        " if (!document.querySelector('[data-verdict]')) return;"
        " seen.disconnect(); requestAnimationFrame(() => { window.shownAt = performance.now(); });"
        "}).observe(document, {childList: true, subtree: true})"
    )
    page = visitor.open("/admin")
    settled(page)  # a page that is still being loaded may refuse to be loaded again
    shown_ms, server_ms = [], []
    for _ in range(LOADS):
        page.reload()
        shown_ms.append(float(page.wait_for_function("() => window.shownAt").json_value()))
        server_ms.append(
            float(
                page.evaluate(
                    "performance.getEntriesByType('resource').filter(e => e.name.includes('/api/admin/ssot'))"
                    ".flatMap(e => e.serverTiming.map(t => t.duration)).reduce((a, b) => a + b, 0)"
                )
            )
        )
        asked = page.evaluate("performance.getEntriesByType('resource').map(e => [e.name, e.initiatorType])")
        first = {path: [how for name, how in asked if name == visitor.url + path] for path in FIRST}
        assert first == {path: ["link"] for path in FIRST}, "asked for early, and not again by the script"
    assert all(figure > 0 for figure in shown_ms)
    note(
        f"/admin, {LOADS} warm loads: data on screen p50 {median(shown_ms):.0f} ms, worst {max(shown_ms):.0f} ms;"
        f" of that the status document in the server p50 {median(server_ms):.1f} ms"
    )


def test_the_first_screen_needs_no_scrolling(visit: Visitor, claimed: object) -> None:
    page = visit(state=claimed).open("/admin")
    settled(page)
    for part in (".verdict", ".tiles", ".gauges", ".attention, .calm", ".last"):
        box = page.locator(part).first.bounding_box()
        assert box is not None, part
        assert box["y"] + min(box["height"], 120) <= DESKTOP[1], f"{part} begins too low: {box}"


@pytest.mark.parametrize("path", ["/login", "/claim#token"])
@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desk", "phone"])
def test_the_doors(visit: Visitor, claimed: object, path: str, size: tuple[int, int], scheme: str) -> None:
    page = visit(size=size, scheme=scheme).open(path)
    expect(page.get_by_label("User name")).to_be_visible()
    name = path[1:].partition("#")[0]
    page.screenshot(path=SHOTS / f"{name}-{size[0]}x{size[1]}-{scheme}.png")
    assert not findings(page)


def test_the_keyboard_reaches_what_matters(visit: Visitor, claimed: object) -> None:
    page = visit(state=claimed).open("/admin")
    settled(page)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.locator("[data-stage=crop]").get_by_role("button").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Pause Frame")).to_be_focused()
