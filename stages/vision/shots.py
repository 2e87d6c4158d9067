"""Hard cuts and short dissolves, frame-exact, while frames stream by.

Each frame is compared with the one before at thumbnail size after the best change of gain and offset has been taken
out, so that flashes, exposure steps and fades to black count little. A cut must stand out from its neighbourhood (as in
PySceneDetect's AdaptiveDetector: camera motion raises the neighbourhood too) and must last: what comes after it must
stay unlike what was before, which a flash or an object that sweeps past does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

if TYPE_CHECKING:
    Picture = NDArray[np.uint8]

Thumbnail = NDArray[np.float32]
THUMBNAIL = (48, 27)
"""Each of its pixels is the mean of at least 4 x 4 of the picture's: enough to drown noise."""
NEIGHBOURS = 8
"""Frames before and after a candidate that tell how restless the picture is here; also the delay of the stream."""
PERSISTENCE = 4
"""Frames on each side of a candidate that must differ from those on the other: longer than a photo flash."""


class Timed(Protocol):
    @property
    def t_s(self) -> float: ...
    @property
    def image(self) -> Picture: ...


F = TypeVar("F", bound=Timed)


class CutRule(Struct, frozen=True, kw_only=True):
    """A frame begins a shot when its change is at least `change` grey levels and `ratio` times its neighbourhood."""

    change: float
    ratio: float


RULES = (CutRule(change=12.0, ratio=2.5), CutRule(change=4.0, ratio=6.0))
"""A clear cut, and a small one in an otherwise quiet picture (jump cut, punch-in on the same set)."""
LASTING = 0.6
"""Share of the change that must remain between the frames before and each of the frames after."""


class _Entry(Struct):
    """One frame in the delay line, with what it needs to be judged."""

    frame: object
    thumbnail: Thumbnail
    change: float


def mark_cuts(frames: Iterable[F], *, min_shot_s: float) -> Iterator[tuple[F, bool]]:
    """Each frame with whether it is the first of a new shot, in order, NEIGHBOURS frames late.

    `image` must be BGR uint8 of any size, the same for all. The first frame of the stream is never a cut. Of two cuts
    closer than `min_shot_s` the later one is dropped.
    """
    line: deque[_Entry] = deque()
    past: deque[_Entry] = deque(maxlen=NEIGHBOURS)
    last_cut_s = -np.inf
    previous: Thumbnail | None = None

    def judged() -> tuple[F, bool]:
        nonlocal last_cut_s
        entry = line.popleft()
        frame: F = entry.frame  # type: ignore[assignment]
        if not past and last_cut_s == -np.inf:
            last_cut_s = frame.t_s
        cut = bool(past) and frame.t_s - last_cut_s >= min_shot_s and is_cut(past, entry, line)
        if cut:
            last_cut_s = frame.t_s
        past.append(entry)
        return frame, cut

    for frame in frames:
        thumbnail = shrink(frame.image)
        change = 0.0 if previous is None else difference(previous, thumbnail)
        previous = thumbnail
        line.append(_Entry(frame, thumbnail, change))
        if len(line) > NEIGHBOURS:
            yield judged()
    while line:
        yield judged()


def is_cut(past: deque[_Entry], entry: _Entry, future: deque[_Entry]) -> bool:
    """Whether `entry` begins a shot, given up to NEIGHBOURS frames on either side."""
    if entry.change < min(rule.change for rule in RULES):
        return False
    around = [e.change for e in past] + [e.change for e in list(future)[:NEIGHBOURS]]
    if not around:
        around = [0.0]
    # the upper quartile, not only the mean: with doubled frames every other change is zero
    restless = max(float(np.mean(around)), float(np.quantile(around, 0.75)), 0.3)
    # another cut or flash nearby must not hide this one: leave the two largest neighbours out
    calm = sorted(around)[:-2] or around
    restless = min(restless, max(float(np.mean(calm)), float(np.quantile(calm, 0.75)), 0.3))
    if not any(entry.change >= rule.change and entry.change >= rule.ratio * restless for rule in RULES):
        return False
    before = list(past)[-PERSISTENCE - 1 :]
    after = [entry, *list(future)[:PERSISTENCE]]
    return min(difference(a.thumbnail, b.thumbnail) for a in before for b in after) >= LASTING * entry.change


def shrink(image: Picture) -> Thumbnail:
    """(27, 48, 3) luma, blue and red difference of a BGR picture, float32."""
    import cv2

    step = max(1, min(image.shape[0] // (4 * THUMBNAIL[1]), image.shape[1] // (4 * THUMBNAIL[0])))
    small = cv2.resize(np.ascontiguousarray(image[::step, ::step]), THUMBNAIL, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2YCrCb), dtype=np.float32)


def difference(a: Thumbnail, b: Thumbnail) -> float:
    """Mean absolute difference in grey levels that no common change of gain (0.5 to 2) and offset explains."""
    x, y = a[..., 0], b[..., 0]
    mx, my = float(x.mean()), float(y.mean())
    dx, dy = x - mx, y - my
    variance = float((dx * dx).mean())
    gain = float((dx * dy).mean()) / variance if variance > 1.0 else 1.0
    gain = min(max(gain, 0.5), 2.0)
    luma = float(np.abs(dy - gain * dx).mean())
    colour_a, colour_b = a[..., 1:] - 128, b[..., 1:] - 128
    chroma = min(float(np.abs(colour_b - colour_a).mean()), float(np.abs(colour_b - gain * colour_a).mean()))
    return luma + 0.5 * chroma
