"""The download stage: files and URLs, interrupted, changed, endless, lying; run again and again."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from appliance.uploads import content_path, located, upload_source
from bus.events import JobSource
from stages import fetch as fetching
from stages.base import DownloadResult, Task
from stages.download import Options, run
from stages.errors import Misconfigured, Rejected, StageError, Transient
from stages.folder import JobFolder
from tests.media.maker import Spec, make
from tests.media.server import Site, serving

ROOT = Path(__file__).parents[3]
SPEC = Spec(seconds=2.0, scenes=("seated",), width=160, height=90)
LOCAL = Options(allow_private_hosts=True, min_free_bytes=0)


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path / "jobs" / "j", tmp_path / "output" / "j")


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(data=make(SPEC)[0].read_bytes())) as running:
        yield running


def download(folder: JobFolder, location: object, options: Options = LOCAL, name: str = "talk.mp4") -> DownloadResult:
    kind = "url" if "://" in str(location) else "file"
    origin = JobSource(kind=kind, location=str(location), name=name)  # type: ignore[arg-type]
    told: list[float] = []
    result = run(Task(stage="download", job="j", origin=origin), folder, options, lambda d, note=None: told.append(d))
    assert told == sorted(told)
    return result


def refused(folder: JobFolder, location: object, options: Options = LOCAL) -> StageError:
    with pytest.raises(StageError) as error:
        download(folder, location, options)
    return error.value


def names(folder: JobFolder) -> list[str]:
    return sorted(p.name for p in folder.root.iterdir())


def test_a_file_arrives_whole_and_stays_as_it_was(folder: JobFolder) -> None:
    video, truth = make(SPEC)
    before = (video.stat().st_mtime_ns, video.stat().st_ino)
    result = download(folder, video)
    assert result.sha256 == hashlib.sha256(video.read_bytes()).hexdigest()
    assert folder.source().read_bytes() == video.read_bytes()
    assert folder.source().name == result.path == "source.mp4"
    assert folder.probe().sha256 == result.sha256
    assert (result.duration_s, result.width, result.height) == (truth.duration_s, 160, 90)
    assert (video.stat().st_mtime_ns, video.stat().st_ino) == before
    assert names(folder) == ["probe.json", "source.mp4"]


def upload(folder: JobFolder, data: bytes, fingerprint: str | None = None) -> tuple[Path, Task]:
    """A stored upload and the task that a worker makes of it."""
    sha256 = hashlib.sha256(data).hexdigest()
    data_dir = folder.root.parent.parent
    content = content_path(data_dir, sha256)
    content.parent.mkdir(parents=True, exist_ok=True)
    content.write_bytes(data)
    origin = located(data_dir, upload_source("01upload", "talk.mp4", sha256))
    origin = msgspec.structs.replace(origin, fingerprint=fingerprint or sha256)
    return content, Task(stage="download", job="j", origin=origin)


def test_an_upload_is_one_file_for_all_its_jobs(folder: JobFolder, tmp_path: Path) -> None:
    data = make(SPEC)[0].read_bytes()
    content, task = upload(folder, data)
    result = run(task, folder, LOCAL, lambda done, note=None: None)
    assert result.sha256 == hashlib.sha256(data).hexdigest()
    assert folder.source().stat().st_ino == content.stat().st_ino
    other = JobFolder(tmp_path / "jobs" / "k", tmp_path / "output" / "k")
    run(task, other, LOCAL, lambda done, note=None: None)
    assert content.stat().st_nlink == 3
    content.unlink()
    assert folder.source().read_bytes() == data
    assert run(task, folder, LOCAL, lambda done, note=None: None) == result


def test_an_upload_that_is_gone_or_has_changed_is_refused(folder: JobFolder) -> None:
    content, task = upload(folder, make(SPEC)[0].read_bytes(), fingerprint="0" * 64)
    with pytest.raises(Rejected) as changed:
        run(task, folder, LOCAL, lambda done, note=None: None)
    assert changed.value.code == "upload-damaged"
    assert names(folder) == []
    assert content.exists()
    content.unlink()
    with pytest.raises(Rejected) as gone:
        run(task, folder, LOCAL, lambda done, note=None: None)
    assert gone.value.code == "upload-gone"


def test_an_upload_on_a_file_system_without_links_is_copied(folder: JobFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_args: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr("os.link", no_links)
    data = make(SPEC)[0].read_bytes()
    content, task = upload(folder, data)
    run(task, folder, LOCAL, lambda done, note=None: None)
    assert folder.source().read_bytes() == data
    assert folder.source().stat().st_ino != content.stat().st_ino


def test_a_second_run_answers_at_once(folder: JobFolder, tmp_path: Path) -> None:
    copy = tmp_path / "talk.mp4"
    copy.write_bytes(make(SPEC)[0].read_bytes())
    first = download(folder, copy)
    copy.unlink()
    assert download(folder, copy) == first


def test_a_run_that_died_before_its_probe_was_written_is_finished(folder: JobFolder) -> None:
    first = download(folder, make(SPEC)[0])
    (folder.root / "probe.json").unlink()
    assert download(folder, "/nowhere.mp4") == first


def test_a_file_that_is_gone_or_denied_is_said_so(folder: JobFolder, tmp_path: Path) -> None:
    assert refused(folder, tmp_path / "no.mp4").code == "file-missing"
    assert refused(folder, tmp_path).code == "not-a-file"
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refused(folder, tmp_path / "pipe.mp4").code == "not-a-file"
    assert refused(folder, "/dev/zero").code == "not-a-file"


def test_a_file_that_grows_meanwhile_is_tried_again_later(
    folder: JobFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    growing = tmp_path / "growing.mp4"
    growing.write_bytes(make(SPEC)[0].read_bytes())
    copy = download.__globals__["run"].__globals__["_copy"]

    def copy_while_it_grows(*args: object) -> str:
        with growing.open("ab") as file:
            file.write(b"more")
        return str(copy(*args))

    monkeypatch.setattr("stages.download._copy", copy_while_it_grows)
    error = refused(folder, growing)
    assert (type(error), error.code) == (Transient, "source-changing")
    assert names(folder) == []


def test_a_full_disk_waits(folder: JobFolder) -> None:
    error = refused(folder, make(SPEC)[0], Options(min_free_bytes=2**60))
    assert (type(error), error.code) == (Transient, "disk-full")


def test_a_url_arrives_whole(folder: JobFolder, site: Site) -> None:
    result = download(folder, site.url("/some/odd%20name.mp4?x=1"))
    assert folder.source().read_bytes() == site.data
    assert result.sha256 == hashlib.sha256(site.data).hexdigest()
    assert names(folder) == ["probe.json", "source.mp4"]
    path, headers = site.asked[0]
    assert path == "/some/odd%20name.mp4?x=1"
    assert headers["accept-encoding"] == "identity"
    assert headers["host"] == f"127.0.0.1:{site.port}"


def test_a_dropped_connection_is_taken_up_where_it_ended(folder: JobFolder, site: Site) -> None:
    site.drop_after = 20_000
    download(folder, site.url())
    assert site.ranges_asked == [None, "bytes=20000-"]
    assert folder.source().read_bytes() == site.data


def test_a_changed_file_is_never_glued_together(folder: JobFolder, site: Site) -> None:
    site.drop_after = 20_000
    old = site.data
    site.data, site.etag = bytes(20_000) + old[20_000:], '"v1"'
    part = folder.root / ".source.download"
    folder.root.mkdir(parents=True)
    rules = fetching.FetchRules(
        max_bytes=10**9,
        max_s=60,
        stall_s=5,
        min_bytes_per_s=0,
        max_redirects=0,
        allow_private_hosts=True,
        min_free_bytes=0,
    )
    site.always_drop_after = 0
    with pytest.raises(Transient):
        fetching.fetch(site.url(), part, rules, lambda size, total: None)
    site.always_drop_after, site.data, site.etag = None, old, '"v2"'
    fetched = fetching.fetch(site.url(), part, rules, lambda size, total: None)
    assert part.read_bytes() == old
    assert fetched.sha256 == hashlib.sha256(old).hexdigest()


def test_without_a_version_it_starts_anew(folder: JobFolder, site: Site) -> None:
    site.etag = None
    site.drop_after = 20_000
    download(folder, site.url())
    assert site.ranges_asked == [None, None]
    assert folder.source().read_bytes() == site.data


_FETCH = """
import sys
from pathlib import Path
from stages.fetch import FetchRules, fetch
import stages.fetch
stages.fetch._SYNC_BYTES = 4096
rules = FetchRules(max_bytes=10**9, max_s=60, stall_s=30, min_bytes_per_s=0, max_redirects=0, allow_private_hosts=True,
                   min_free_bytes=0)
