"""The pages: they build, their own tests pass, they are small, and nothing in them is refused by the browser."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from pathlib import Path

import pytest

from appliance.alerts.rules import DEFAULT_RULES
from web import pages

MOST_BYTES = 80_000
"""First load of any page in all: what it fetches at once and what it fetches when it is used, compressed."""
PAGES = ("index", "admin", "login", "claim")


@pytest.fixture(scope="module")
def bundle() -> Path:
    """The built pages; built now when `make setup` has not."""
    try:
        pages.build()
    except pages.PagesNotBuilt as error:
        pytest.skip(f"the pages cannot be built here: {error}")
    return pages.BUNDLE


def linked(bundle: Path, page: str) -> set[Path]:
    """Every file that the page loads or may load, following imports by name."""
    names = {path.name: path for path in (bundle / "assets").iterdir()}
    found: set[Path] = set()
    waiting = [bundle / f"{page}.html"]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        if path.suffix in (".html", ".js", ".css"):
            text = path.read_text()
            waiting += [other for name, other in names.items() if name in text]
    return found


def test_the_pages_own_tests_pass(bundle: Path) -> None:
    tests = sorted(str(path) for path in (pages.FOLDER / "test").glob("*.test.ts"))
    assert tests
    ran = subprocess.run(
        [*pages.node(), "--test", "--test-reporter=spec", *tests],
        cwd=pages.FOLDER,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_small(bundle: Path, page: str) -> None:
    sizes = {path.name: len(gzip.compress(path.read_bytes(), 9)) for path in linked(bundle, page)}
    assert len(sizes) >= 4, "the page links its script, its style and its icon"
    assert sum(sizes.values()) <= MOST_BYTES, f"{page} loads {sum(sizes.values())} bytes: {sizes}"


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_inline_script_or_style(bundle: Path, page: str) -> None:
    text = (bundle / f"{page}.html").read_text()
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", text)


def test_nothing_is_loaded_from_elsewhere(bundle: Path) -> None:
    allowed = {"www.w3.org"}  # names of XML namespaces, never fetched
    for path in bundle.rglob("*.*"):
        if path.suffix in (".html", ".js", ".css", ".svg"):
            hosts = set(re.findall(r"(?:https?:)?//([a-z0-9-]+(?:\.[a-z0-9-]+)+)", path.read_text()))
            assert hosts - allowed <= {"example.org"}, f"{path.name} names {hosts}"


def test_the_lock_names_packages_and_hashes_only() -> None:
    lock = json.loads((pages.FOLDER / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    for name, entry in packages.items():
        assert entry.get("integrity", "").startswith("sha512-"), f"{name} has no hash"
        assert "resolved" not in entry, f"{name} names a registry"


def test_a_step_that_hangs_is_told_without_a_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_TIMEOUT_S", 0.2)
    script = tmp_path / "hangs.js"
    script.write_text("setInterval(() => {}, 1000)")
    with pytest.raises(pages.PagesNotBuilt, match=r"hangs\.js was not done after 0\.2 s: look at"):
        pages._run([*pages.node(), str(script)])


def test_the_gauges_colours_are_those_of_the_alert_rules() -> None:
    text = (pages.FOLDER / "src" / "admin" / "limits.ts").read_text()
    rules = {rule.id: rule for rule in DEFAULT_RULES}
    system, data = rules["disk.os.used"], rules["disk.data.used"]
    assert system.warning is not None
    assert system.critical is not None
    assert data.warning is not None
    assert data.warning.at == system.warning.at
    assert f"WARN_PERCENT = {system.warning.at:g};" in text
    assert f"BAD_PERCENT = {system.critical.at:g};" in text


def test_building_twice_does_nothing(bundle: Path) -> None:
    assert pages.build() is False
