"""Every locked package has a licence that somebody has looked at."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
LOCK = (ROOT / "requirements.lock").read_text()
LOCKED = dict(re.findall(r"^([a-z0-9][a-z0-9.-]*)==([^ \\;]+)", LOCK, re.MULTILINE))

PERMISSIVE = re.compile(
    r"MIT(-0|-CMU)?|0?BSD(-[23]-Clause)?|Apache(-2\.0)?|PSF(-2\.0)?|ISC|Zlib|CC0(-1\.0)?|Unlicense|MPL(-2\.0)?|HPND|OFL(-1\.1)?"
    r"|Python Software Foundation",
    re.IGNORECASE,
)
COPYLEFT = re.compile(r"\b(A?GPL|LGPL|AFFERO|GNU|SSPL|EUPL|CC-BY-(NC|SA)|proprietary|commercial)", re.IGNORECASE)
LOOKED_AT = {
    "forbiddenfruit": "MIT or GPL-3.0, taken under MIT; tests only",
    "pysqlite3": "zlib; it has no licence field but the file",
    "scikit-image": "BSD-3-Clause; its licence field is a list of files",
    "scipy": "BSD-3-Clause; its licence field is the whole text",
}


def said(name: str) -> str | None:
    """What the installed package says of its licence, or None when it is not installed (another platform's)."""
    try:
        about: Any = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    if expression := about.get("License-Expression"):
        return str(expression)
    classifiers = [
        str(c).rpartition(" :: ")[2] for c in about.get_all("Classifier", []) if str(c).startswith("License")
    ]
    return "; ".join([str(about.get("License", "")).partition("\n")[0], *classifiers])


@pytest.mark.parametrize("name", sorted(LOCKED))
def test_a_locked_package_may_be_used(name: str) -> None:
    licence = said(name)
    if licence is None:
        assert re.search(rf"^{re.escape(name)}==\S+ ; ", LOCK, re.MULTILINE), f"{name} is locked but not installed"
        return
    if name in LOOKED_AT:
        return
    assert PERMISSIVE.search(licence), f"{name} is under {licence!r}: look at it, and say so in docs/LICENCES.md"
    assert not COPYLEFT.search(licence), f"{name} is under {licence!r}: it must not be locked"


def test_the_lock_is_of_this_project() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    wanted = set(re.findall(r'^ +"([a-z0-9-]+)[<>=~]', project, re.MULTILINE))
    optional = {"tensorrt", "ultralytics", "obstore"}
    assert wanted - optional <= set(LOCKED), "run `make lock`"


def test_what_is_copyleft_or_huge_is_not_locked() -> None:
    assert not {"ultralytics", "torch", "tensorrt", "nvidia-cublas-cu12"} & set(LOCKED)
    assert all(name in LOCKED for name in LOOKED_AT)


def test_every_locked_line_has_hashes_and_no_host() -> None:
    lines = LOCK.splitlines()
    for number, line in enumerate(lines):
        if re.match("[a-z0-9]", line):
            assert line.endswith("\\"), f"{line} has no hash"
            assert lines[number + 1].strip().startswith("--hash=sha256:")
    assert "://" not in LOCK
    assert "--index-url" not in LOCK
