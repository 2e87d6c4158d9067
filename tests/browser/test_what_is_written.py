"""Whatever people and files bring as text stays text: names, titles, reasons, addresses and errors full of markup.

By its name the last module of the package: what it tells the box stays in the history and among the dead letters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pytest
from playwright.sync_api import Dialog, Page, expect

from bus.events import (
    AlertCleared,
    AlertRaised,
    AnyEvent,
    ClipFailed,
    ClipPlanned,
    ClipReady,
    FileDeleted,
    JobAnalyzed,
    JobCancelled,
    JobCreated,
    JobDeleted,
    JobFailed,
    JobSource,
    UserAction,
)
from bus.ids import new_id
from tests.browser.box import ADMIN, BrowserBox
from tests.browser.conftest import Visit, Visitor

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

# What each form would run, were it not inert: it says so to the test and opens a dialog.
CALL = "ran({n}),alert({n})"
ELEMENTS = [
    "<script>{call}</script>",
    "<ScRiPt >{call}</sCrIpT>",
    "<script src='data:text/javascript,{call}'></script>",
    "<script type=module>{call}</script>",
    "<scr<script>ipt>{call}</scr</script>ipt>",
    "<img src=x onerror={call}>",
    "<img src=x onerror='{call}'//",
    "<IMG SRC=x OnErRoR={call}>",
    "<img/src=x/onerror={call}>",
    "<img src=x:x onerror\t=\t{call}>",
    "<img srcset=x onerror={call}>",
    "<svg onload={call}>",
    "<svg/onload={call}>",
    "<svg><script>{call}</script></svg>",
    "<svg><animate onbegin={call} attributeName=x dur=1s>",
    "<svg><a href='javascript:{call}'><text y=20>press</text></a></svg>",
    "<svg><use href='data:image/svg+xml,<svg id=x onload={call}>#x'></use></svg>",
    "<math><mtext></mtext><script>{call}</script></math>",
    "<math><mtext><table><mglyph><style><img src=x onerror={call}>",
    "<body onload={call}>",
    "<iframe src='javascript:{call}'></iframe>",
    "<iframe srcdoc='<script>parent.{call}</script>'></iframe>",
    "<object data='javascript:{call}'></object>",
    "<embed src='javascript:{call}'>",
    "<video src=x onerror={call}></video>",
    "<video><source onerror={call}></video>",
    "<audio src=x onerror={call}></audio>",
    "<details open ontoggle={call}>more</details>",
    "<input autofocus onfocus={call}>",
    "<select autofocus onfocus={call}></select>",
    "<textarea autofocus onfocus={call}></textarea>",
    "<a href='javascript:{call}'>press</a>",
    "<a href='java\tscript:{call}'>press</a>",
    "<a href='&#106;avascript:{call}'>press</a>",
    "<form action='javascript:{call}'><button>press</button></form>",
    "<button formaction='javascript:{call}'>press</button>",
    "<marquee onstart={call}>runs</marquee>",
    "<div style='animation-name:sweep' onanimationstart={call}>moves</div>",
    "<style>@import 'data:text/css,*{{color:red}}';</style><i onclick={call}>i</i>",
    "<link rel=stylesheet href='data:text/css,*{{color:red}}'>{call}",
    "<meta http-equiv=refresh content='0;url=javascript:{call}'>",
    "<base href='javascript:{call}//'>",
    "<template><script>{call}</script></template>",
    "<noscript><p title='</noscript><img src=x onerror={call}>'>",
]
"""Markup that runs by itself or at a touch."""
INNER = "<img src=x onerror={call}>"
BREAKS = [
    '">' + INNER,
    "'>" + INNER,
    "</title>" + INNER,
    "</textarea>" + INNER,
    "</script><script>{call}</script>",
    "</style>" + INNER,
    "-->" + INNER,
    "]]>" + INNER,
    '" onmouseover={call} x="',
    "' autofocus onfocus={call} x='",
    "`-{call}-`",
    "';{call};//",
    '\\";{call};//',
]
"""Ways out of an attribute, a comment, another element or a string of a script."""
ADDRESSES = [
    "javascript:{call}",
    "JaVaScRiPt:{call}",
    "javascript://example.org/%0a{call}",
    "data:text/html,<script>{call}</script>",
    "vbscript:{call}",
]
ENCODED = [
    "&lt;script&gt;{call}&lt;/script&gt;",
    "&#60;img src=x onerror={call}&#62;",
    "%3Cscript%3E{call}%3C/script%3E",
    "\\u003cscript\\u003e{call}\\u003c/script\\u003e",
    "\uff1cscript\uff1e{call}\uff1c/script\uff1e",
    "{{{{constructor.constructor('{call}')()}}}}",
    "${{{call}}}",
]
"""What becomes markup when somebody decodes once more, or takes it for a template."""
FORMS = [
    form.format(call=CALL.format(n=number))
    for number, form in enumerate([*ELEMENTS, *BREAKS, *ADDRESSES, *ENCODED], start=1)
]
PLANTED = """() => [...document.querySelectorAll('*')].filter(element =>
  [...element.attributes].some(({name, value}) =>
    name.startsWith('on') || (/^(href|src|action|formaction|data|srcdoc)$/.test(name) &&
      /^[\\s\\0]*(java|vb)script:|^data:text/i.test(value))) ||
  element.matches('script:not([src]), script[src^=data], iframe, object, embed, marquee, math, base, template,' +
    'body meta, body style, body link, body form[action], img[src=x], [srcset=x]')
).map(element => element.outerHTML.slice(0, 200))"""
"""Elements that no page of ours has, and that a form leaves where it is taken for markup."""


class Hostile:
    """What was told to the box: a failed job, an alert, an action and a removal for each form, and one job whose clips
    bear them all."""

    def __init__(self) -> None:
        self.failed = [new_id() for _ in FORMS]
        self.clips = new_id()
        self.cancelled = new_id()
        self.alerts = [f"text-{number}" for number in range(1, len(FORMS) + 1)]

    def events(self) -> Iterator[AnyEvent]:
        for number, (job, form) in enumerate(zip(self.failed, FORMS, strict=True), start=1):
            origin = JobSource(kind="url", location=f"https://example.org/{form}", name=form)
            yield JobCreated(job=job, origin=origin, owner=ADMIN)
            yield JobFailed(job=job, stage="download", attempts=1, error=form, code="url-unreachable")
            yield AlertRaised(alert=self.alerts[number - 1], severity="warning", message=form)
            yield UserAction(user=ADMIN, action="text.told", target=form)
            yield FileDeleted(path=form, kind="other", size_bytes=number, reason=form)
        yield JobCreated(job=self.cancelled, origin=JobSource(kind="file", location="/x", name=FORMS[0]), owner=ADMIN)
        yield JobCancelled(job=self.cancelled, by=ADMIN, reason="".join(FORMS))
        origin = JobSource(kind="file", location="/x", name=FORMS[5])
        yield JobCreated(job=self.clips, origin=origin, owner=ADMIN)
        worker = new_id()
        planned = len(FORMS) + 1
        yield JobAnalyzed(
            job=self.clips,
            clips=planned,
            candidates=planned,
            real_time_factor=1.0,
            notes=FORMS,
            attempt=1,
            worker=worker,
            seconds=1.0,
        )
        for clip, form in enumerate([*FORMS, FORMS[5]], start=1):
            yield ClipPlanned(job=self.clips, clip=clip, start_s=0.0, end_s=20.0, score=0.5, title=form, reasons=FORMS)
        for clip, form in enumerate(FORMS, start=1):
            yield ClipFailed(job=self.clips, clip=clip, stage="cut", attempts=1, error=form, code="crashed")
        yield ClipReady(
            job=self.clips,
            clip=planned,
            path="/x",
            size_bytes=1,
            sha256="0" * 64,
            duration_s=20.0,
            width=1080,
            height=1920,
            encoder=FORMS[0],
            loudness_lufs=None,
            attempt=1,
            worker=worker,
            seconds=1.0,
        )

    def gone(self) -> Iterator[AnyEvent]:
        for job in [*self.failed, self.clips, self.cancelled]:
            yield JobDeleted(job=job, by=ADMIN)
        for alert in self.alerts:
            yield AlertCleared(alert=alert, message="over")


@pytest.fixture(scope="module")
def hostile(box: BrowserBox, claimed: object) -> Iterator[Hostile]:
    told = Hostile()
    box.tell(told.events())
    yield told
    box.tell(told.gone())


class Watched:
    """A visit in which nothing of the forms may run."""

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.dialogs: list[str] = []
        visit.context.expose_function("ran", lambda number: self.dialogs.append(str(number)))
        visit.context.on("dialog", self._dismiss)

    def _dismiss(self, dialog: Dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def shows(self, page: Page, place: str, forms: Iterable[str] = FORMS) -> None:
        """Every form stands under `place` as it is written, and none of them has become an element anywhere."""
        for form in forms:
            expect(page.locator(place).filter(has_text=form).first, form).to_be_attached(timeout=15_000)
        text = "\n".join(page.locator(place).evaluate_all("found => found.map(each => each.textContent)"))
        assert [form for form in forms if form not in text] == [], f"not as text in {place}"
        assert page.evaluate(PLANTED) == [], f"markup in {place}"
        assert self.dialogs == [], "a script ran"


@pytest.fixture
def watched(visit: Visitor, claimed: object, hostile: Hostile) -> Watched:
    visitor = visit(state=claimed)
    visitor.refusals = ("404",)  # the made-up clip has no picture and no video
    return Watched(visitor)


def more(page: Page, name: str) -> None:
    """The whole list, page by page; it has more than one."""
    button = page.get_by_role("button", name=name)
    expect(button).to_be_visible()
    while button.count():
        with page.expect_response("**/api/jobs?*cursor=*"):
            button.click()
        expect(page.get_by_role("button", name=name, disabled=True)).to_have_count(0)


def test_the_watch_sees_what_it_should(visit: Visitor, claimed: object) -> None:
    """Each alarm of this module goes off where there is something: markup, a policy report, a dialog, a script."""
    assert len(FORMS) >= 60
    visitor = visit(state=claimed)
    watched = Watched(visitor)
    page = visitor.open("/login")
    page.wait_for_url(visitor.url + "/")
    assert page.evaluate(PLANTED) == []
    page.evaluate("form => document.body.insertAdjacentHTML('beforeend', form)", ELEMENTS[5].format(call="ran(1)"))
    assert len(page.evaluate(PLANTED)) == 1
    page.wait_for_timeout(200)
    assert any("content policy" in error for error in visitor.errors)
    visitor.errors.clear()
    page.evaluate("() => { void ran('ran'); alert('dialog'); }")
    page.wait_for_timeout(200)
    assert sorted(watched.dialogs) == ["dialog", "ran"]


def test_the_videos_page(watched: Watched, hostile: Hostile) -> None:
    page = watched.visit.open("/")
    expect(page.locator(f"[data-job='{hostile.clips}']")).to_be_visible(timeout=30_000)
    more(page, "Show older videos")
    for job, form in zip(hostile.failed, FORMS, strict=True):
        card = page.locator(f"article[data-job='{job}']")
        expect(card.get_by_role("heading")).to_have_text(form)
        expect(card.get_by_role("alert")).to_contain_text(form)
    watched.shows(page, "article h3")
    watched.shows(page, ".notice p")
    watched.shows(page, ".clip .title")
    watched.shows(page, ".clip .waits .breaks")
    page.locator(f"[data-job='{hostile.clips}'] .clip[data-state=ready]").get_by_role("button").click()
    watched.shows(page, "dialog.player h2", [FORMS[5]])
    watched.shows(page, "dialog.player .reasons li")
    page.keyboard.press("Escape")
    page.locator(f"article[data-job='{hostile.failed[5]}']").get_by_role("button", name="Delete").click()
    watched.shows(page, "dialog h2", [FORMS[5]])


def test_the_lists_of_the_operations_pages(watched: Watched, hostile: Hostile) -> None:
    page = watched.visit.open("/admin#/jobs")
    expect(page.locator(f"tr[data-job='{hostile.clips}']")).to_be_visible(timeout=30_000)
    more(page, "Show more")
    watched.shows(page, "td.wide a")
    page.goto(watched.visit.url + "/admin#/alerts")
    for alert, form in zip(hostile.alerts, FORMS, strict=True):
        expect(page.locator(f"[data-alert='{alert}'] p").first).to_have_text(form)
    watched.shows(page, "[data-alert] p")
    page.goto(watched.visit.url + "/admin#/audit")
    watched.shows(page, "td.wide")
    page.goto(watched.visit.url + "/admin#/storage")
    watched.shows(page, "td.wide .muted", FORMS[-30:])  # the list holds the last thirty
    page.goto(watched.visit.url + "/admin")
    expect(page.locator("[data-attention^='alert-']").first).to_be_visible()
    shown = page.locator("[data-attention^='alert-']").all_inner_texts()
    worst = [form for form in FORMS if any(form in text for text in shown)]
    assert len(worst) >= 20, "the list holds the worst thirty"
    watched.shows(page, "[data-attention]", worst)


def test_a_job_and_the_tap(watched: Watched, hostile: Hostile) -> None:
    page = watched.visit.open(f"/admin#/jobs/{hostile.clips}")
    watched.shows(page, "h1", [FORMS[5]])
    watched.shows(page, ".lines [data-type='clip:planned'] .what")
    watched.shows(page, ".lines [data-type='clip:failed'] .what")
    watched.shows(page, ".lines [data-type='job:analyzed'] .what")
    watched.shows(page, ".clip .title")
    page.goto(watched.visit.url + "/admin#/events")
    page.get_by_role("button", name="History").click()
    page.get_by_role("searchbox").fill("ran(6)")
    expect(page.locator(".tap li").first).to_be_visible()
    watched.shows(page, ".tap .what", [FORMS[5]])
    page.locator(".tap li").first.get_by_role("button").click()
    watched.shows(page, "dialog pre", ["ran(6),alert(6)"])
