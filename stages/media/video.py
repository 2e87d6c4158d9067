"""Pictures of a range of the source, decoded once, scaled where they are decoded, upright."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from stages.artifacts import Probe
from stages.media.clock import decoded
from stages.media.limits import DEFAULT_LIMITS, MediaLimits

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]

ImageT = TypeVar("ImageT", covariant=True)
_PACKED = {"rgb24", "bgr24", "rgba", "bgra", "gray"}
_GRID_SLACK = 0.01
"""Share of a grid step by which a picture may come early and still count as on the grid (rounded timestamps)."""
_EARLY_S = 1e-6
"""Rounding of a timestamp below which a picture at `start_s` is not early."""
_COARSE_FRAMES = 6.0
"""From this many pictures per grid step on, unreferenced ones are not decoded: encoders chain at most a few."""


@dataclass(frozen=True, slots=True)
class Frame(Generic[ImageT]):
    """One picture. `image` is an upright array (height, width[, channels]) or, unconverted, the decoder's frame."""

    t_s: float
    """Source time at which it appears."""
    index: int
    """Counts the frames of this call, from 0."""
    image: ImageT


@overload
def read_frames(
    path: Path, probe: Probe, start_s: float, end_s: float, *, pix_fmt: None = None, width: None = None,
    every_s: float | None = None, analysis: bool | None = None, limits: MediaLimits = DEFAULT_LIMITS,
) -> Iterator[Frame[VideoFrame]]: ...  # fmt: skip


@overload
def read_frames(
    path: Path, probe: Probe, start_s: float, end_s: float, *, pix_fmt: str, width: int | None = None,
    every_s: float | None = None, analysis: bool | None = None, limits: MediaLimits = DEFAULT_LIMITS,
) -> Iterator[Frame[Picture]]: ...  # fmt: skip


def read_frames(
    path: Path,
    probe: Probe,
    start_s: float,
    end_s: float,
    *,
    pix_fmt: str | None = None,
    width: int | None = None,
    every_s: float | None = None,
    analysis: bool | None = None,
    limits: MediaLimits = DEFAULT_LIMITS,
) -> Iterator[Frame[Any]]:
    """Yield the pictures with start_s <= t < end_s, in order of time; memory does not grow with the range.

    `pix_fmt` names one of rgb24, bgr24, rgba, bgra or gray: pictures come as uint8 arrays, rotated upright, with
    square pixels, `width` pixels wide (default: the upright width; the height keeps the shape). Without it the
    decoder's own frames come: coded size, neither rotated nor scaled.

    `every_s` yields the first picture at or after each point of a grid from `start_s`. `analysis` (default: when
    `every_s` is given) lets the decoder skip the loop filter, and with a coarse grid also pictures that no other
    picture depends on: good for measuring, not for showing. Damaged packets are passed over.

    Raises `Rejected` where the source cannot be opened or a picture breaks a limit.
    """
    if pix_fmt is not None and pix_fmt not in _PACKED:
        raise ValueError(f"pix_fmt is one of {', '.join(sorted(_PACKED))}, not {pix_fmt}")
    analysis = every_s is not None if analysis is None else analysis

    def prepare(stream: VideoStream) -> None:
        if analysis:
            _decode_coarsely(stream, probe, every_s)

    index, due_s = 0, start_s
    for t_s, frame in decoded(path, probe, "video", start_s, end_s, limits, prepare):
        if t_s < start_s - _EARLY_S or (every_s is not None and t_s < due_s - _GRID_SLACK * every_s):
            continue
        if every_s is not None:
            due_s = start_s + every_s * (int((t_s - start_s) / every_s + _GRID_SLACK) + 1)
        yield Frame(t_s, index, frame if pix_fmt is None else _upright(frame, probe, pix_fmt, width))
        index += 1


def upright_size(probe: Probe, width: int | None = None) -> tuple[int, int]:
    """Width and height of an upright picture of the source scaled to `width`, both even when scaled."""
    video = probe.video
    if width is None or width == video.width:
        return video.width, video.height
    even = max(2, width - width % 2)
    return even, max(2, round(video.height * even / video.width / 2) * 2)


def _decode_coarsely(stream: VideoStream, probe: Probe, every_s: float | None) -> None:
    context = stream.codec_context
    context.options = {**context.options, "skip_loop_filter": "all"}
    if every_s is not None and every_s * probe.video.fps >= _COARSE_FRAMES:
        context.skip_frame = "NONREF"


def _upright(frame: VideoFrame, probe: Probe, pix_fmt: str, width: int | None) -> Picture:
    """Scale and convert in one pass of swscale, then turn: turning a small picture is cheap."""
    import numpy as np

    out_w, out_h = upright_size(probe, width)
    turned = probe.video.rotation in (90, 270)
    scaled = frame.reformat(
        width=out_h if turned else out_w,
        height=out_w if turned else out_h,
        format=pix_fmt,
        interpolation="AREA" if out_w < probe.video.width else "BICUBIC",
        threads=1,
    )
    picture: Picture = np.asarray(scaled.to_ndarray(), np.uint8)
    if probe.video.rotation:
        picture = np.ascontiguousarray(np.rot90(picture, k=-probe.video.rotation // 90))
    return picture
