"""From a new box to clips that play: what a person does, in a real browser on a real box."""

from __future__ import annotations

import hashlib
import re
import shutil
import socket
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests.browser.box import ADMIN, PASSWORD, VIEWER, BrowserBox
from tests.browser.conftest import SHOTS, Visitor
from tests.media.maker import Spec, make

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
SMALL = Spec(seconds=8.0, width=320, height=180, scenes=("seated", "pair"))
MADE_MS = 240_000
"""Long enough for the small talk on two cores that others use as well; twenty seconds when they are idle."""


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds of talk under a name that would do harm where names are not escaped; padded, so that the upload
    has a middle (an MP4 may end in a `free` box)."""
    made, _ = make(SMALL)
    path = tmp_path_factory.mktemp("talk") / "<img src=x onerror=alert(1)> talk.mp4"
    padding = 12_000_000
    path.write_bytes(made.read_bytes() + padding.to_bytes(4, "big") + b"free" + bytes(padding - 8))
    return path


def card(page: Page, name: str) -> Locator:
    return page.get_by_role("article", name=f"Video {name}")


def in_state(page: Page, name: str, state: str) -> Locator:
    return page.locator(f'article[data-state="{state}"]').filter(has_text=name)


def test_a_new_box_is_claimed_once_and_logs_in(box: BrowserBox, visit: Visitor, claimed: object) -> None:
    stranger = visit()
    again = stranger.open("/claim#" + "x" * 43)
    again.get_by_label("User name").fill("eve")
    again.get_by_label("Password", exact=True).fill(PASSWORD)
    again.get_by_label("Password again").fill("something else")
    again.get_by_role("button", name="Claim and log in").click()
    expect(again.get_by_text("The two passwords differ.")).to_be_visible()
    assert "#" not in again.url, "the token is out of the address bar"

    page = stranger.open("/")
    page.wait_for_url(re.compile("/login$"))
    page.get_by_label("User name").fill(ADMIN)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password", exact=True).press("Enter")
    page.wait_for_url(box.url + "/")
    expect(page.locator("[data-freshness=live]")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(box.url + "/login")


def test_upload_with_a_cut_to_clips_that_play(
    box: BrowserBox, visit: Visitor, claimed: object, talk: Path, tmp_path: Path
) -> None:
    owner = visit(state=claimed)
    page = owner.open("/")
    viewer = visit().log_in(VIEWER)
    expect(viewer.locator("[data-freshness=live]")).to_be_visible()
    assert viewer.get_by_role("button", name="Choose files").count() == 0, "a viewer uploads nothing"

    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Clips", exact=True).fill("2")
    owner.box_may_be_away = True
    box.wire.cut_after(4_000_000)
    page.locator("input[type=file]").first.set_input_files(talk)
    assert box.wire.was_cut.wait(60)
    upload = page.locator(f"[data-upload={talk.name!r}]")
    job = card(page, talk.name)
    expect(job).to_be_visible(timeout=60_000)  # it went on by itself after the cut
    owner.box_may_be_away = False
    expect(card(viewer, talk.name)).to_be_visible()  # the second person sees it at once
    expect(upload).to_have_count(0, timeout=30_000)
    assert page.locator("img[src=x]").count() == 0, "a file name is text, never markup"

    expect(job.locator("[data-stage=download][data-state=done]")).to_be_visible(timeout=MADE_MS)
    expect(in_state(page, talk.name, "completed")).to_be_visible(timeout=MADE_MS)
    expect(in_state(viewer, talk.name, "completed")).to_be_visible()

    number = job.get_attribute("data-job")
    source = next((box.data_dir / "jobs" / str(number)).glob("source.*"))
    assert hashlib.sha256(source.read_bytes()).digest() == hashlib.sha256(talk.read_bytes()).digest()

    clip = job.locator(".clip[data-state=ready]").first
    clip.get_by_role("button").click()
    player = page.get_by_role("dialog")
    expect(player.get_by_text("Why this moment")).to_be_visible()
    assert player.locator(".reasons li").count() > 0
    player.locator("video").evaluate("video => { video.muted = true; return video.play(); }")
    page.wait_for_function("() => document.querySelector('dialog video').currentTime > 0.3")
    page.screenshot(path=SHOTS / "player-1366x768-light.png")
    size = player.locator("video").evaluate("v => [v.videoWidth, v.videoHeight]")
    assert size[0] * 16 == size[1] * 9, f"upright, 9 to 16: {size}"
    assert player.locator("video").evaluate("v => v.textTracks.length") == 1
    with page.expect_download() as saving:
        player.get_by_role("link", name="SRT").click()
    assert "-->" in Path(saving.value.path()).read_text()
    page.keyboard.press("Escape")
    expect(player).to_have_count(0)

    with page.expect_download() as saving:
        job.get_by_role("link", name="Download all").click()
    with zipfile.ZipFile(saving.value.path()) as archive:
        assert sum(name.endswith(".mp4") for name in archive.namelist()) >= 1
        assert archive.testzip() is None


def test_an_upload_goes_on_after_the_page_was_closed(
    box: BrowserBox, visit: Visitor, claimed: object, talk: Path, tmp_path: Path
) -> None:
    name = "closed in between.mp4"
    file, other = tmp_path / name, tmp_path / "other" / name
    file.write_bytes(talk.read_bytes())
    other.parent.mkdir()
    other.write_bytes(talk.read_bytes()[:-1])
    owner = visit(state=claimed)
    page = owner.open("/")
    owner.box_may_be_away = True
    box.wire.cut_after(9_000_000, stay_down=True)
    page.locator("input[type=file]").first.set_input_files(file)
    assert box.wire.was_cut.wait(60)
    page.close()  # for good: nothing of the upload is left in this browser but its memory
    box.wire.restore()

    page = owner.open("/")
    owner.box_may_be_away = False
    upload = page.locator(f"[data-upload={name!r}]")
    expect(upload).to_have_attribute("data-state", "needs-file")
    kept = int(str(upload.get_by_role("progressbar").get_attribute("aria-valuenow")))
    assert kept > 0, "what had arrived is kept"
    expect(upload).to_contain_text(re.compile(r"is kept for \d+ (d|h|min)"))
    upload.locator("input[type=file]").set_input_files(other)
    expect(upload).to_contain_text("That is not the same file.")
    upload.locator("input[type=file]").set_input_files(file)
    job = card(page, name)
    expect(job).to_be_visible(timeout=60_000)
    job.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Stop it").click()
    expect(in_state(page, name, "cancelled")).to_be_visible()
    job.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(job).to_have_count(0)


def test_what_does_not_fit_is_refused_before_the_first_byte(
    box: BrowserBox, visit: Visitor, claimed: object, tmp_path: Path
) -> None:
    page = visit(state=claimed).open("/")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method in ("POST", "PATCH") else None)
    huge = tmp_path / "huge.mp4"
    with huge.open("wb") as file:
        file.truncate(2 * shutil.disk_usage(tmp_path).total)  # sparse: it takes nothing
    page.locator("input[type=file]").first.set_input_files(huge)
    upload = page.locator("[data-upload='huge.mp4']")
    expect(upload).to_have_attribute("data-state", "refused")
    expect(upload).to_contain_text(re.compile(r"\d+(\.\d+)? (GB|TB)"))
    assert not sent
    upload.get_by_role("button", name="Cancel upload huge.mp4").click()
    expect(upload).to_have_count(0)


def test_an_upload_that_is_cancelled_before_it_begins_is_never_sent(visit: Visitor, claimed: object) -> None:
    visitor = visit(state=claimed)
    held: list[Route] = []
    sender = re.compile(r"/assets/browser-.*\.js$")  # fetched for the first upload; on a slow way here
    visitor.context.route(sender, lambda route: held.append(route))
    page = visitor.open("/")
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    page.locator("input[type=file]").first.set_input_files(
        {"name": "never.mp4", "mimeType": "video/mp4", "buffer": bytes(1000)}
    )
    upload = page.locator("[data-upload='never.mp4']")
    expect(upload).to_have_attribute("data-state", "sending")
    upload.get_by_role("button", name="Cancel upload never.mp4").click()
    expect(upload).to_have_count(0)
    assert len(held) == 1
    with page.expect_response(held[0].request.url):
        held[0].continue_()
    page.wait_for_timeout(500)
    assert not sent


def test_a_failure_is_told_in_plain_words_and_replayed(box: BrowserBox, visit: Visitor, claimed: object) -> None:
    page = visit(state=claimed).open("/")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]  # nobody listens there once the block is left
    page.get_by_label("Or an address").fill("not an address")
    page.get_by_role("button", name="Fetch", exact=True).click()
    expect(page.get_by_text("An address starts with http:// or https://.")).to_be_visible()
    page.get_by_label("Or an address").fill(f"http://127.0.0.1:{port}/<script>alert(1)</script>.mp4")
    page.get_by_role("button", name="Fetch", exact=True).click()
    failed = page.locator('article[data-state="failed"]')
    expect(failed).to_be_visible(timeout=60_000)
    expect(failed.get_by_role("alert")).to_contain_text(re.compile("[a-z]{4}"))
    expect(failed.get_by_role("button", name="Retry")).to_be_visible()

    page.goto(box.url + "/admin#/dead-letters")
    group = page.locator("[data-group]")
    expect(group).to_have_count(1)
    group.get_by_role("button", name="Replay 1").click()
    page.get_by_role("dialog").get_by_role("button", name="Replay 1").click()
    expect(page.get_by_text("1 video goes on")).to_be_visible()
    expect(group).to_have_count(1, timeout=60_000)  # it fails again: nobody listens there
    page.goto(box.url + "/")
    expect(failed).to_be_visible(timeout=60_000)
    failed.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(failed).to_have_count(0)


def test_cancel_retry_and_delete(box: BrowserBox, visit: Visitor, claimed: object, tmp_path: Path) -> None:
    made, _ = make(SMALL)
    owner = visit(state=claimed)
    page = owner.open("/")
    viewer = visit().log_in(VIEWER)
    page.locator("input[type=file]").first.set_input_files(
        {"name": "second.mp4", "mimeType": "video/mp4", "buffer": made.read_bytes()}
    )
    job = card(page, "second.mp4")
    job.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Stop it").click()
    expect(in_state(page, "second.mp4", "cancelled")).to_be_visible()
    expect(in_state(viewer, "second.mp4", "cancelled")).to_be_visible()

    job.get_by_role("button", name="Retry").click()
    expect(job.get_by_role("button", name="Cancel")).to_be_visible()
    expect(card(viewer, "second.mp4").locator("[data-state=now]").first).to_be_visible(timeout=60_000)
    job.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Stop it").click()
    expect(in_state(page, "second.mp4", "cancelled")).to_be_visible()

    job.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Delete for good").click()
    expect(job).to_have_count(0)
    expect(card(viewer, "second.mp4")).to_have_count(0)
