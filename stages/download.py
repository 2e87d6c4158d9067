"""The download stage: the source into the job's folder, verified, with `probe.json`.

Nothing is decoded in this process: it copies bytes and looks at the first 4 KiB; the check runs in a sandboxed child.
`source.<ext>` appears only when it is complete and accepted; until then the bytes are in `.source.download`, which a
later run takes up again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from bus.events import JobSource
from stages.artifacts import Probe
from stages.base import DownloadResult, Report, Task
from stages.errors import Rejected, Transient
from stages.folder import JobFolder, fsync
from stages.media.confined import join_sandboxed, probe_sandboxed
from stages.media.limits import MediaLimits
from stages.media.sniff import EXTENSIONS, KNOWN_EXTENSIONS, Container, container_of, describe, read_head
from stages.partfile import discard, need_room

_FICLONE = 0x40049409
"""`linux/fs.h`: share the blocks of another file (btrfs, XFS, bcachefs)."""
_COPY_BYTES = 8 * 2**20
_PAGE_BYTES = 4 * 2**20
"""More than a web page has."""
_COPIED = 0.9
"""Share of the stage's progress that the copy or download is."""
_FAMILIES: dict[Container, str] = {"mp4": "mp4", "mkv": "matroska", "webm": "matroska", "avi": "avi", "ts": "ts"}
_NAMES: dict[Container, str] = {
    "mp4": "an MP4 or QuickTime video",
    "mkv": "a Matroska video",
    "webm": "a WebM video",
    "avi": "an AVI video",
    "ts": "an MPEG transport stream",
}