fetch(sys.argv[1], Path(sys.argv[2]), rules, lambda size, total: None)
"""


def test_a_killed_download_goes_on(folder: JobFolder, site: Site) -> None:
    """SIGKILL in the middle; the next run asks for the rest only and the whole is right."""
    site.pause_after = 40_000
    folder.root.mkdir(parents=True)
    part = folder.root / ".source.download"
    child = subprocess.Popen([sys.executable, "-c", _FETCH, site.url(), str(part)], cwd=ROOT)
    assert site.paused.wait(30)
    deadline = time.monotonic() + 30
    while (note := fetching._note(part, site.url())) is None or note.synced_bytes < 30_000:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    site.go_on.set()
    assert folder.sweep() == []
    download(folder, site.url())
    asked = site.ranges_asked[-1]
    assert asked is not None
    assert 30_000 <= int(asked.removeprefix("bytes=").rstrip("-")) <= 40_000
    assert folder.source().read_bytes() == site.data
    assert names(folder) == ["probe.json", "source.mp4"]


def test_a_finished_part_is_not_fetched_again(folder: JobFolder, site: Site) -> None:
    folder.root.mkdir(parents=True)
    part = folder.root / ".source.download"
    subprocess.run([sys.executable, "-c", _FETCH, site.url(), str(part)], cwd=ROOT, check=True)
    download(folder, site.url())
    assert site.ranges_asked == [None, f"bytes={len(site.data)}-"]


@pytest.mark.parametrize(
    ("change", "options", "kind", "code"),
    [
        ({"endless": True, "data": b""}, {"max_bytes": 2**20}, Rejected, "too-large"),
        ({"claim_length": 10**12}, {}, Rejected, "too-large"),
        ({"claim_length": 100_000_000, "ranges": False}, {}, Transient, "url-broken-off"),
        ({"always_drop_after": 0}, {}, Transient, "url-broken-off"),
        ({"trickle_s": 0.05}, {"max_download_s": 1.0}, Transient, "url-too-long"),
        ({"trickle_s": 3.0}, {"stall_timeout_s": 0.5}, Transient, "url-broken-off"),
        ({"encoding": "gzip"}, {}, Rejected, "url-encoding"),
        ({"status": 404}, {}, Rejected, "url-refused"),
        ({"status": 403}, {}, Rejected, "url-refused"),
        ({"status": 503}, {}, Transient, "url-unavailable"),
        ({"status": 429}, {}, Transient, "url-unavailable"),
        ({"data": b"\x89PNG\r\n\x1a\n" + bytes(99)}, {}, Rejected, "not-a-video"),
        ({"data": b""}, {}, Rejected, "empty"),
        ({"data": b"#EXTM3U\nhttp://127.0.0.1/x.ts\n"}, {}, Rejected, "not-a-video"),
    ],
)
def test_servers_that_misbehave(
    folder: JobFolder, site: Site, change: dict[str, object], options: dict[str, object], kind: type, code: str
) -> None:
    for name, value in change.items():
        setattr(site, name, value)
    begin = time.monotonic()
    error = refused(folder, site.url(), msgspec.structs.replace(LOCAL, **options))
    assert (type(error), error.code) == (kind, code)
    assert time.monotonic() - begin < 20
    left = sum(p.stat().st_size for p in folder.root.iterdir())
    assert left <= (2**20 if kind is Rejected else len(site.data) + 4096)
    if kind is Rejected:
        assert names(folder) == []


def test_headers_that_never_end_are_cut_off(folder: JobFolder, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_HEADER_S", 1.0)
    site.header_trickle_s = 0.1
    begin = time.monotonic()
    assert refused(folder, site.url()).code == "url-unreachable"
    assert time.monotonic() - begin < 10


def test_a_slow_server_is_given_up(folder: JobFolder, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_RATE_WINDOW_S", 0.5)
    site.trickle_s = 0.02
    assert refused(folder, site.url()).code == "url-slow"


def test_redirects_are_followed_a_few_times(folder: JobFolder, site: Site) -> None:
    site.redirects = {"/a": "/b", "/b": "c", "/c": site.url("/video.mp4")}
    download(folder, site.url("/a"))
    site.redirects["/z"] = "/a"
    other = JobFolder(folder.root.parent / "k", folder.output)
    assert refused(other, site.url("/z")).code == "url-redirect"


def test_redirects_are_checked_like_the_first_address(
    folder: JobFolder, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first host counts as public for this test; where it points at does not."""
    import stages.address

    monkeypatch.setattr(stages.address, "is_public", lambda address: address == "127.0.0.1")
    with serving(Site(data=site.data)) as hidden:
        for target in (
            f"http://127.0.0.2:{hidden.port}/x",
            "http://[::1]/x",
            "http://169.254.169.254/latest/meta-data",
        ):
            site.redirects = {"/go": target}
            assert refused(folder, site.url("/go"), Options()).code in ("url-private", "url-unresolvable")
        for target in ("file:///etc/passwd", "ftp://127.0.0.1/x", "http://u:p@127.0.0.1/x", ""):
            site.redirects = {"/go": target}
            assert refused(folder, site.url("/go"), Options()).code in ("url-invalid", "url-redirect")
        assert hidden.asked == []


