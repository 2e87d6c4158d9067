"""What an operator does on the operations pages: users, tokens, the tap, a job's history, storage."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import expect

from tests.browser.box import ADMIN, PASSWORD, VIEWER, BrowserBox
from tests.browser.conftest import Visitor

pytestmark = pytest.mark.slow


def test_users_come_change_and_go(box: BrowserBox, visit: Visitor, claimed: object) -> None:
    visitor = visit(state=claimed)
    visitor.refusals = ("422",)
    page = visitor.open("/admin#/users")
    page.get_by_role("button", name="Add user").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Name").fill("otto")
    form.get_by_label("Role").select_option("operator")
    form.get_by_label("Password", exact=True).fill("short")
    form.get_by_role("button", name="Add user").click()
    expect(page.get_by_text("the password is too short")).to_be_visible()
    form.get_by_label("Password", exact=True).fill(PASSWORD)
    form.get_by_role("button", name="Add user").click()
    row = page.locator("[data-user=otto]")
    expect(row).to_be_visible()

    colleague = visit()
    otto = colleague.log_in("otto", "/admin")
    expect(otto.locator("[data-freshness=live]")).to_be_visible()
    assert otto.get_by_role("link", name="Users and tokens").count() == 0
    assert otto.get_by_role("link", name="Audit").count() == 0

    colleague.refusals = ("401",)
    row.get_by_role("button", name="Disable").click()
    expect(row.get_by_text("Disabled")).to_be_visible()
    otto.wait_for_url(box.url + "/login**", timeout=30_000)  # logged out everywhere, at once
    row.get_by_role("button", name="Delete otto").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).click()
    expect(row).to_have_count(0)


def test_a_token_is_shown_once_and_revoked(box: BrowserBox, visit: Visitor, claimed: object) -> None:
    page = visit(state=claimed).open("/admin#/users")
    page.get_by_role("button", name="Make token").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Name").fill("backup")
    form.get_by_role("button", name="Make token").click()
    secret = page.locator(".secret code").inner_text()
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=box.url, headers=headers, trust_env=False, timeout=30) as program:
        assert program.get("/api/jobs").status_code == 200
        page.get_by_role("dialog").get_by_role("button", name="Close").click()
        assert secret not in page.content()
        row = page.locator("[data-token=backup]")
        row.get_by_role("button", name="Revoke").click()
        page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        expect(row).to_have_count(0)
        assert program.get("/api/jobs").status_code == 401


def test_the_tap_is_live_filtered_and_held(box: BrowserBox, visit: Visitor, claimed: object) -> None:
    page = visit(state=claimed).open("/admin#/events")
    lines = page.locator(".tap li")
    expect(page.locator("[data-freshness=live]")).to_be_visible()
    expect(lines.first).to_be_visible()
    page.get_by_role("searchbox").fill("user:action")
    page.get_by_role("button", name="Pause").click()
    before = lines.count()
    visit().log_in(ADMIN)
    expect(page.get_by_text("held back")).not_to_have_text("0 events held back")
    assert lines.count() == before
    page.get_by_role("button", name="Go on").click()
    expect(lines.first).to_contain_text("session.login")
    lines.first.get_by_role("button").click()
    expect(page.get_by_role("dialog")).to_contain_text('"action": "session.login"')
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.get_by_role("searchbox").fill("")
    page.get_by_role("button", name="History").click()
    expect(page.locator('.tap [data-type="service:up"]').first).to_be_visible()


def test_a_stage_is_paused_with_a_reason_that_everybody_sees(box: BrowserBox, visit: Visitor, claimed: object) -> None:
    page = visit(state=claimed).open("/admin")
    other = visit(state=claimed).open("/admin")
    page.get_by_role("button", name="Pause Cut").click()
    form = page.get_by_role("dialog")
    form.get_by_label("Why? Everybody sees this.").fill("the disk is replaced")
    form.get_by_role("button", name="Pause", exact=True).click()
    expect(page.locator("[data-stage=cut]")).to_contain_text("Paused")
    held = other.locator("[data-attention]", has_text="the disk is replaced")
    expect(held).to_be_visible()
    held.get_by_role("button", name="Resume").click()
    expect(page.locator("[data-stage=cut]")).not_to_contain_text("Paused")
    expect(held).to_have_count(0)


def test_a_page_that_nobody_may_see_says_so(visit: Visitor, claimed: object) -> None:
    page = visit(state=claimed).open("/admin#/nowhere")
    expect(page.get_by_text("There is no such page for you.")).to_be_visible()


def test_what_the_box_refuses_is_said_and_taken_back(box: BrowserBox, visit: Visitor, claimed: object) -> None:
    visitor = visit(state=claimed)
    visitor.refusals = ("503",)
    problem = {"status": 503, "content_type": "application/problem+json", "body": '{"detail": "the bus is away"}'}
    page = visitor.open("/admin#/users")
    expect(page.locator("[data-freshness=live]")).to_be_visible()
    page.context.route("**/api/admin/users/*", lambda route: route.fulfill(**problem))
    role = page.get_by_label(f"Role: {VIEWER}")
    role.select_option("admin")
    expect(page.locator(".toast")).to_contain_text("the bus is away")
    expect(role).to_have_value("viewer")
    for list_of, name in (("jobs", "Jobs"), ("admin/events", "Events")):
        page.locator(".toast").get_by_role("button", name="Close").click()
        page.context.route(f"**/api/{list_of}?*", lambda route: route.fulfill(**problem))
        page.get_by_role("link", name=name, exact=True).click()
        if name == "Events":
            page.get_by_role("button", name="History").click()
        expect(page.locator(".toast")).to_contain_text("the bus is away")
