"""`appliance process` as a user types it: clips from a real video, resuming, refusals, and the event log beside it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import pytest

from appliance.store.queries import Store
from tests.media.hostile import corpus
from tests.media.maker import Spec, make

pytestmark = pytest.mark.timeout(240)
SETTINGS = """\
data_dir: data
bus: {port: 0}
web: {port: 0}
cache: {url: "off"}
retry: {backoff_s: 0.2}
stages: {cut: {preset: ultrafast, device: cpu}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    (folder / "appliance.yaml").write_text(SETTINGS)
    return folder


@pytest.fixture(scope="module")
def talk(folder: Path) -> Path:
    made, _ = make(Spec(seconds=16.0, width=640, height=360))
    path = folder / "a talk – with spaces & ünïcode.mp4"
    path.write_bytes(made.read_bytes())
    return path


def appliance(folder: Path, *arguments: str, timeout_s: float = 200) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "appliance", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=timeout_s, check=False)


def process(folder: Path, video: Path, *options: str) -> dict[str, Any]:
    done = appliance(folder, "process", str(video), "--clips", "2", "--length", "3..6", "--json", *options)
    assert done.returncode == 0, done.stderr + done.stdout
    return dict(json.loads(done.stdout))


@pytest.fixture(scope="module")
def report(folder: Path, talk: Path) -> dict[str, Any]:
    return process(folder, talk, "--out", "out")


def test_clips_are_what_was_asked_for(folder: Path, report: dict[str, Any]) -> None:
    assert (report["state"], len(report["clips"]), report["failed"]) == ("completed", 2, [])
    for clip in report["clips"]:
        assert Path(clip["path"]).parent == folder / "out"
        for companion in ("path", "srt", "vtt", "thumbnail", "sidecar"):
            assert Path(clip[companion]).stat().st_size > 0, companion
        with av.open(clip["path"]) as container:
            video, audio = container.streams.video[0], container.streams.audio[0]
            assert (video.width, video.height, video.codec_context.name) == (1080, 1920, "h264")
            assert video.codec_context.profile == "High"
            assert (audio.codec_context.name, audio.rate) == ("aac", 48000)
            frames = sum(1 for _ in container.decode(video))
            assert video.average_rate is not None
            planned_s = clip["end_s"] - clip["start_s"]
            assert abs(frames / float(video.average_rate) - planned_s) <= 1.01 / float(video.average_rate)
        assert abs(clip["loudness_lufs"] + 14.0) <= 1.0
        assert clip["reasons"]
    assert any("rough" in note for note in report["notes"]), "a fallback must be named"


def test_the_event_log_tells_the_whole_story_in_order(folder: Path, report: dict[str, Any]) -> None:
    with Store(folder / "data" / "appliance.db") as store:
        assert [row.outcome for row in store.attempts(report["job"])] == ["done"] * 9
    facts = _events(folder, report["job"])
    kinds = [fact["type"] for fact in facts]
    assert kinds[:7] == [
        "job:created", "job:downloading", "job:downloaded", "job:transcribing", "job:transcribed", "job:analyzing",
        "job:analyzed",
    ]  # fmt: skip
    assert kinds[-1] == "job:completed"
    assert kinds.count("clip:planned") == kinds.count("clip:ready") == 2
    first_ready = kinds.index("clip:ready")
    last_cut = max(n for n, kind in enumerate(kinds) if kind == "job:cutting")
    assert first_ready < last_cut, "the first clip is published before the last one starts to encode"


def _events(folder: Path, job: str) -> list[dict[str, Any]]:
    from appliance.sqlite import sqlite3

    connection = sqlite3.connect(folder / "data" / "appliance.db")
    rows = connection.execute("SELECT payload FROM events WHERE job = ? ORDER BY seq", (job,)).fetchall()
    connection.close()
    return [json.loads(row[0]) for row in rows]


def test_the_same_again_is_there_at_once(folder: Path, talk: Path, report: dict[str, Any]) -> None:
    again = process(folder, talk, "--out", "out2")
    assert again["job"] == report["job"]
    assert [clip["sha256"] for clip in again["clips"]] == [clip["sha256"] for clip in report["clips"]]
    assert (folder / "out2" / "clip-01.mp4").exists()


def test_ctrl_c_stops_cleanly_and_the_next_run_goes_on(folder: Path, talk: Path, report: dict[str, Any]) -> None:
    command = [sys.executable, "-m", "appliance", "process", str(talk), "--clips", "1", "--length", "4..6"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("transcribe") and "done" in line:
                break
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 1
    assert "cancelled" in out, out + err
    assert "Run the same command again" in out
    done = appliance(folder, "process", str(talk), "--clips", "1", "--length", "4..6")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "going on at" in done.stderr
    job = next(word for word in done.stderr.split() if len(word) == 26)
    kinds = [fact["type"] for fact in _events(folder, job)]
    assert kinds.count("job:transcribed") == 1, "what was done is not done again"
    assert not list((folder / "data").rglob("*.part"))


def test_bad_requests_end_with_2_and_say_what_to_do(folder: Path, talk: Path) -> None:
    for arguments, words in (
        (["process", "nowhere.mp4"], "no such file"),
        (["process", "ftp://host/x.mp4"], "http(s)"),
        (["process", "https://user:secret@host/x.mp4"], "password"),
        (["process", str(talk), "--length", "60..15"], "MIN <= MAX"),
    ):
        done = appliance(folder, *arguments)
        assert done.returncode == 2, arguments
        assert words in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


def test_hostile_files_are_refused_by_name_and_the_box_lives(folder: Path, tmp_path: Path) -> None:
    """The whole corpus on one running box: each job fails at once with its cause, no worker is lost."""
    files = corpus(tmp_path, port=1)
    box = subprocess.Popen([sys.executable, "-m", "appliance", "up"], cwd=folder, stderr=subprocess.DEVNULL)
    try:
        _wait_until_up(folder)
        jobs = {}
        for hostile in files:
            added = appliance(folder, "jobs", "add", str(hostile.path), "--json")
            if added.returncode == 0:
                jobs[json.loads(added.stdout)["job"]] = hostile
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with Store(folder / "data" / "appliance.db") as store:
                rows = {job: store.job(job) for job in jobs}
            if all(row is not None and row.state == "failed" for row in rows.values()):
                break
            time.sleep(0.1)
        for job, row in rows.items():
            assert row is not None
            assert row.state == "failed", jobs[job]
            assert row.error, jobs[job]
            with Store(folder / "data" / "appliance.db") as store:
                assert [(a.stage, a.attempt) for a in store.attempts(job)] == [("download", 1)], (
                    "refused once, for good"
                )
        with Store(folder / "data" / "appliance.db") as store:
            assert all(service.restarts == 0 for service in store.services() if service.service == "download-1")
        assert appliance(folder, "status").returncode == 0
    finally:
        assert appliance(folder, "down").returncode == 0
        assert box.wait(30) == 0


def _wait_until_up(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if appliance(folder, "status").returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError(appliance(folder, "status").stdout)
