"""Crop windows: how large, where they must be, where they would like to be, and the keys that move them."""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stages.artifacts import Box, CropKey, Track
from stages.vision.path import MAX_STEPS, plan_path
from stages.vision.tracking import between

Floats = NDArray[np.float64]

KEY_RATE_HZ = 10.0
"""Grid of the camera path; keys are written only where the path bends."""
FACE_CENTRE_AT = 0.38
"""Share of the window's height at which a face's centre sits: eyes on the upper third."""
WIDEST_NEED = 0.88
"""Share of the window that may be claimed as 'must be inside': a face larger than that is merely centred."""


class FrameRules(Struct, frozen=True, kw_only=True):
    """Shares are of the quantity named; the options of the crop stage document them."""

    margin: float
    headroom: float
    max_speed: float
    comfort: float
    max_upscale: float
    small_face: float
    good_face: float


class Picture(Struct, frozen=True, kw_only=True):
    """Size in pixels of the upright source, or of an output pane."""

    width: int
    height: int


class Subject(Struct, frozen=True, kw_only=True):
    """What one window shows during a stretch of time: the hull of one or more faces, source pixels.

    Arrays (n) hold left, top, right, bottom per grid step, NaN where nothing is to be shown.
    """

    times: Floats
    left: Floats
    top: Floats
    right: Floats
    bottom: Floats
    face_width: float
    face_height: float
    """Medians over faces and time."""


class Window(Struct, frozen=True, kw_only=True):
    """A planned window."""

    keys: list[CropKey]
    still: bool
    overrun: float
    """Farthest that the subject with its margin sticks out, pixels; 0 when it never does."""


def subject(tracks: list[Track], start_s: float, end_s: float) -> Subject | None:
    """The hull of `tracks` on the key grid of [start_s, end_s], or None where none of them is ever in view.

    Each step covers what happens up to its neighbours, so that a path that satisfies the steps satisfies every
    instant between them.
    """
    steps = min(MAX_STEPS, max(2, math.ceil((end_s - start_s) * KEY_RATE_HZ) + 1))
    times = np.linspace(start_s, end_s, steps)
    step_s = float(times[1] - times[0])
    edges = np.full((4, steps), np.nan)
    sizes: list[tuple[float, float]] = []
    for track in tracks:
        boxes = steady(track.boxes)
        moments = np.array([b.t_s for b in boxes])
        for index, t_s in enumerate(times):
            near = [boxes[i] for i in np.flatnonzero(np.abs(moments - t_s) <= step_s)]
            at = box_at(boxes, moments, float(t_s))
            if at is not None:
                near.append(at)
            if not near:
                continue
            corners = np.array([(b.x, b.y, b.x + b.w, b.y + b.h) for b in near])
            hull = (*corners[:, :2].min(axis=0), *corners[:, 2:].max(axis=0))
            edges[:2, index] = np.fmin(edges[:2, index], hull[:2])
            edges[2:, index] = np.fmax(edges[2:, index], hull[2:])
        sizes += [(b.w, b.h) for b in boxes if start_s <= b.t_s <= end_s]
    if not sizes:
        return None
    left, top, right, bottom = edges
    width, height = np.median(sizes, axis=0)
    return Subject(
        times=times, left=left, top=top, right=right, bottom=bottom, face_width=float(width), face_height=float(height)
    )


def steady(boxes: list[Box]) -> list[Box]:
    """Boxes with each lone outlier replaced: the running median of three samples; ends stay."""
    if len(boxes) < 3:
        return boxes
    values = np.array([(b.x, b.y, b.w, b.h) for b in boxes])
    middle = np.median(np.stack([values[:-2], values[1:-1], values[2:]]), axis=0)
    values[1:-1] = middle
    return [
        Box(t_s=b.t_s, x=float(x), y=float(y), w=float(w), h=float(h), score=b.score)
        for b, (x, y, w, h) in zip(boxes, values, strict=True)
    ]


