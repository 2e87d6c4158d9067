"""A real Chromium on a real box.

The package's tests share one box and one claimed administrator, in the order of the modules. `visit` opens a page in a
fresh browser context; when the test ends, any error that the page logged, any violation of the content policy and any
exception in it fails the test. Screenshots go to `screenshots/`, which git ignores.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.browser.box import ADMIN, PASSWORD, VIEWER, BrowserBox
from tests.ports import free_port
from web import pages

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
SHOTS = Path(__file__).parents[2] / "screenshots"
DESKTOP, PHONE = (1366, 768), (390, 844)
UNREACHABLE = ("net::ERR_", "WebSocket connection to", "503 (Service Unavailable)", "409 (Conflict)")
"""What Chromium itself logs when the box is away, or when an upload whose end was cut off asks where it stands;
allowed only while a test has taken the box away."""


def note(figure: str) -> None:
    """A measured figure, beside the screenshots: this machine's load is not the tests' to judge."""
    with (SHOTS / "figures.txt").open("a") as file:
        file.write(f"{figure}\n")


class Visit:
    """Pages of one browser context: one person at one device."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.context = context
        self.url = url
        self.errors: list[str] = []
        self.box_may_be_away = False
        self.refusals: tuple[str, ...] = ()
        """Statuses that the test provokes, such as "422": Chromium logs each by itself."""
        context.on("weberror", lambda error: self.errors.append(f"exception: {error.error}"))
        context.on("console", self._logged)
        context.add_init_script(
            "addEventListener('securitypolicyviolation', e =>"
            " console.error('content policy: ' + e.violatedDirective + ' ' + e.blockedURI))"
        )

    def _logged(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        text = f"{message.text} ({message.location.get('url', '')})"
        if self.box_may_be_away and any(word in text for word in UNREACHABLE):
            return
        if any(f"with a status of {status}" in text for status in self.refusals):
            return
        if "/api/me" in text and "401" in text:
            return  # how a page learns that nobody is logged in; Chromium logs it by itself
        self.errors.append(text)

    def open(self, path: str = "/") -> Page:
        page = self.context.new_page()
        page.set_default_timeout(30_000)
        page.goto(self.url + path, wait_until="commit")  # the page may lead to the login before it is loaded
        return page

    def log_in(self, user: str = ADMIN, path: str = "/") -> Page:
        """The page at `path`, reached over the login page."""
        page = self.open(path)
        page.get_by_label("User name").fill(user)
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(self.url + path)
        return page


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    try:
        pages.build()
    except pages.PagesNotBuilt as error:
        pytest.skip(f"the pages cannot be built here: {error}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def box(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[BrowserBox]:
    SHOTS.mkdir(exist_ok=True)
    box = BrowserBox(tmp_path_factory.mktemp("browser"), free_port())
    with box.wire:
        box.start()
        yield box
        with contextlib.suppress(Exception):
            box.box.stop()
        box.box.kill_everything()


Visitor = Callable[..., Visit]


@pytest.fixture
def visit(chromium: Browser, box: BrowserBox) -> Iterator[Visitor]:
    """`visit(size=…, scheme=…)`: a new person at a new device."""
    visits: list[Visit] = []

    def arrive(size: tuple[int, int] = DESKTOP, scheme: str = "light", state: object = None) -> Visit:
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            color_scheme=scheme,  # type: ignore[arg-type]
            storage_state=state,  # type: ignore[arg-type]
            reduced_motion="reduce",
            accept_downloads=True,
        )
        visits.append(Visit(context, box.url))
        return visits[-1]

    yield arrive
    errors = [error for each in visits for error in each.errors]
    for each in visits:
        each.context.close()
    assert not errors, "the page logged errors:\n" + "\n".join(errors)


@pytest.fixture(scope="package")
def claimed(chromium: Browser, box: BrowserBox) -> object:
    """The box has an administrator and a viewer; the administrator's cookies. For tests that do not begin with that."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(box.claim_address())
    page.get_by_label("User name").fill(ADMIN)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password again").fill(PASSWORD)
    page.get_by_role("button", name="Claim and log in").click()
    page.wait_for_url(box.url + "/")
    state = context.storage_state()
    context.close()
    box.add_user(VIEWER, "viewer")
    return state
