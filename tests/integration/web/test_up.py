"""From an empty folder to clips over HTTP alone: `appliance up`, the printed claim, a real upload, a finished job."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.media.maker import Spec, make

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SETTINGS = """\
data_dir: data
bus: {port: 0}
web: {port: 0}
input: {enabled: false}
stages: {cut: {preset: ultrafast, device: cpu}}
"""
PASSWORD = "correct horse battery"
CLAIM = re.compile(r"(http://127\.0\.0\.1:\d+)/claim#([\w-]{43})")


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "appliance.yaml").write_text(SETTINGS)
    with (tmp_path / "up.log").open("wb") as log:
        box = subprocess.Popen([sys.executable, "-m", "appliance", "up"], cwd=tmp_path, stdout=log, stderr=log)
    yield tmp_path
    subprocess.run([sys.executable, "-m", "appliance", "down"], cwd=tmp_path, check=True, timeout=60)
    assert box.wait(30) == 0


def printed(box: Path) -> re.Match[str]:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        if (found := CLAIM.search((box / "up.log").read_text())) is not None:
            return found
        time.sleep(0.1)
    raise AssertionError((box / "up.log").read_text()[-3000:])


def test_a_new_box_is_claimed_and_makes_clips(box: Path) -> None:
    url, token = printed(box).groups()
    video, _ = make(Spec(seconds=16.0, width=640, height=360))
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as browser:
        me = browser.post("/api/claim", json={"token": token, "user": "anna", "password": PASSWORD})
        assert me.status_code == 201, me.text
        browser.headers["X-CSRF-Token"] = me.json()["csrf"]
        with video.open("rb") as file:
            sent = browser.post(
                "/api/uploads/file",
                data={"clips": "1", "length": "3..6"},
                files={"file": ("talk.mp4", file, "video/mp4")},
            )
        assert sent.status_code == 201, sent.text
        job = sent.json()["job"]
        state = ""
        deadline = time.monotonic() + 150
        while time.monotonic() < deadline and state not in ("completed", "failed"):
            found = browser.get(f"/api/jobs/{job}").json()
            state = found["job"]["state"]
            time.sleep(0.2)
        assert state == "completed", found
        source = next((box / "data" / "jobs" / job).glob("source.*"))
        content = box / "data" / "uploads" / "content" / sent.json()["sha256"]
        assert source.samefile(content), "one stored source"
        clip = browser.get(f"/api/clips/{job}/1/video")
        assert clip.status_code == 200
        assert clip.content[4:8] == b"ftyp"
    assert token not in "".join(path.read_text() for path in (box / "data" / "logs").glob("*.log"))
    again = subprocess.run(
        [sys.executable, "-m", "appliance", "user", "claim"], cwd=box, capture_output=True, text=True, timeout=60
    )
    assert (again.returncode, "administrator already" in again.stderr) == (2, True)
