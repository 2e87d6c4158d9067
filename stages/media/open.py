"""The one door through which every outside file is opened.

FFmpeg decides what a file is by its content, and among its 371 formats are playlists that name other files and hosts:
only a format whitelist stops them (protocol whitelists do not stop `ffconcat`). Pixel limits must be set for the
demuxer, which decodes while it looks at streams, and again on each decoder.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.errors import Rejected, Transient
from stages.media.limits import DEFAULT_LIMITS, MediaLimits
from stages.media.sniff import container_of, describe, read_head

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts"
VIDEO_DECODERS = (
    "h264", "hevc", "vp8", "vp9", "libvpx", "libvpx-vp9", "av1", "libdav1d", "mpeg4", "mpeg2video", "mpeg1video",
    "mjpeg", "prores", "dnxhd", "ffv1", "h263", "theora", "vc1", "wmv3", "msmpeg4v2", "msmpeg4", "dvvideo", "cfhd",
    "rawvideo",
)  # fmt: skip
AUDIO_DECODERS = (
    "aac", "aac_latm", "mp3float", "mp3", "mp2float", "mp2", "opus", "libopus", "vorbis", "libvorbis", "flac", "alac",
    "ac3", "eac3", "dca", "amrnb", "amrwb", "adpcm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "wmav2", "pcm_s16le",
    "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_u8", "pcm_s8", "pcm_f32le", "pcm_f32be",
    "pcm_f64le", "pcm_mulaw", "pcm_alaw", "pcm_bluray", "pcm_s16le_planar",
)  # fmt: skip
_CODECS = ",".join(VIDEO_DECODERS + AUDIO_DECODERS)


@contextmanager
def open_media(path: Path, limits: MediaLimits = DEFAULT_LIMITS) -> Iterator[InputContainer]:
    """Yield the demuxer of a local file, with every limit in force and no decoder opened yet.

    Raises `Rejected` with codes `not-a-file`, `empty`, `too-large`, `not-a-video`, `broken`, `too-many-streams`,
    `picture-too-large`, `too-many-frames`, `too-much-memory`; `Transient` (`read-failed`) when the machine is the
    trouble. Errors of FFmpeg inside the block are the caller's, see `explain`.
    """
    import av

    size = _check_file(path, limits)
    head = read_head(path)
    if container_of(head) is None:
        raise Rejected(f"this is not a video: the file is {describe(head)}", "not-a-video")
    options = {
        "format_whitelist": FORMATS,
        "protocol_whitelist": "file",
        "codec_whitelist": _CODECS,
        "max_pixels": str(limits.max_pixels),
        "max_streams": str(limits.max_streams + 1),  # one more, to be able to say so
        "threads": "1",
    }
    try:
        # An absolute path has no colon before its first slash, so it can never be read as a protocol.
        container = av.open(
            str(path.absolute()), mode="r", options=options, timeout=limits.open_timeout_s, metadata_errors="replace"
        )
    except (av.error.FFmpegError, ValueError, MemoryError) as error:
        raise explain(error) from error
    with container:
        _check_streams(container, size, limits)
        yield container


def video_stream(container: InputContainer) -> VideoStream:
    """The stream that people watch: FFmpeg's best one that is not a cover picture. Raises `Rejected`, `no-video`."""
    from av.stream import Disposition

    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        found = "only sound" if container.streams.audio else "no picture and no sound"
        raise Rejected(f"there is no video in this file: it holds {found}", "no-video")
    best = container.streams.best("video")
    return next((s for s in moving if best is not None and s.index == best.index), moving[0])


def audio_stream(container: InputContainer) -> AudioStream | None:
    """The stream that people hear, or None."""
    best = container.streams.best("audio")
    return next((s for s in container.streams.audio if best is not None and s.index == best.index), None)


def stream_at(container: InputContainer, index: int, kind: Literal["video", "audio"]) -> Any:
    """The stream that the probe chose. Raises `Rejected` (`changed`) when the file is no longer the probed one."""
    if index >= len(container.streams) or container.streams[index].type != kind:
        raise Rejected(f"the file changed since it was checked: its stream {index} is no longer {kind}", "changed")
    return container.streams[index]


def select(container: InputContainer, *wanted: VideoStream | AudioStream, limits: MediaLimits = DEFAULT_LIMITS) -> None:
    """Read only the `wanted` streams, their decoders under `limits`; call before the first packet is decoded."""
    from av.stream import Discard

    for stream in container.streams:
        stream.discard = Discard.default if any(stream.index == w.index for w in wanted) else Discard.all
    for stream in wanted:
        context = stream.codec_context
        context.options = {**context.options, "max_pixels": str(limits.max_pixels)}
        context.thread_count = limits.threads if stream.type == "video" else 1
        context.thread_type = "AUTO"


def explain(error: Exception) -> Rejected | Transient:
    """The error of ours that a failure inside FFmpeg stands for."""
    import errno

    import av

    if isinstance(error, MemoryError | av.error.MemoryError):
        return Rejected("opening this file takes more memory than a video may cost", "too-much-memory")
    code = getattr(error, "errno", None)
    text = str(error)
    if isinstance(error, av.error.ExitError | TimeoutError):
        return Transient("reading the file took too long", "read-failed")
    if code in (errno.EIO, errno.EACCES, errno.EPERM, errno.ENOENT, errno.EMFILE, errno.ENFILE):
        return Transient(f"the file cannot be read: {text}", "read-failed")
    return Rejected(
        "this is not a video that can be read: the file is damaged, cut off or not what it claims", "broken"
    )


def _check_file(path: Path, limits: MediaLimits) -> int:
    try:
        found = path.stat()
    except OSError as error:
        raise Transient(f"the file cannot be read: {error}", "read-failed") from error
    if not stat.S_ISREG(found.st_mode):
        raise Rejected("this is not a file but a folder, device or pipe", "not-a-file")
    if found.st_size == 0:
        raise Rejected("the file is empty (0 bytes)", "empty")
    if found.st_size > limits.max_bytes:
        raise Rejected(
            f"the file has {found.st_size / 1e9:.1f} GB; the limit is {limits.max_bytes / 1e9:.1f} GB", "too-large"
        )
    return found.st_size


def _check_streams(container: InputContainer, size: int, limits: MediaLimits) -> None:
    """Refuse by header what no honest file would claim; nothing is accepted on a header's word."""
    if len(container.streams) > limits.max_streams:
        raise Rejected(
            f"the file has {len(container.streams)} streams; the limit is {limits.max_streams}", "too-many-streams"
        )
    for stream in container.streams.video:
        context = getattr(stream, "codec_context", None)  # None, although typed otherwise, for an unknown codec
        width, height = (context.width, context.height) if context is not None else (0, 0)
        if width * height > limits.max_pixels:
            raise Rejected(
                f"its pictures are {width}x{height} pixels; the limit is {limits.max_pixels / 1e6:.0f} million pixels"
                " (8K). Scale it down first",
                "picture-too-large",
            )
        if stream.frames > min(limits.max_frames, size):
            raise Rejected(
                f"its header claims {stream.frames:,} pictures in {size:,} bytes; the limit is {limits.max_frames:,}",
                "too-many-frames",
            )
