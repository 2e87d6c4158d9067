"""Every file of the hostile corpus is refused in time, in plain words, in little memory, and reaches nothing."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bus.events import JobSource
from stages.base import Task
from stages.download import Options, run
from stages.errors import Rejected
from stages.folder import JobFolder
from stages.media import confined, probe
from stages.media import open as opening
from stages.media.limits import MediaLimits
from tests.media.hostile import CANARY, NAMES, Hostile, corpus
from tests.media.maker import Spec, make

ROOT = Path(__file__).parents[3]
MAX_S = 5.0
"""Product limit of one refusal, from the issue."""
MAX_BYTES = 600 * 2**20


@pytest.fixture(scope="module")
def canary() -> Iterator[socket.socket]:
    """A listener that nobody may ever connect to."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, canary: socket.socket) -> list[Hostile]:
    return corpus(tmp_path_factory.mktemp("hostile"), canary.getsockname()[1])


def intake(folder: Path, files: list[Path], before: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    command = [*before, sys.executable, "-m", "tests.media.intake", str(folder), *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_every_file_is_refused(hostile: list[Hostile], tmp_path: Path) -> None:
    answers = intake(tmp_path, [h.path for h in hostile])
    wrong = []
    for item, answer in zip(hostile, answers, strict=True):
        sys.stdout.write(f"{item.name:26} {answer['seconds']:5.2f} s  {answer['code']}: {answer['message']}\n")
        refused = answer["kind"] == "Rejected" and answer["code"] in item.codes
        if not (refused and all(word in answer["message"] for word in item.says)):
            wrong.append((item.name, answer["code"], answer["message"]))
        assert answer["seconds"] <= MAX_S, item.name
        assert answer["left"] == [], item.name
    assert wrong == []
    peak = max(answers[-1]["own_bytes"], answers[-1]["child_bytes"])
    sys.stdout.write(f"peak memory {peak / 2**20:.0f} MiB\n")
    assert peak <= MAX_BYTES


def test_the_format_whitelist_stops_disguises_alone(hostile: list[Hostile], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the look at the first bytes switched off, FFmpeg itself must still open none of them."""
    monkeypatch.setattr(opening, "container_of", lambda head: "mp4")
    disguised = [
        h for h in hostile if h.name.startswith(("hls", "ffconcat", "dash", "sdp", "picture", "page", "words"))
    ]
    assert len(disguised) >= 10
    for item in disguised:
        with pytest.raises(Rejected) as refusal:
            probe.probe_media(item.path)
        assert refusal.value.code == "broken", item.name


_OPEN_UNGUARDED = """
import sys
from pathlib import Path
from stages.media.sandbox import SandboxPolicy, enter
import av
if sys.argv[2] == "closed":
    enter(SandboxPolicy(read=[Path(sys.argv[1])]))
try:
    with av.open(sys.argv[1], options={"safe": "0"}) as container:
        print(container.format.name, sum(1 for _ in container.decode(video=0)))
except av.error.FFmpegError as error:
    print(type(error).__name__)
"""


def test_the_sandbox_stops_disguises_alone(hostile: list[Hostile]) -> None:
    """Without any whitelist FFmpeg decodes the neighbour; inside the sandbox it cannot."""
    item = next(h for h in hostile if h.name == "ffconcat.mp4")
    output = {}
    for state in ("bare", "closed"):
        command = [sys.executable, "-c", _OPEN_UNGUARDED, str(item.path), state]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        output[state] = done.stdout.strip()
    assert output["bare"].startswith("concat 6"), output
    assert output["closed"] in {"PermissionError", "InvalidDataError"}, output


def test_pixel_limit_holds_inside_the_decoder(hostile: list[Hostile]) -> None:
    """The container says 64x64; only the decoder learns the truth."""
    item = next(h for h in hostile if h.name == "vp8-16k.webm")
    with pytest.raises(Rejected) as refusal:
        probe.probe_media(item.path)
    assert refusal.value.code == "picture-too-large"


def test_limits_are_said_in_words(tmp_path: Path) -> None:
    video, _ = make(Spec(seconds=2.0, scenes=("seated",), width=160, height=90))
    cases = {
        "too-large": (MediaLimits(max_bytes=1000), "limit"),
        "too-long": (MediaLimits(max_duration_s=1.0), "hours"),
        "picture-too-large": (MediaLimits(max_pixels=100), "160x90"),
        "too-many-frames": (MediaLimits(max_frames=10), "limit is 10"),
        "too-slow": (MediaLimits(probe_budget_s=0.0), "too long"),
    }
    for code, (limits, words) in cases.items():
        with pytest.raises(Rejected, match=words) as refusal:
            probe.probe_media(video, limits)
        assert refusal.value.code == code


def test_memory_of_the_check_is_bounded() -> None:
    video, _ = make(Spec(seconds=0.5, scenes=("seated",), width=1920, height=1080, audio="none"))
    with pytest.raises(Rejected) as refusal:
        confined.probe_sandboxed(video, memory_bytes=4 * 2**20)
    assert refusal.value.code == "too-much-memory"


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_only_data(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video, _ = make(Spec(seconds=2.0, scenes=("seated",), width=160, height=90))
    checked = confined.probe_sandboxed(video)
    monkeypatch.setattr("stages.download.probe_sandboxed", lambda *a, **k: checked)
    folder = JobFolder(tmp_path / "jobs" / "j", tmp_path / "output" / "j")
    sha256 = hashlib.sha256(video.read_bytes()).hexdigest()
    origin = JobSource(kind="upload", location=str(video), name=name, fingerprint=sha256)
    result = run(Task(stage="download", job="j", origin=origin), folder, Options(), lambda done, note=None: None)
    assert result.path == "source.mp4"
    assert sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()) == [
        "jobs/j/probe.json",
        "jobs/j/source.mp4",
    ]


_OPENED = re.compile(r'(?:open|openat|openat2|creat)\((?:AT_FDCWD, )?"([^"]+)".* = \d+')


def test_no_other_file_is_opened(hostile: list[Hostile], tmp_path: Path) -> None:
    """The kernel's own list of what the stage and its check opened."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    log = tmp_path / "log"
    tracer = (strace, "-f", "-qq", "-s", "4096", "-e", "trace=open,openat,openat2,creat,connect", "-o", str(log))
    if subprocess.run([*tracer, "true"], capture_output=True, check=False).returncode:
        pytest.skip("ptrace is not allowed here")
    names = ("ffconcat.mp4", "hls-file.mp4", "random-after-ftyp.mp4", "vp8-16k.webm", "sound-only.mkv")
    files = [h.path for h in hostile if h.name in names]
    jobs = tmp_path / "jobs"
    answers = intake(jobs, files, tracer)
    assert {a["kind"] for a in answers} == {"Rejected"}

    lines = log.read_text().splitlines()
    # O_PATH names a path for a Landlock rule and gives no access to what is there.
    opened = {m[1] for line in lines if "O_PATH" not in line and (m := _OPENED.search(line))}
    assert len(opened) > 50
    assert not [line for line in lines if "sa_family=AF_INET" in line]
    own = (jobs, *files, ROOT / "stages", ROOT / "bus", ROOT / "tests", ROOT / ".venv", ROOT / "appliance")
    system = (
        "/lib",
        "/usr/lib",
        "/usr/local/lib",
        "/etc/ld.so",
        "/etc/localtime",
        "/dev/",
        "/proc/",
        "/sys/",
        "/usr/share",
    )
    allowed = (*map(str, own), *system, sys.base_prefix, sys.prefix)
    listed = {str(ROOT), *sys.path}  # where imports are looked for; nothing in them but the folders above is opened
    strangers = sorted(p for p in opened if p.startswith("/") and p not in listed and not p.startswith(allowed))
    assert strangers == []
    assert not [p for p in opened if CANARY in p]
