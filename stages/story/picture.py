"""What can be told of the picture cheaply: change from keyframe to keyframe, and cuts near a border."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from stages.artifacts import Probe

if TYPE_CHECKING:
    import numpy as np
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    Grey = NDArray[np.uint8]

_SIZE = (32, 18)
_KEYFRAME_EVERY_S = 1.0
"""Closer keyframes (all-intra sources) are not decoded."""
_CUT_LEVEL = 14.0
"""Mean grey difference (of 255) of neighbouring frames from which a cut is possible …"""
_CUT_RATIO = 4.0
"""… if it is also this many times the median difference around it."""


def changes(path: Path, probe: Probe) -> list[tuple[float, float]]:
    """(source time, mean grey difference 0..255 to the keyframe before) for keyframes at least 1 s apart.

    Only keyframes are decoded. Empty where nothing can be decoded.
    """
    import av
    import numpy as np
    from av.stream import Discard

    from stages.media.open import open_media, select, stream_at

    found: list[tuple[float, float]] = []
    last: Grey | None = None
    asked_s = -np.inf
    with open_media(path) as container:
        stream = stream_at(container, probe.video.index, "video")
        select(container, stream)
        stream.discard = Discard.nonkey  # where the container has an index, other packets are not even read
        base = float(stream.time_base)

        def look(packet: av.Packet[VideoStream] | None) -> None:
            nonlocal last
            try:
                frames = stream.codec_context.decode(packet)
            except av.error.FFmpegError:
                return
            for frame in frames:
                if frame.pts is None:
                    continue
                small = frame.reformat(width=_SIZE[0], height=_SIZE[1], format="gray", interpolation="AREA")
                grey = np.asarray(small.to_ndarray(), np.uint8)
                if last is not None:
                    difference = float(np.mean(np.abs(grey.astype(np.int16) - last)))
                    found.append((frame.pts * base - probe.start_s, difference))
                last = grey

        for packet in container.demux(stream):
            if packet.pts is None or not packet.is_keyframe:
                continue
            if packet.pts * base - asked_s >= _KEYFRAME_EVERY_S:
                asked_s = packet.pts * base
                look(packet)
        look(None)
    return found


def cuts(path: Path, probe: Probe, start_s: float, end_s: float) -> list[float]:
    """Times of the first frames after hard cuts in [start_s, end_s), a few seconds at most; decoded at 32 pixels."""
    import numpy as np

    from stages.media.video import read_frames

    start_s = max(0.0, start_s - 2 / max(probe.video.fps, 1.0))
    times: list[float] = []
    differences: list[float] = []
    last: Grey | None = None
    for frame in read_frames(path, probe, start_s, end_s, pix_fmt="gray", width=_SIZE[0], analysis=True):
        if last is not None and frame.image.shape == last.shape:
            times.append(frame.t_s)
            differences.append(float(np.mean(np.abs(frame.image.astype(np.int16) - last))))
        last = frame.image
    if not differences:
        return []
    usual = float(np.median(differences))
    return [t for t, d in zip(times, differences, strict=True) if d >= _CUT_LEVEL and d >= _CUT_RATIO * usual]
