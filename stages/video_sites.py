"""Pages of video sites, through yt-dlp where the `youtube` extra is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.address import guarded_lookups
from stages.errors import Misconfigured, Rejected, Transient
from stages.fetch import FetchRules

INSTALL = "pip install 'agentos-appliance[youtube]'"
_FORMAT = "bv*[height<=1080][vcodec^=avc1],ba[acodec^=mp4a]/bv*[height<=1080],ba/b[height<=1080]/b"


def fetch_page(url: str, folder: Path, rules: FetchRules, progress: Callable[[int, int | None], None]) -> list[Path]:
    """Download the video of a page into `folder` (existing, ours alone); picture and sound may come as two files.

    Goes on where an earlier call ended. Raises `Misconfigured` where yt-dlp is missing, `Rejected` where the page has
    no video that can be had, `Transient` for network trouble.
    """
    try:
        import yt_dlp
    except ImportError as error:
        raise Misconfigured(
            f"this URL is a web page, not a video file; pages need yt-dlp on the box: {INSTALL}", "yt-dlp-missing"
        ) from error
    options: dict[str, Any] = {
        "format": _FORMAT,
        "outtmpl": str(folder / "%(format_id)s.%(ext)s"),
        # The generic extractor would fetch whatever a page names: it runs only where private hosts are allowed anyway.
        "allowed_extractors": ["default"] if rules.allow_private_hosts else ["default", "-generic"],
        "max_filesize": rules.max_bytes,
        "noplaylist": True,
        "playlist_items": "1",
        "quiet": True,
        "no_warnings": True,
        "noprogress": True,
        "cachedir": False,
        "proxy": "",
        "socket_timeout": rules.stall_s,
        "retries": 3,
        "fragment_retries": 3,
        "continuedl": True,
        "overwrites": False,
        "enable_file_urls": False,
        "fixup": "never",
        "postprocessors": [],
        "logger": _Silent(),
        "progress_hooks": [lambda state: progress(_bytes(state, "downloaded_bytes") or 0, _total(state))],
    }
    try:
        with guarded_lookups(allow_private=rules.allow_private_hosts), yt_dlp.YoutubeDL(options) as loader:
            loader.download([url])
    except Rejected:
        raise
    except yt_dlp.utils.DownloadError as error:
        raise _explain(error) from error
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.suffix not in (".part", ".ytdl"))
    if not files:
        raise Rejected("the page has no video within the limits", "page-no-video")
    return files


def _explain(error: Exception) -> Rejected | Transient:
    text = str(error).removeprefix("ERROR: ").strip()
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, Rejected):
            return cause
        cause = getattr(cause, "cause", None) or cause.__cause__ or cause.__context__
    if "Unsupported URL" in text:
        return Rejected("this page is on no video site that is known here, and is not a video file", "page-unknown")
    passing = ("timed out", "timeout", "HTTP Error 5", "HTTP Error 429", "Connection", "resolve", "reset by peer")
    if any(word in text for word in passing):
        return Transient(f"the video site did not deliver: {text[:300]}", "page-unavailable")
    return Rejected(f"the video site gives no video: {text[:300]}", "page-refused")


def _bytes(state: dict[str, Any], name: str) -> int | None:
    value = state.get(name)
    return int(value) if value is not None else None


def _total(state: dict[str, Any]) -> int | None:
    return _bytes(state, "total_bytes") or _bytes(state, "total_bytes_estimate")


class _Silent:
    """yt-dlp writes to the terminal unless given a logger."""

    def debug(self, message: str) -> None:
        """Nothing."""

    def warning(self, message: str) -> None:
        """Nothing."""

    def error(self, message: str) -> None:
        """Nothing; the exception says it."""
