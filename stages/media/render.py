"""Output pictures from source pictures and a crop plan: which window, in which layout, at which instant."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.artifacts import CropKey, CropPlan, Pane, ShotPlan, VideoInfo
from stages.media.colour import Colour
from stages.media.resample import Sampler, Window, planes_of

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    Plane = NDArray[np.uint8]

_CUT_SLACK_S = 0.0005
"""Shot borders and picture times come from the same clock through different roundings."""
_FILL_SHARE = 12
"""The blurred fill is computed at a twelfth of the output size: nothing finer survives the blur."""
_LEAST_WINDOW = 8.0
"""Source pixels; a window without extent cannot be scaled."""
_FILL_LIGHT = 0.42
_FILL_COLOUR = 0.8


@dataclass(frozen=True, slots=True)
class Placement:
    """A window of the source and the rectangle of the output that shows it, output pixels, even."""

    window: Window
    moving: bool
    x: int
    y: int
    w: int
    h: int

    def project(self, x: float, y: float) -> tuple[float, float]:
        """A source point in output pixels; outside the rectangle when the window does not show it."""
        return (
            self.x + (x - self.window.x) * self.w / self.window.w,
            self.y + (y - self.window.y) * self.h / self.window.h,
        )


class Renderer:
    """Turns decoded pictures into output pictures by one plan. Not thread-safe."""

    def __init__(self, plan: CropPlan, video: VideoInfo, colour: Colour) -> None:
        self._plan = plan
        self._video = video
        self._colour = colour
        self._starts = [shot.start_s for shot in plan.shots]
        self._samplers: dict[tuple[int, int], Sampler] = {}
        self._fill_noise: Plane | None = None

    def shot_at(self, t_s: float) -> ShotPlan:
        """The shot that shows source time `t_s`; the first or last one outside the plan's range."""
        return self._plan.shots[max(0, bisect_right(self._starts, t_s + _CUT_SLACK_S) - 1)]

    def placements(self, t_s: float) -> list[Placement]:
        """What the output shows of the source picture that appears at `t_s`, one placement a pane."""
        shot = self.shot_at(t_s)
        width = self._plan.width
        found = []
        for pane in shot.panes:
            window, moving = window_at(pane.keys, t_s), moves(pane.keys, t_s)
            top, height = _rows(pane, self._plan.height)
            if shot.layout == "fit":
                scale = min(width / window.w, height / window.h)
                w, h = min(width, round(window.w * scale / 2) * 2), min(height, round(window.h * scale / 2) * 2)
                found.append(Placement(window, moving, (width - w) // 4 * 2, top + (height - h) // 4 * 2, w, h))
            else:
                found.append(Placement(shaped(window, width / height, self._video), moving, 0, top, width, height))
        return found

    def render(self, frame: VideoFrame, t_s: float) -> VideoFrame:
        """The output picture for the source picture that appears at `t_s`: yuv420p, BT.709 limited, safe to write.

        One pane of the full size is what the sampler gives; panes that leave something free lie over a fill (`fit`)
        or over black.
        """
        placements = self.placements(t_s)
        parts = [self._sampler(p.w, p.h).sample(frame, p.window, moving=p.moving) for p in placements]
        full = self._plan.width * self._plan.height
        if len(parts) == 1 and placements[0].w * placements[0].h == full:
            return parts[0]
        if self.shot_at(t_s).layout == "fit":
            out = self._fill(frame, placements[0].window)
        else:
            out = self._blank()
            if sum(p.w * p.h for p in placements) < full:
                _blacken(out)
        for placement, part in zip(placements, parts, strict=True):
            _paste(out, part, placement.x, placement.y)
        return out

    def _sampler(self, width: int, height: int) -> Sampler:
        sampler = self._samplers.get((width, height))
        if sampler is None:
            sampler = self._samplers[(width, height)] = Sampler(self._video, self._colour, width, height)
        return sampler

    def _fill(self, frame: VideoFrame, window: Window) -> VideoFrame:
        import cv2
        import numpy as np

        width, height = (max(16, n // _FILL_SHARE // 2 * 2) for n in (self._plan.width, self._plan.height))
        small = self._sampler(width, height).sample(frame, shaped(window, width / height, self._video))
        out = self._blank()
        if self._fill_noise is None:  # breaks the steps that 8 bits leave in wide, dark gradients
            rng = np.random.default_rng(1)
            self._fill_noise = rng.integers(0, 2, (self._plan.height, self._plan.width), np.uint8)
        for i, (source, target) in enumerate(zip(planes_of(small), planes_of(out), strict=True)):
            soft = cv2.GaussianBlur(source, (0, 0), width / (14 if i == 0 else 28))
            base, share = (16.0, _FILL_LIGHT) if i == 0 else (128.0, _FILL_COLOUR)
            toned = cv2.convertScaleAbs(soft, alpha=share, beta=base * (1.0 - share))
            cv2.resize(toned, (target.shape[1], target.shape[0]), dst=target, interpolation=cv2.INTER_LINEAR)
            if i == 0:
                cv2.add(target, self._fill_noise, dst=target)
        return out

    def _blank(self) -> VideoFrame:
        from av.video.frame import VideoFrame

        return VideoFrame(self._plan.width, self._plan.height, "yuv420p")


def window_at(keys: list[CropKey], t_s: float) -> Window:
    """The window at `t_s`: linear between keys, constant before the first and after the last."""
    i = bisect_right(keys, t_s, key=lambda key: key.t_s)
    if i == 0 or i == len(keys):
        key = keys[min(i, len(keys) - 1)]
        return Window(key.x, key.y, key.w, key.h)
    a, b = keys[i - 1], keys[i]
    share = (t_s - a.t_s) / (b.t_s - a.t_s)
    return Window(*(p + (q - p) * share for p, q in ((a.x, b.x), (a.y, b.y), (a.w, b.w), (a.h, b.h))))


def moves(keys: list[CropKey], t_s: float) -> bool:
    """Whether the window is in motion around `t_s`, or stands at a place between two motions less than 1 s apart.

    Standing windows are sampled a quarter pixel coarser; switching there and back within a second could be seen.
    """
    first = bisect_left(keys, t_s - 1.0, key=lambda key: key.t_s)
    near = keys[first : bisect_right(keys, t_s + 1.0, lo=first, key=lambda key: key.t_s)]
    before, after = window_at(keys, t_s - 1.0), window_at(keys, t_s + 1.0)
    points = [(w.x, w.y, w.w, w.h) for w in (before, after)] + [(k.x, k.y, k.w, k.h) for k in near]
    return any(max(values) - min(values) > 0.01 for values in zip(*points, strict=True))


def shaped(window: Window, aspect: float, video: VideoInfo) -> Window:
    """The window cut centrally to width / height = `aspect` and kept inside the picture."""
    w = min(max(window.w, _LEAST_WINDOW), float(video.width))
    h = min(max(window.h, _LEAST_WINDOW), float(video.height))
    if w / h > aspect:
        w = h * aspect
    else:
        h = w / aspect
    x = window.x + (window.w - w) / 2
    y = window.y + (window.h - h) / 2
    return Window(min(max(x, 0.0), video.width - w), min(max(y, 0.0), video.height - h), w, h)


def _rows(pane: Pane, height: int) -> tuple[int, int]:
    """First row and number of rows of a pane, both even."""
    top = round(pane.top * height / 2) * 2
    return top, max(2, round((pane.top + pane.height) * height / 2) * 2 - top)


def _blacken(picture: VideoFrame) -> None:
    for plane, black in zip(planes_of(picture), (16, 128, 128), strict=True):
        plane[:] = black


def _paste(target: VideoFrame, part: VideoFrame, x: int, y: int) -> None:
    """Copy `part` into `target` with its corner at (x, y), even numbers."""
    for i, (source, into) in enumerate(zip(planes_of(part), planes_of(target), strict=True)):
        share = 1 if i == 0 else 2
        top, left = y // share, x // share
        into[top : top + source.shape[0], left : left + source.shape[1]] = source