def box_at(boxes: list[Box], moments: Floats, t_s: float) -> Box | None:
    """The box at `t_s` by linear interpolation, None outside the track's life."""
    if not moments[0] <= t_s <= moments[-1]:
        return None
    after = int(np.searchsorted(moments, t_s))
    if moments[after] == t_s:
        return boxes[after]
    return between(boxes[after - 1], boxes[after], t_s)


def widest(picture: Picture, pane: Picture) -> tuple[float, float]:
    """Width and height of the largest window of the pane's shape inside the picture."""
    shape = pane.width / pane.height
    height = min(float(picture.height), picture.width / shape)
    return height * shape, height


def window_size(
    picture: Picture, pane: Picture, face_height: float, *, small_face: float, good_face: float, max_upscale: float
) -> tuple[float, float]:
    """Width and height of the window: the widest, or tighter when the face would be smaller than `small_face` in it.

    A tighter window makes the face `good_face` of its height but never enlarges the source more than `max_upscale`
    times (or than the widest window does already).
    """
    width, height = widest(picture, pane)
    if face_height >= small_face * height:
        return width, height
    tight = max(face_height / good_face, pane.height / max_upscale)
    scale = min(1.0, tight / height)
    return width * scale, height * scale


def plan_window(seen: Subject, picture: Picture, size: tuple[float, float], rules: FrameRules) -> Window:
    """Move a window of fixed `size` so that the subject stays inside with its margin."""
    width, height = size
    side, below = rules.margin * seen.face_width, rules.margin * seen.face_height
    above = max(below, rules.headroom * height)
    step_s = float(seen.times[1] - seen.times[0])
    xs, x_over = _axis(
        (seen.left, seen.right), (side, side), at=0.5, length=picture.width, size=width, step_s=step_s, rules=rules
    )
    ys, y_over = _axis(
        (seen.top, seen.bottom), (above, below),
        at=FACE_CENTRE_AT, length=picture.height, size=height, step_s=step_s, rules=rules,
    )  # fmt: skip
    keys = [
        CropKey(t_s=float(t), x=float(x), y=float(y), w=width, h=height)
        for t, x, y in zip(seen.times, xs, ys, strict=True)
    ]
    still = bool(np.ptp(xs) < 1e-3 and np.ptp(ys) < 1e-3)
    return Window(keys=keys[:1] if still else bends(keys), still=still, overrun=max(x_over, y_over))


def _axis(
    edges: tuple[Floats, Floats],
    margins: tuple[float, float],
    *,
    at: float,
    length: int,
    size: float,
    step_s: float,
    rules: FrameRules,
) -> tuple[Floats, float]:
    """Window positions along one axis: the edges with their margins must lie inside, their middle would sit at `at`."""
    room = max(0.0, length - size)
    if room < 1e-6:
        return np.zeros(len(edges[0])), 0.0
    near, far = np.maximum(edges[0] - margins[0], 0.0), np.minimum(edges[1] + margins[1], float(length))
    middle, half = (near + far) / 2, np.minimum((far - near) / 2, WIDEST_NEED / 2 * size)
    unseen = np.isnan(middle)
    path = plan_path(
        np.where(unseen, -np.inf, middle + half - size),
        np.where(unseen, np.inf, middle - half),
        (edges[0] + edges[1]) / 2 - at * size,
        bounds=(0.0, room),
        size=size,
        step_s=step_s,
        max_speed=rules.max_speed,
        comfort=rules.comfort * size,
    )
    return path.positions, path.overrun


def bends(keys: list[CropKey]) -> list[CropKey]:
    """The keys without those that lie on the straight way between their neighbours (to 0.01 px)."""
    kept = [keys[0]]
    for before, key, after in zip(keys, keys[1:], keys[2:], strict=False):
        share = (key.t_s - before.t_s) / (after.t_s - before.t_s)
        bent = max(
            abs(key.x - before.x - share * (after.x - before.x)), abs(key.y - before.y - share * (after.y - before.y))
        )
        if bent > 0.01:
            kept.append(key)
    return [*kept, keys[-1]]
