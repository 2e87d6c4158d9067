"""Stream time to source time, and decoding that starts early enough.

Source time: seconds since the start of the source's presentation timeline, `pts * time_base - probe.start_s`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.artifacts import Probe
from stages.errors import Rejected
from stages.media.limits import MediaLimits
from stages.media.open import explain, open_media, select, stream_at

if TYPE_CHECKING:
    from av.container import InputContainer

_SEEK_MARGINS_S = (0.0, 2.0, 15.0, 120.0, float("inf"))
"""How far before the range to start, one after the other, until the first picture lies at or before the range."""
_MAX_BAD_PACKETS = 500
"""Damaged packets in a row after which the rest of the stream counts as lost."""
_EPSILON_S = 1e-6


def decoded(
    path: Path,
    probe: Probe,
    kind: Literal["video", "audio"],
    start_s: float,
    end_s: float,
    limits: MediaLimits,
    prepare: Callable[[Any], None] | None = None,
) -> Iterator[tuple[float, Any]]:
    """Yield (source time, frame) in order of time from at or before `start_s` up to `end_s` (exclusive).

    Starts at the keyframe before `start_s`; a file whose index leads too far (transport streams, reordered pictures)
    is entered earlier, at worst at its beginning. Frames without a timestamp follow their forerunner. Damaged packets
    are passed over. `prepare` gets the stream before its decoder opens.
    """
    index = probe.video.index if kind == "video" or probe.audio is None else probe.audio.index
    for margin_s in _SEEK_MARGINS_S:
        with open_media(path, limits) as container:
            stream = stream_at(container, index, kind)
            select(container, stream, limits=limits)
            if prepare is not None:
                prepare(stream)
            sought = start_s - margin_s > 0 and _seek(container, stream, probe, start_s - margin_s)
            frames = _timed(_frames(container, stream), stream, probe)
            first = next(frames, None)
            if sought and (first is None or first[0] > start_s + _EPSILON_S):
                continue
            for t_s, frame in chain([first] if first is not None else [], frames):
                if t_s >= end_s - _EPSILON_S:
                    return
                yield t_s, frame
            return


def _timed(frames: Iterator[Any], stream: Any, probe: Probe) -> Iterator[tuple[float, Any]]:
    """Frames with their source times, strictly increasing; what comes late or twice is dropped."""
    base_s = float(stream.time_base)
    step_s = 1 / max(probe.video.fps, 1.0)
    last_s: float | None = None
    for frame in frames:
        if frame.pts is not None:
            t_s = frame.pts * base_s - probe.start_s
        else:
            t_s = (
                0.0
                if last_s is None
                else last_s + (frame.samples / frame.sample_rate if hasattr(frame, "samples") else step_s)
            )
        if last_s is None or t_s > last_s:
            last_s = t_s
            yield t_s, frame


def _frames(container: InputContainer, stream: Any) -> Iterator[Any]:
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


def _seek(container: InputContainer, stream: Any, probe: Probe, t_s: float) -> bool:
    """Move to the last keyframe at or before `t_s`; False where that is not possible (the container stays at 0)."""
    import av

    try:
        container.seek(round((t_s + probe.start_s) / stream.time_base), stream=stream, backward=True)
    except av.error.FFmpegError:
        return False
    return True
