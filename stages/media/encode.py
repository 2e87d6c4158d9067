"""The clip's file: H.264 through libx264 or NVENC, and the sound beside it, in an MP4 that starts playing at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from stages.base import Device
from stages.errors import Misconfigured, Transient
from stages.media.colour import BT709, LIMITED

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

AUDIO_RATE_HZ = 48_000
_PROBE_SIZE = 256
"""Side of the trial picture; NVENC's smallest H.264 picture is 145 x 49."""


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """What is asked of the encoder, in x264's terms."""

    preset: str
    crf: int
    max_bitrate_kbps: int
    threads: int
    """0 lets the encoder choose."""
    keyframe_s: float = 2.0


@dataclass(frozen=True, slots=True)
class VideoEncoder:
    """An encoder that is known to work on this machine."""

    name: str
    """libav's: `libx264` or `h264_nvenc`."""
    device: str
    """`cpu` or `cuda`."""
    options: Callable[[VideoSettings], dict[str, str]]
    notes: list[str] = field(default_factory=list)


def choose_encoder(device: Device, trial: Callable[[VideoEncoder], str | None] | None = None) -> VideoEncoder:
    """The encoder for `device`; `auto` takes NVENC where a real trial encode works, else libx264 with a note.

    `trial` encodes a few pictures and returns what went wrong, or None. Raises `Misconfigured` (`no-nvenc`) when
    `cuda` was asked for and NVENC does not work.
    """
    x264 = VideoEncoder("libx264", "cpu", _x264_options)
    if device == "cpu":
        return x264
    nvenc = VideoEncoder("h264_nvenc", "cuda", _nvenc_options)
    trouble = (trial or try_encoder)(nvenc)
    if trouble is None:
        return nvenc
    if device == "cuda":
        raise Misconfigured(
            f"stages.cut.device is cuda, but this card cannot encode H.264 ({trouble}); set it to auto or cpu",
            "no-nvenc",
        )
    return VideoEncoder("libx264", "cpu", _x264_options, [f"encoded on the CPU: NVENC is not usable here ({trouble})"])


def try_encoder(encoder: VideoEncoder) -> str | None:
    """Encode four grey pictures; None when packets come out, else why not, in a few words."""
    import av
    from av.video.frame import VideoFrame

    try:
        context = av.CodecContext.create(encoder.name, "w")
        context.width = context.height = _PROBE_SIZE  # type: ignore[attr-defined]  # a video context
        context.pix_fmt = "yuv420p"  # type: ignore[attr-defined]
        context.time_base = Fraction(1, 30)
        context.options = encoder.options(VideoSettings("medium", 20, 8000, 1))
        packets = []
        for k in range(4):
            frame = VideoFrame(_PROBE_SIZE, _PROBE_SIZE, "yuv420p")
            for plane in frame.planes:
                plane.update(b"\x80" * plane.buffer_size)
            frame.pts = k
            packets += context.encode(frame)  # type: ignore[attr-defined]
        packets += context.encode(None)  # type: ignore[attr-defined]
    except (av.error.FFmpegError, ValueError, OSError) as error:
        return str(getattr(error, "strerror", None) or error)
    return None if packets else "it gave no packets"


class ClipWriter:
    """An MP4 being written: a soundtrack, and pictures one by one. Every call may raise `Transient`
    (`encode-failed`) when the encoder or the disk fails."""

    def __init__(
        self,
        path: Path,
        rate: Fraction,
        size: tuple[int, int],
        encoder: VideoEncoder,
        settings: VideoSettings,
        audio_kbps: int,
    ) -> None:
        import av

        self._rate = rate
        self._encoder = encoder.name
        self.frames = 0
        self._sound: deque[Packet[Any]] | None = None
        self._held: list[Packet[Any]] = []
        with self._explained():
            self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
            added = self._container.add_stream(encoder.name, rate=rate, options=encoder.options(settings))
            self._video = stream = cast("VideoStream", added)
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
            stream.time_base = 1 / rate
            context = stream.codec_context
            context.time_base = 1 / rate
            context.gop_size = max(1, round(settings.keyframe_s * float(rate)))
            context.sample_aspect_ratio = Fraction(1, 1)
            context.color_primaries = context.color_trc = context.colorspace = BT709
            context.color_range = LIMITED
            # PyAV presets threads within a picture: for x264 those are slices, slower than pictures side by side.
            context.thread_type = "FRAME"
            if settings.threads:
                context.thread_count = settings.threads
            self._audio = self._container.add_stream("aac", rate=AUDIO_RATE_HZ, layout="stereo")
            self._audio.codec_context.bit_rate = audio_kbps * 1000

    def sound(self, packets: list[Packet[Any]]) -> None:
        """The whole soundtrack as `stages.media.soundtrack.encode_aac` made it. It may come while pictures are written:
        their packets wait in memory for it."""
        self._sound = deque(packets)
        held, self._held = self._held, []
        with self._explained():
            self._mux(held)

    def write(self, picture: VideoFrame) -> None:
        """The next picture, yuv420p, BT.709 limited."""
        picture.pts = self.frames
        picture.time_base = 1 / self._rate
        picture.colorspace, picture.color_range = BT709, LIMITED
        with self._explained():
            self._mux(self._video.encode(picture))
        self.frames += 1

    def finish(self) -> None:
        """Write what the encoder still holds, then the index in front of it all; the soundtrack must be there."""
        assert self._sound is not None
        with self._explained():
            self._mux(self._video.encode(None))
            self._feed(None)
            self._container.close()

    def close(self) -> None:
        """Let go of the file; after `finish` nothing, else it stays incomplete."""
        with suppress(OSError, ValueError):
            self._container.close()

    def _mux(self, packets: list[Packet[Any]]) -> None:
        if self._sound is None:
            self._held += packets
            return
        for packet in packets:
            if packet.pts is not None:
                self._feed(float(packet.pts * packet.time_base))
            self._container.mux(packet)

    def _feed(self, until_s: float | None) -> None:
        """Sound up to `until_s`, so that neither stream runs ahead in the file."""
        while self._sound:
            packet = self._sound[0]
            if until_s is not None and float((packet.pts or 0) * packet.time_base) > until_s:
                return
            packet.stream = self._audio
            self._container.mux(self._sound.popleft())

    @contextmanager
    def _explained(self) -> Iterator[None]:
        import av

        try:
            yield
        except (av.error.FFmpegError, OSError) as error:
            raise Transient(f"encoding the clip with {self._encoder} failed: {error}", "encode-failed") from error


def _x264_options(settings: VideoSettings) -> dict[str, str]:
    """`profile` only caps; the 8x8 transform, which the fastest preset leaves out, is what makes a stream High."""
    return {
        "preset": settings.preset,
        "crf": str(settings.crf),
        "profile": "high",
        "8x8dct": "1",
        "maxrate": f"{settings.max_bitrate_kbps}k",
        "bufsize": f"{2 * settings.max_bitrate_kbps}k",
    }


def _nvenc_options(settings: VideoSettings) -> dict[str, str]:
    """p5 with adaptive quantisation; its constant quality looks like x264's CRF at about one step more."""
    return {
        "preset": "p5",
        "tune": "hq",
        "profile": "high",
        "rc": "vbr",
        "cq": str(settings.crf + 1),
        "b": "0",
        "maxrate": f"{settings.max_bitrate_kbps}k",
        "bufsize": f"{2 * settings.max_bitrate_kbps}k",
        "spatial-aq": "1",
        "temporal-aq": "1",
        "bf": "3",
        "rc-lookahead": "20",
        "forced-idr": "1",
    }
