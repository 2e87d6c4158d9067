"""From whatever rate the source has to one constant, standard output rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from stages.artifacts import VideoInfo
from stages.media.video import Frame

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

STANDARD_RATES = (
    Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(48),
    Fraction(50), Fraction(60000, 1001), Fraction(60),
)  # fmt: skip
MAX_RATE = Fraction(60)
_MIN_RATE = Fraction(23)
_CLOSE = 0.005
"""Relative distance within which a measured rate means the nearest standard one; 23.976 and 24 are 0.001 apart."""

_TIE_S = 1e-6
"""A picture exactly half a frame late belongs to the next one, whatever the rounding."""


def output_rate(video: VideoInfo) -> Fraction:
    """The constant rate to deliver a source of this kind at.

    A steady source keeps its rate, snapped to the standard one; rates above 60 are divided and rates below 23
    multiplied by the smallest whole number that brings them into 23..60, so every picture is shown equally long.
    A variable source gets the lowest standard rate that is not below its mean (within 2 %), 24 at least.
    """
    fps = Fraction(video.fps).limit_denominator(100_000)
    if fps <= 0:
        return Fraction(30)
    ceiling = MAX_RATE * (1 + Fraction(_CLOSE))
    if fps > ceiling:
        fps /= -(-fps // ceiling)
    if video.variable_rate:
        return next((r for r in STANDARD_RATES if r >= 24 and r >= fps * Fraction(98, 100)), MAX_RATE)
    if fps < _MIN_RATE:
        fps *= -(-_MIN_RATE // fps)
    nearest = min(STANDARD_RATES, key=lambda rate: abs(float(rate / fps) - 1.0))
    return nearest if abs(float(nearest / fps) - 1.0) <= _CLOSE else fps.limit_denominator(1001)


def frame_count(start_s: float, end_s: float, rate: Fraction) -> int:
    """Pictures in [start_s, end_s) at `rate`: at least one."""
    return max(1, round((end_s - start_s) * float(rate)))


def conform(
    frames: Iterable[Frame[VideoFrame]], start_s: float, count: int, rate: Fraction
) -> Iterator[tuple[int, Frame[VideoFrame]]]:
    """Yield (k, frame) for k in 0..count-1: the last source frame not later than half an output frame after k's time.

    A source of the same rate passes one to one, at most half a frame off; gaps repeat, surplus is dropped. When the
    source ends early its last frame is held. Yields nothing for a source without a frame.
    """
    source = iter(frames)
    current: Frame[VideoFrame] | None = next(source, None)
    if current is None:
        return
    following: Frame[Any] | None = next(source, None)
    for k in range(count):
        latest_s = start_s + (k + 0.5) / float(rate) - _TIE_S
        while following is not None and following.t_s <= latest_s:
            current, following = following, next(source, None)
        yield k, current