def test_private_addresses_are_never_dialled(folder: JobFolder, site: Site) -> None:
    for host in ("127.0.0.1", "localhost", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]"):
        error = refused(folder, f"http://{host}:{site.port}/video.mp4", Options())
        assert error.code in ("url-private", "url-unresolvable"), host
    assert site.asked == []


def test_proxies_of_the_environment_are_ignored(folder: JobFolder, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(Site()) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        download(folder, site.url())
        assert proxy.asked == []


def test_a_page_needs_yt_dlp(folder: JobFolder, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.data, site.content_type = b"<!DOCTYPE html><html></html>", "text/html"
    monkeypatch.setitem(sys.modules, "yt_dlp", None)
    error = refused(folder, site.url("/watch"))
    assert isinstance(error, Misconfigured)
    assert "pip install" in str(error)


def test_a_page_is_left_to_yt_dlp(folder: JobFolder, site: Site) -> None:
    pytest.importorskip("yt_dlp")
    video = site.data
    page = f'<!DOCTYPE html><html><title>A talk</title><body><video src="{site.url("/v.mp4")}"></video></body></html>'
    with serving(Site(data=page.encode(), content_type="text/html")) as pages:
        result = download(folder, pages.url("/watch"))
        assert folder.source().read_bytes() == video
        assert result.video_codec == "h264"
        assert names(folder) == ["probe.json", "source.mp4"]
        # Pages of unknown sites are not followed where private hosts are closed: nothing may be fetched for them.
        other = JobFolder(folder.root.parent / "k", folder.output)
        asked = len(site.asked)
        assert refused(other, pages.url("/watch"), Options()).code == "url-private"
        assert len(site.asked) == asked