class Options(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is taken in, and how long it may take."""

    max_bytes: Annotated[
        int, Meta(ge=2**20, description="Largest source in bytes; a larger one is refused before or while it comes.")
    ] = 20_000_000_000
    max_duration_s: Annotated[
        float, Meta(ge=1, le=48 * 3600, description="Longest source in seconds, by its packets; longer is refused.")
    ] = 4 * 3600.0
    max_pixels: Annotated[
        int,
        Meta(ge=10_000, le=268_000_000, description="Pixels of one picture; larger is refused. 36 million is 8K."),
    ] = 36_000_000  # fmt: skip
    max_streams: Annotated[int, Meta(ge=1, le=256, description="Streams in one file; more are refused.")] = 32
    max_frames: Annotated[int, Meta(ge=100, description="Pictures in one file; more are refused.")] = 1_000_000
    check_timeout_s: Annotated[
        float, Meta(ge=1, le=600, description="Wall seconds that the sandboxed check of a source may take.")
    ] = 60.0
    check_memory_bytes: Annotated[
        int,
        Meta(ge=64 * 2**20, description="Bytes that the check may take on top of its libraries; more is refused."),
    ] = 500 * 2**20  # fmt: skip
    max_download_s: Annotated[
        float, Meta(ge=1, le=48 * 3600, description="Seconds that one attempt to download a URL may take in all.")
    ] = 3600.0
    stall_timeout_s: Annotated[
        float, Meta(ge=0.5, le=600, description="Seconds without a byte after which a download is given up for now.")
    ] = 30.0
    min_bytes_per_s: Annotated[
        int, Meta(ge=0, description="A download slower than this many bytes a second over 30 s is given up for now.")
    ] = 1024
    max_redirects: Annotated[
        int, Meta(ge=0, le=10, description="Redirects that are followed, each checked like the first address.")
    ] = 3
    allow_private_hosts: Annotated[
        bool,
        Meta(description="Lets downloads reach private, loopback and link-local addresses. Anybody who may add a URL "
                         "can then reach every service of the box's network."),
    ] = False  # fmt: skip
    video_sites: Annotated[
        bool, Meta(description="Takes pages of video sites through yt-dlp, when the youtube extra is installed.")
    ] = True
    min_free_bytes: Annotated[
        int, Meta(ge=0, description="Bytes of disk that stay free; a source that would eat into them waits.")
    ] = 512 * 2**20

    def limits(self) -> MediaLimits:
        """The same figures for those who open the file."""
        return MediaLimits(
            max_pixels=self.max_pixels,
            max_duration_s=self.max_duration_s,
            max_bytes=self.max_bytes,
            max_frames=self.max_frames,
            max_streams=self.max_streams,
            probe_budget_s=self.check_timeout_s,
        )


def run(task: Task, folder: JobFolder, options: Options, report: Report) -> DownloadResult:
    """Put the task's source into `folder` as `source.<ext>` and write `probe.json`.

    Raises `Rejected` for what is not an acceptable video, `Transient` for trouble that may pass, `Misconfigured` where
    something has to be installed. Run again on a finished folder it answers at once.
    """
    folder.root.mkdir(parents=True, exist_ok=True)
    part = folder.root / ".source.download"
    finished = _finished(folder)
    if finished is not None:
        discard(part)
        return _result(*finished)

    reached = 0.0

    def progress(size: int, total: int | None) -> None:
        nonlocal reached
        # A page may have two files to fetch, one after the other: progress stands still rather than go back.
        reached = max(reached, _COPIED * min(1.0, size / total) if total else 0.0)
        report(reached)

    source = _unverified(folder)
    try:
        if source is not None:
            sha256 = _hash(source)
        elif task.origin.kind == "url":
            sha256 = _from_url(task.origin.location, part, options, progress)
        elif task.origin.kind == "upload":
            sha256 = _from_upload(task.origin, part, options, progress)
        else:
            sha256 = _from_file(Path(task.origin.location), task.origin.name, part, options, progress)
        report(_COPIED, "checking the video")
        at = source or part
        probe = probe_sandboxed(
            at,
            options.limits(),
            sha256=sha256,
            memory_bytes=options.check_memory_bytes,
            wall_s=options.check_timeout_s,
        )
    except Rejected:
        discard(part)
        if source is not None:
            source.unlink(missing_ok=True)
        raise
    if source is None:
        kind = container_of(read_head(part))
        assert kind is not None  # the check has accepted it
        source = folder.root / f"source{EXTENSIONS[kind][0]}"
        part.replace(source)
        fsync(folder.root)
        discard(part)
    folder.save(folder.root / "probe.json", probe)
    report(1.0)
    return _result(source, probe)


def _from_file(location: Path, name: str, part: Path, options: Options, progress: Callable[[int, int], None]) -> str:
    """Copy a local file, by sharing its blocks where the file system can; returns the sha256."""
    discard(part)
    try:
        fd = os.open(location, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Rejected(f"there is no file {location} any more", "file-missing") from error
    except PermissionError as error:
        raise Rejected(
            f"{location} cannot be read: give the appliance's user read permission", "file-denied"
        ) from error
    except OSError as error:
        raise Transient(f"{location} cannot be read: {error.strerror}", "read-failed") from error
    before = os.fstat(fd)
    if not stat.S_ISREG(before.st_mode):
        os.close(fd)
        raise Rejected(f"{location} is not a file but a folder, device or pipe", "not-a-file")
    with os.fdopen(fd, "rb", buffering=0) as file:
        _check_size(before.st_size, options)
        head = os.pread(fd, 4096, 0)
        check_content(head, name)
        shared = _share(fd, part)
        if not shared:
            need_room(part, before.st_size, options.min_free_bytes)
        sha256 = _copy(file, part, before.st_size, shared, progress)
        after = os.fstat(fd)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        part.unlink(missing_ok=True)
        raise Transient(f"{name} is still being written: it changed while it was copied", "source-changing")
    return sha256


def _from_upload(origin: JobSource, part: Path, options: Options, progress: Callable[[int, int], None]) -> str:
    """Take up the stored content of an upload, whose path the worker has put into `location`: one file for all jobs.

    Nothing writes to it again, so the job has it as a hard link; where that cannot be, as a copy. It is read once, so
    that a disk that lost bits since the upload is noticed. Returns the sha256.
    """
    location = Path(origin.location)
    discard(part)
    try:
        os.link(location, part)
    except FileNotFoundError as error:
        raise Rejected("the upload is not on the box any more: upload the video again", "upload-gone") from error
    except OSError:
        sha256 = _from_file(location, origin.name, part, options, progress)
    else:
        size = part.stat().st_size
        _check_size(size, options)
        check_content(read_head(part), origin.name)
        with part.open("rb", buffering=0) as file:
            sha256 = _copy(file, part, size, True, progress)
    if sha256 != origin.fingerprint:
        raise Rejected("the upload has changed on the disk since it came: upload the video again", "upload-damaged")
    return sha256


def _share(fd: int, part: Path) -> bool:
    with part.open("wb") as target:
        try:
            fcntl.ioctl(target.fileno(), _FICLONE, fd)
        except OSError:
            return False
        os.fsync(target.fileno())
        return True


def _copy(file: object, part: Path, size: int, shared: bool, progress: Callable[[int, int], None]) -> str:
    """Read the file once for its sha256, writing it to `part` on the way unless its blocks are shared already."""
    digest, done = hashlib.sha256(), 0
    buffer = memoryview(bytearray(_COPY_BYTES))
    reading = part.open("rb", buffering=0) if shared else contextlib.nullcontext(file)
    with reading as source, part.open("r+b", buffering=0) as target:
        while count := source.readinto(buffer):  # type: ignore[attr-defined]
            digest.update(buffer[:count])
            if not shared:
                _write(target.fileno(), buffer[:count])
            done += count
            if done > size:
                break  # it grows; the caller sees the change
            progress(done, size)
        os.fsync(target.fileno())
    return digest.hexdigest()


def _write(fd: int, data: memoryview) -> None:
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError as error:
        code = "disk-full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "disk-error"
        raise Transient(f"the copy cannot be written: {error.strerror}", code) from error


def _from_url(url: str, part: Path, options: Options, progress: Callable[[int, int | None], None]) -> str:
    from stages.fetch import FetchRules, check_url, fetch
    from stages.video_sites import fetch_page

    rules = FetchRules(
        max_bytes=options.max_bytes,
        max_s=options.max_download_s,
        stall_s=options.stall_timeout_s,
        min_bytes_per_s=options.min_bytes_per_s,
        max_redirects=options.max_redirects,
        allow_private_hosts=options.allow_private_hosts,
        min_free_bytes=options.min_free_bytes,
    )
    check_url(url)
    pages = part.with_name(".source.pages")
    if not pages.exists():
        # What may still turn out to be a page is no progress yet.
        fetched = fetch(url, part, rules, lambda size, total: progress(size, total) if size > _PAGE_BYTES else None)
        head = read_head(part)
        is_page = fetched.content_type in ("text/html", "application/xhtml+xml") or describe(head) == "an HTML page"
        if container_of(head) is not None or not (is_page and options.video_sites):
            _check_size(fetched.size_bytes, options)
            check_content(head, "")
            return fetched.sha256
        discard(part)
        pages.mkdir()
    try:
        files = fetch_page(url, pages, rules, progress)
        if len(files) == 1:
            files[0].replace(part)
        else:
            join_sandboxed(files[:2], part, options.limits())
    except Transient:
        raise
    except BaseException:
        shutil.rmtree(pages, ignore_errors=True)
        raise
    sha256 = _hash(part)
    fsync(part)
    shutil.rmtree(pages, ignore_errors=True)
    return sha256


def check_content(head: bytes, name: str) -> None:
    """Refuse by the first bytes what is no video container, or another one than the name says.

    A name without a known video extension says nothing. Raises `Rejected` (`not-a-video`, `extension-mismatch`).
    """
    kind = container_of(head)
    extension = Path(name).suffix.lower()
    claimed = KNOWN_EXTENSIONS.get(extension)
    if kind is None:
        as_what = f", although its name ends in {extension}" if claimed else ""
        raise Rejected(f"this is not a video: the file is {describe(head)}{as_what}", "not-a-video")
    if claimed is not None and _FAMILIES[claimed] != _FAMILIES[kind]:
        raise Rejected(
            f"its name ends in {extension}, but the file is {_NAMES[kind]}: rename it to end in "
            f"{EXTENSIONS[kind][0]} and add it again",
            "extension-mismatch",
        )


def _check_size(size: int, options: Options) -> None:
    if size == 0:
        raise Rejected("the file is empty (0 bytes)", "empty")
    if size > options.max_bytes:
        raise Rejected(f"the file has {size / 1e9:.1f} GB; the limit is {options.max_bytes / 1e9:.1f} GB", "too-large")


def _unverified(folder: JobFolder) -> Path | None:
    """A source that an earlier run put in place without living to write `probe.json`."""
    try:
        return folder.source()
    except Transient:
        return None


def _finished(folder: JobFolder) -> tuple[Path, Probe] | None:
    source = _unverified(folder)
    if source is None:
        return None
    try:
        probe = folder.probe()
    except Transient:
        return None
    return (source, probe) if source.stat().st_size == probe.size_bytes else None


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _result(source: Path, probe: Probe) -> DownloadResult:
    return DownloadResult(
        path=source.name,
        size_bytes=probe.size_bytes,
        sha256=probe.sha256,
        duration_s=probe.duration_s,
        width=probe.video.width,
        height=probe.video.height,
        fps=probe.video.fps,
        video_codec=probe.video.codec,
        audio_codec=None if probe.audio is None else probe.audio.codec,
        notes=probe.notes,
    )
