"""Stream time to source time, and decoding that starts early enough.

Source time: seconds since the start of the source's presentation timeline, `pts * time_base - probe.start_s`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from stages.artifacts import Probe
from stages.errors import Rejected
from stages.media.open import explain

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

_SEEK_MARGINS_S = (0.0, 2.0, 15.0, 120.0)
"""How far before the range to start, one after the other, until the first picture lies at or before the range."""
_MAX_BAD_PACKETS = 500
"""Damaged packets in a row after which the rest of the stream counts as lost."""
_EPSILON_S = 1e-6


def decoded(
    container: InputContainer,
    stream: VideoStream | AudioStream,
    probe: Probe,
    start_s: float,
    end_s: float,
    frame_s: float,
) -> Iterator[tuple[float, Any]]:
    """Yield (source time, frame) in order of time from at or before `start_s` up to `end_s` (exclusive).

    Seeks to the keyframe before `start_s`; a file whose index leads too far is entered earlier, at worst at its
    beginning. Frames without a timestamp follow their forerunner after `frame_s`. Damaged packets are passed over.
    """
    for margin_s in (*_SEEK_MARGINS_S, None):
        at_beginning = margin_s is None or start_s - margin_s <= 0
        _seek(container, stream, probe, 0.0 if margin_s is None or at_beginning else start_s - margin_s)
        last_s = float("-inf")
        for frame in _frames(container, stream):
            t_s = _time(frame.pts, stream, probe)
            if t_s is None:
                t_s = max(last_s + frame_s, 0.0)
            if last_s == float("-inf") and t_s > start_s + _EPSILON_S and not at_beginning:
                break  # the index led past the range
            if t_s <= last_s:
                continue
            last_s = t_s
            if t_s >= end_s - _EPSILON_S:
                return
            yield t_s, frame
        else:
            if last_s > float("-inf") or at_beginning:
                return


def _frames(container: InputContainer, stream: VideoStream | AudioStream) -> Iterator[Any]:
    import av

    bad = 0
    packets = container.demux(stream)
    while bad < _MAX_BAD_PACKETS:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except MemoryError as error:
            raise explain(error) from error
        except av.error.FFmpegError:
            return  # the file ends here, cut off or unreadable
        try:
            frames = packet.decode()
        except (MemoryError, av.error.MemoryError) as error:
            raise explain(error) from error
        except av.error.ArgumentError as error:
            raise Rejected("a picture in this file is larger than the limit", "picture-too-large") from error
        except av.error.FFmpegError:
            bad += 1
            continue
        if frames:
            bad = 0
        yield from frames


def _time(pts: int | None, stream: VideoStream | AudioStream, probe: Probe) -> float | None:
    if pts is None or stream.time_base is None:
        return None
    return float(pts * stream.time_base) - probe.start_s


def _seek(container: InputContainer, stream: VideoStream | AudioStream, probe: Probe, t_s: float) -> None:
    """To the last keyframe at or before `t_s`, or to the beginning where that is not possible."""
    import av

    if stream.time_base is None:
        return
    for target_s in (t_s, 0.0):
        try:
            container.seek(round((target_s + probe.start_s) / stream.time_base), stream=stream, backward=True)
        except av.error.FFmpegError:
            continue
        return
