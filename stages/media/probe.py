"""What a source really is, measured from its packets and first pictures, not read from its header."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from stages.artifacts import AudioInfo, Probe, VideoInfo
from stages.errors import Rejected
from stages.media.limits import DEFAULT_LIMITS, MediaLimits
from stages.media.open import VIDEO_DECODERS, audio_stream, explain, open_media, select, video_stream

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_HEAD_S = 20.0
"""Stretch at the beginning whose packets give frame rate and regularity."""
_HEAD_PACKETS = 8000
"""Packets of all streams after which the head ends in any case."""
_HEAD_BAD = 300
"""Packets that do not decode after which a stream counts as undecodable."""
_IRREGULAR = 0.25
"""Share of the median picture interval by which an interval must differ to be irregular."""
_VARIABLE_SHARE = 0.02
"""Share of irregular intervals from which the rate counts as variable."""
_RATE_AGREES = 0.01
"""Share by which the header's rate may differ from the measured one and still be believed."""
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}
"""ITU-T H.273 transfer characteristics."""


@dataclass(slots=True)
class _Track:
    """One stream's packets and first frame, as they pass."""

    stream: Any
    base_s: float
    first: Any = None
    packets: int = 0
    bad: int = 0
    starts: list[float] = field(default_factory=list)
    last_s: float = float("-inf")
    """Latest start of a packet; `end_s` the latest end, equal to it where packets carry no duration."""
    end_s: float = float("-inf")

    def add(self, packet: Packet[Any], keep_start: bool) -> None:
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None:
            return
        self.packets += 1
        start_s = stamp * self.base_s
        self.last_s = max(self.last_s, start_s)
        self.end_s = max(self.end_s, start_s + (packet.duration or 0) * self.base_s)
        if keep_start and not packet.is_discard:
            self.starts.append(start_s)

    def try_first(self, packet: Packet[Any]) -> None:
        import av

        try:
            frames = packet.decode()
        except av.error.MemoryError:
            raise
        except av.error.ArgumentError as error:
            if self.stream.type == "video":
                raise Rejected("its pictures are larger than the limit", "picture-too-large") from error
            self.bad += 1
        except av.error.FFmpegError:
            self.bad += 1
        else:
            self.first = next((f for f in frames if f.pts is not None), frames[0] if frames else None)

    def first_s(self) -> float:
        if self.first is not None and self.first.pts is not None:
            return float(self.first.pts * self.base_s)
        return min(self.starts, default=0.0)


def probe_media(path: Path, limits: MediaLimits = DEFAULT_LIMITS, *, sha256: str = "") -> Probe:
    """Measure a local file: its packets at head and tail, its first picture and first sound.

    The end comes from the last packets, by a jump to the tail where the file allows it, else by walking through all
    packets without decoding. `duration_s` is how long there are pictures. `sha256` is passed into the result.

    Raises `Rejected` with a reason for people when the file is no video within `limits` or takes longer than
    `limits.probe_budget_s` to measure, `Transient` when it cannot be read.
    """
    import av

    deadline = time.monotonic() + limits.probe_budget_s
    notes: list[str] = []
    try:
        with open_media(path, limits) as container:
            video = _track(_checked(video_stream(container)))
            sound = audio_stream(container)
            audio = None if sound is None or sound.codec_context is None else _track(sound)
            tracks = [video] if audio is None else [video, audio]
            select(container, *(t.stream for t in tracks), limits=limits)
            _read_head(container, tracks, deadline)
            if video.first is None:
                raise Rejected("not one picture of this video can be decoded: the file is damaged", "broken")
            if audio is not None and audio.first is None and (audio.bad or not audio.packets):
                notes.append("the sound could not be decoded; treated as a video without sound")
                audio = None
            fps, variable = _rate(video, limits)
            start_s = min(t.first_s() for t in tracks if t.first is not None)
            end_s = _video_end(container, video, fps, limits, deadline)
            duration_s = _checked_duration(end_s - start_s, limits)
            claimed_s = duration_s if container.duration is None else container.duration / av.time_base
            if min(abs(claimed_s - duration_s), abs(claimed_s - start_s - duration_s)) > 1 + duration_s / 50:
                notes.append(f"its header says {claimed_s:.1f} s, but there are pictures for {duration_s:.1f} s")
            return Probe(
                container=container.format.name,
                size_bytes=path.stat().st_size,
                sha256=sha256,
                start_s=start_s,
                duration_s=duration_s,
                video=_video_info(video, fps, variable, notes),
                audio=None if audio is None else _audio_info(audio),
                notes=notes,
            )
    except (av.error.FFmpegError, MemoryError) as error:
        raise explain(error) from error


def _track(stream: VideoStream | AudioStream) -> _Track:
    return _Track(stream, float(stream.time_base or 0))


def _checked(video: VideoStream) -> VideoStream:
    if video.codec_context is None:
        raise Rejected("its pictures are of no known kind: the file is damaged or cut off", "broken")
    name = video.codec_context.name
    if name not in VIDEO_DECODERS:
        raise Rejected(f"its video codec ({name}) is not accepted; convert it to H.264 in MP4 first", "codec-refused")
    if not video.codec_context.width or not video.codec_context.height:
        raise Rejected("its pictures have no size: the file is damaged or cut off", "broken")
    return video


