"""The finished clip, opened again and checked against what was promised, before anybody sees it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.errors import Transient

if TYPE_CHECKING:
    from av.container import InputContainer

_SYNC_S = 0.040
"""Sound and picture may start and end this far apart (EBU R37: 40 ms before to 60 ms behind)."""


def verify_clip(path: Path, frames: int, rate: Fraction, size: tuple[int, int]) -> None:
    """Raise `Transient` (`clip-defective`), naming each figure that is wrong, unless `path` is an MP4 with its index in
    front, one H.264 High stream of exactly `frames` pictures of `size` at `rate`, tagged BT.709, and one AAC stream of
    48 kHz stereo, both starting at 0 and ending together, timestamps rising, the first picture decodable.
    """
    import av

    faults: list[str] = []
    try:
        if not index_in_front(path):
            faults.append("the index lies behind the media (no faststart)")
        with av.open(str(path), format="mp4") as container:
            faults += _faults(container, frames, rate, size)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        faults.append(f"it cannot be opened again ({error})")
    if faults:
        raise Transient(f"the encoded clip failed its check: {'; '.join(faults)}", "clip-defective")


def index_in_front(path: Path) -> bool:
    """Whether `moov` comes before `mdat`."""
    with path.open("rb") as file:
        while len(head := file.read(8)) == 8:
            size, kind = int.from_bytes(head[:4], "big"), head[4:]
            if kind in (b"moov", b"mdat"):
                return kind == b"moov"
            if size == 1:
                size = int.from_bytes(file.read(8), "big") - 8
            file.seek(max(size, 8) - 8, 1)
    return False


def _faults(container: InputContainer, frames: int, rate: Fraction, size: tuple[int, int]) -> list[str]:
    kinds = sorted(stream.type for stream in container.streams)
    if kinds != ["audio", "video"]:
        return [f"streams are {', '.join(kinds) or 'missing'} instead of one video and one audio"]
    video, audio = container.streams.video[0], container.streams.audio[0]
    context = video.codec_context
    faults = [
        f"{what} is {found} instead of {wanted}"
        for what, found, wanted in (
            ("video codec", context.name, "h264"),
            ("profile", context.profile, "High"),
            ("picture size", (context.width, context.height), size),
            ("pixel format", context.pix_fmt, "yuv420p"),
            ("colour", (context.color_primaries, context.color_trc, context.colorspace, context.color_range),
             (1, 1, 1, 1)),
            ("audio codec", audio.codec_context.name, "aac"),
            ("sample rate", audio.codec_context.sample_rate, 48_000),
            ("channels", audio.codec_context.channels, 2),
        )
        if found != wanted
    ]  # fmt: skip
    stamps: dict[str, list[Any]] = {"video": [], "audio": []}
    previous: dict[str, int] = {}
    decoded = 0
    for packet in container.demux(video, audio):
        if packet.pts is None or packet.dts is None:
            continue  # the flush packet
        kind = packet.stream.type
        if packet.dts <= previous.get(kind, packet.dts - 1):
            faults.append(f"{kind} timestamps do not rise at {float(packet.dts * packet.time_base):.3f} s")
        previous[kind] = packet.dts
        stamps[kind].append((packet.pts, packet.duration))
        if kind == "video" and not decoded:
            if not packet.is_keyframe and len(stamps[kind]) == 1:
                faults.append("the first picture is not a keyframe")
            decoded += len(packet.decode())
    pictures = sorted(pts * video.time_base for pts, _ in stamps["video"])
    if len(pictures) != frames:
        faults.append(f"it has {len(pictures)} pictures instead of {frames}")
    if not pictures or not stamps["audio"] or not decoded:
        return [*faults, "a stream is empty or its first picture cannot be decoded"]
    if pictures[0] != 0:
        faults.append(f"the picture starts at {float(pictures[0]):.4f} s instead of 0")
    drift = max(abs(at - k / rate) for k, at in enumerate(pictures))
    if drift > Fraction(1, 1000):
        faults.append(f"pictures lie up to {float(drift) * 1000:.1f} ms off the constant rate")
    begin_s = float(stamps["audio"][0][0] * audio.time_base)
    if not -0.1 < begin_s <= 0.0005:
        faults.append(f"the sound starts at {begin_s:.4f} s instead of 0")
    last, duration = stamps["audio"][-1]
    apart_s = float((last + (duration or 0)) * audio.time_base) - frames / float(rate)
    if abs(apart_s) > _SYNC_S:
        faults.append(f"the sound ends {apart_s * 1000:.0f} ms from the picture")
    return faults
