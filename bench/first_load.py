"""The first load of `/admin` in a real browser: `python -m bench.first_load [--loads 20] [--json]`.

`python -m web` with its dispatcher, hardware monitor, nats-server and redis-server, and 40 jobs; Chromium without a
window, driven by Playwright; an administrator who is logged in. Each load is a new tab of one browser whose profile is
on the disk and has seen the page before, as on the second visit of a day: files and compiled scripts are cached. (A
private window keeps no compiled scripts.)

A script that runs before the page's own watches what is drawn: the clock is the page's own (`performance.now()`, zero
is the navigation's begin), read when the first frame is painted that has

* data: the verdict, the figures of all six stages, and of disk, memory and CPU;
* all: the last events and what needs attention, too.

It tells the time by a console message. Nothing else of the driver runs in the page until then: a driver that asks the
page again and again whether it is there makes it later by some 25 ms.

The server's share is the sum of what every answer says of itself (`Server-Timing: app`, from the request's head to the
answer's first byte), of all requests that began before the data was on screen. Requests that the server handles at the
same time count in full each, so it is an upper bound. The status document's own share stands beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvloop
from playwright.async_api import BrowserContext, async_playwright

from appliance.config import Config
from appliance.supervisor.programs import monitor_program
from bench.dashboards import spread
from bench.http_cache import JOBS, WAIT_S, WAIT_TRIES, Side, document
from bench.web_box import web_box
from web import pages
from web.auth.guard import COOKIE

P50_MS, SERVER_MS = 150.0, 10.0
DOCUMENT = "/api/admin/ssot"
WARM_UP = 3
SIZE = {"width": 1366, "height": 768}
WAIT_MS = 30_000
_WATCH = """
const figures = (selector, least) => {
  const found = [...document.querySelectorAll(selector)];
  return found.length >= least && found.filter((one) => /[0-9]/.test(one.textContent)).length >= least;
};
const marks = {
  data: () => document.querySelector('[data-verdict]') && figures('[data-stage] .big b', 6)
    && figures('[data-gauge] .value', 3),
  all: () => document.querySelector('[data-events] li') && document.querySelector('[data-needs]'),
};
window.drawn = {};
const seen = new Set();
const look = () => {
  for (const [name, there] of Object.entries(marks)) {
    if (seen.has(name) || !there()) continue;
    seen.add(name);
    requestAnimationFrame(() => { const port = new MessageChannel();
      port.port1.onmessage = () => { window.drawn[name] = performance.now(); console.debug(`drawn ${name}`); };
      port.port2.postMessage(0); });
  }
  if (seen.size === 2) watcher.disconnect();
};
const watcher = new MutationObserver(look);
watcher.observe(document, { childList: true, subtree: true, characterData: true, attributes: true });
"""
"""The message after a frame's callbacks is handled once that frame is painted."""
_TIMES = """() => ({
  drawn: window.drawn.data, all: window.drawn.all,
  requests: performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource')).map((one) => ({
    path: new URL(one.name).pathname, from: one.startTime, waited: one.responseStart - one.requestStart,
    until: one.responseEnd, bytes: one.transferSize, server: one.serverTiming.map((told) => [told.name, told.duration]),
  })),
})"""