def _packets(container: InputContainer, tracks: list[_Track], deadline: float) -> Iterator[Packet[Any]]:
    """Packets until the file ends, for whatever reason. Raises `Rejected` (`too-slow`) past the deadline."""
    import av

    packets = container.demux(*(t.stream for t in tracks))
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.error.EOFError, av.error.InvalidDataError):
            return
        if time.monotonic() > deadline:
            raise Rejected("measuring this file takes too long: it is damaged or made to be slow", "too-slow")
        yield packet


def _read_head(container: InputContainer, tracks: list[_Track], deadline: float) -> None:
    by_index = {t.stream.index: t for t in tracks}
    video = tracks[0]
    for count, packet in enumerate(_packets(container, tracks, deadline)):
        track = by_index[packet.stream_index]
        track.add(packet, keep_start=True)
        if track.first is None and track.bad < _HEAD_BAD:
            track.try_first(packet)
        if count >= _HEAD_PACKETS or (video.first is None and video.bad >= _HEAD_BAD):
            return
        covered_s = video.starts[-1] - video.starts[0] if video.starts else 0.0
        if covered_s >= _HEAD_S and all(t.first is not None or t.bad >= _HEAD_BAD for t in tracks):
            return


def _rate(video: _Track, limits: MediaLimits) -> tuple[float, bool]:
    """Mean picture rate of the head and whether the intervals vary."""
    starts = sorted(set(video.starts))
    if len(starts) < 2:
        raise Rejected("this is a still picture, not a video", "still-picture")
    fps = (len(starts) - 1) / (starts[-1] - starts[0])
    if fps > limits.max_fps:
        raise Rejected(f"it shows {fps:.0f} pictures a second; the limit is {limits.max_fps:.0f}", "too-many-frames")
    gaps = [b - a for a, b in pairwise(starts)]
    usual_s = median(gaps)
    # Containers round timestamps (Matroska to 1 ms): a tick up or down is not irregular.
    allowed_s = max(_IRREGULAR * usual_s, 1.5 * video.base_s)
    irregular = sum(abs(gap - usual_s) > allowed_s for gap in gaps)
    variable = irregular > max(1, _VARIABLE_SHARE * len(gaps))
    claimed = float(video.stream.guessed_rate or 0)
    if not variable and min(abs(claimed - fps), abs(claimed - 1 / usual_s)) < _RATE_AGREES * fps:
        fps = claimed  # the same, without the rounding of timestamps and a missing picture
    return fps, variable


def _video_end(container: InputContainer, video: _Track, fps: float, limits: MediaLimits, deadline: float) -> float:
    """Presentation time at which the last picture ends, on the stream's clock."""
    import av

    head_end_s = max(video.end_s, video.starts[-1] + 1 / fps)
    tail = _track(video.stream)
    far = round((video.starts[0] + 2 * limits.max_duration_s) / video.stream.time_base)
    try:
        container.seek(far, stream=video.stream, backward=True)
        _follow(container, tail, limits, deadline)
    except av.error.FFmpegError:
        tail.packets = 0
    if tail.packets == 0 or tail.end_s < head_end_s - 1.0:
        container.seek(round(video.starts[0] / video.stream.time_base), stream=video.stream, backward=True)
        tail = _track(video.stream)
        _follow(container, tail, limits, deadline)
    return max(head_end_s, tail.end_s, tail.last_s + (1 / fps if tail.end_s <= tail.last_s else 0.0))


def _follow(container: InputContainer, tail: _Track, limits: MediaLimits, deadline: float) -> None:
    for packet in _packets(container, [tail], deadline):
        tail.add(packet, keep_start=False)
        if tail.packets > limits.max_frames:
            raise Rejected(f"it has more than {limits.max_frames:,} pictures", "too-many-frames")


def _checked_duration(duration_s: float, limits: MediaLimits) -> float:
    if duration_s > limits.max_duration_s:
        raise Rejected(
            f"it runs for {duration_s / 3600:.1f} hours; the limit is {limits.max_duration_s / 3600:.1f} hours",
            "too-long",
        )
    return duration_s


def _video_info(track: _Track, fps: float, variable: bool, notes: list[str]) -> VideoInfo:
    stream: VideoStream = track.stream
    frame: VideoFrame = track.first
    rotation = round(-frame.rotation / 90) * 90 % 360
    if frame.rotation % 90:
        notes.append(f"its rotation of {frame.rotation} degrees was taken as {rotation}")
    aspect = stream.sample_aspect_ratio
    wide = float(aspect) if aspect and 0.1 <= aspect <= 10 else 1.0
    width, height = round(frame.width * wide), frame.height
    if rotation in (90, 270):
        width, height = height, width
    hdr = _HDR_TRANSFERS.get(int(frame.color_trc))
    if hdr is not None:
        notes.append(f"high dynamic range ({hdr}): brought down to standard range in the clips")
    return VideoInfo(
        index=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        profile=stream.codec_context.profile,
        width=width,
        height=height,
        coded_width=frame.width,
        coded_height=frame.height,
        rotation=rotation,
        fps=fps,
        variable_rate=variable,
        pix_fmt=frame.format.name,
        bit_depth=max((c.bits for c in frame.format.components), default=8),
        hdr=hdr is not None,
    )


def _audio_info(track: _Track) -> AudioInfo:
    stream: AudioStream = track.stream
    frame: AudioFrame | None = track.first
    return AudioInfo(
        index=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        rate_hz=frame.sample_rate if frame is not None else stream.codec_context.sample_rate,
        channels=len(frame.layout.channels) if frame is not None else stream.codec_context.layout.nb_channels,
    )
