"""How much of a machine one outside file may cost."""

from __future__ import annotations

from msgspec import Struct


class MediaLimits(Struct, frozen=True, kw_only=True):
    """Ceilings checked when a file is opened, probed and decoded. The defaults admit 8K and a four-hour talk."""

    max_pixels: int = 36_000_000
    """Coded width times height of one picture; set on the demuxer and again on each decoder."""
    max_duration_s: float = 4 * 3600.0
    max_bytes: int = 20_000_000_000
    max_frames: int = 1_000_000
    """Video packets; 4 h at 60 fps are 864,000."""
    max_streams: int = 32
    max_fps: float = 480.0
    threads: int = 2
    """Decoder threads."""
    open_timeout_s: float = 10.0
    """Reading a header, and each single read after it."""
    probe_budget_s: float = 30.0
    """Wall time of one `probe_media`; past it the file is refused."""


DEFAULT_LIMITS = MediaLimits()