@contextmanager
def monitor(config: Config) -> Iterator[None]:
    """The hardware monitor's process, as the supervisor starts it: the gauges show what it says."""
    program = monitor_program(config)
    assert program is not None
    with (config.data_dir / "monitor.log").open("ab") as log:
        process = subprocess.Popen(program.argv, env={**os.environ, **program.env}, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def until_measured(side: Side) -> None:
    """Wait until the document comes from the cache and holds this machine's figures. Blocking."""
    for _ in range(WAIT_TRIES):
        hardware = json.loads(document(side))["hardware"]
        if hardware is not None and hardware["hosts"]:
            return
        time.sleep(WAIT_S / WAIT_TRIES)
    raise SystemExit(f"after {WAIT_S:g} s the document still holds no figures of this machine")


async def load(context: BrowserContext, url: str) -> dict[str, Any]:
    """One tab, from navigation to a quiet network."""
    page = await context.new_page()
    try:
        async with page.expect_console_message(lambda said: said.text == "drawn all", timeout=WAIT_MS):
            await page.goto(url, wait_until="commit")
        await page.wait_for_load_state("networkidle")
        times: dict[str, Any] = await page.evaluate(_TIMES)
        return times
    finally:
        await page.close()


async def measure(loads: int, chromium: str) -> dict[str, Any]:
    rows = []
    arguments = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with tempfile.TemporaryDirectory(prefix="bench-profile-") as profile:
        async with web_box(JOBS) as (web, _), async_playwright() as playwright:
            with monitor(web.config):
                await asyncio.to_thread(until_measured, Side("ours", web.port, DOCUMENT, web.token, cached=True))
                context = await playwright.chromium.launch_persistent_context(
                    profile,
                    executable_path=chromium,
                    args=arguments,
                    viewport=SIZE,  # type: ignore[arg-type]
                )
                url = f"http://127.0.0.1:{web.port}"
                await context.add_cookies([{"name": COOKIE, "value": web.session, "url": url, "sameSite": "Strict"}])
                await context.add_init_script(_WATCH)
                for number in range(WARM_UP + loads):
                    times = await load(context, f"{url}/admin")
                    if number >= WARM_UP:
                        rows.append(times)
                await context.close()
    said = [served(row) for row in rows]
    median = sorted(rows, key=lambda row: row["drawn"])[len(rows) // 2]
    return {
        "drawn": spread([row["drawn"] / 1e3 for row in rows]),
        "all": spread([row["all"] / 1e3 for row in rows]),
        "server": spread([sum(ms for _, ms in answers) / 1e3 for answers in said]),
        "document": spread([max(ms for path, ms in answers if path == DOCUMENT) / 1e3 for answers in said]),
        "median_load": median["requests"],
    }


def served(row: dict[str, Any]) -> list[tuple[str, float]]:
    """Of each answer that began before the data was drawn: its path, and the milliseconds that the server tells."""
    needed = [one for one in row["requests"] if one["from"] < row["drawn"] and one["bytes"]]
    return [(one["path"], dict(one["server"]).get("app", 0.0)) for one in needed]


def judged(found: dict[str, Any]) -> dict[str, bool]:
    return {
        f"data on screen, p50 ≤ {P50_MS:g} ms": found["drawn"]["p50_ms"] <= P50_MS,
        f"the server's share, p50 ≤ {SERVER_MS:g} ms": found["server"]["p50_ms"] <= SERVER_MS,
    }


def show(found: dict[str, Any]) -> None:
    print(f"/admin in Chromium, {found['loads']} loads; load {found['load_before']} to {found['load_after']}")
    names = {
        "drawn": "navigation to data on screen",
        "all": "navigation to all on screen",
        "server": "server, in all",
        "document": "server, document",
    }
    for key, name in names.items():
        print(f"  {name:30} p50 {found[key]['p50_ms']:8.2f} ms   p99 {found[key]['p99_ms']:8.2f} ms")
    print("  of the median load, in ms:   from       to   waited   server")
    for one in sorted(found["median_load"], key=lambda one: one["from"]):
        served = f"{dict(one['server']).get('app', 0.0):9.2f}" if one["bytes"] else "    cache"
        print(f"  {'':26}{one['from']:9.1f}{one['until']:9.1f}{one['waited']:9.1f}{served}   {one['path']}")
    for what, holds in found["judged"].items():
        print(f"  {'met   ' if holds else 'MISSED'} {what}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loads", type=int, default=20)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((path for name in names if (path := shutil.which(name))), None)
    if chromium is None:
        sys.stderr.write("not measured: no Chromium on this machine (apt-get install chromium)\n")
        return 0
    try:
        pages.build()
    except pages.PagesNotBuilt as error:
        sys.stderr.write(f"not measured: {error}\n")
        return 0
    load_before = round(os.getloadavg()[0], 2)
    found: dict[str, Any] = {"loads": arguments.loads, "load_before": load_before}
    found |= uvloop.run(measure(arguments.loads, chromium))
    found["load_after"] = round(os.getloadavg()[0], 2)
    found["judged"] = judged(found)
    if arguments.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)
    return 0 if all(found["judged"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
