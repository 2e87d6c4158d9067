"""A float window of the source picture, scaled to a pane of the output: one pass of swscale, to a fraction of a pixel.

swscale is ten times faster than any per-pixel warp but reads whole pixels and, at 4:2:0, even ones. So each axis
takes a slightly larger even span of the source, scales it by (as near as whole numbers allow) the window's own factor,
and cuts the output out of that at an offset. A window that stands still picks span and start so that the offset falls
on an even pixel by itself (within `_STILL_ERROR_PX`). A window that moves keeps its span, and what is left of the
offset, a fraction of an output pixel, is shifted by an 8-tap windowed sinc: after enlarging, the picture has nothing
near the band edge that such a filter could blur, so sharpness does not pulse as the window moves.

Everything happens in the coded picture's own orientation; turning upright comes last, on the small result.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from stages.artifacts import VideoInfo
from stages.media.colour import Colour

if TYPE_CHECKING:
    import numpy as np
    from av.filter.context import FilterContext
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    Plane = NDArray[np.uint8]

_STILL_ERROR_PX = 0.25
"""Output pixels a still window may lie off, edge to edge, before the fractional shift is worth its time."""
_SPREAD = 16
"""Even steps that a span may grow, and start earlier, to meet the grid."""
_TAPS = 8
_GRAPHS = 24
"""Filter graphs kept: one for a pane that keeps its size, more only while a window zooms."""
_TURN = {0: (), 90: ("transpose=clock",), 180: ("hflip", "vflip"), 270: ("transpose=cclock",)}
FLAGS = "bicubic+accurate_rnd+full_chroma_int"


@dataclass(frozen=True, slots=True)
class Window:
    """Part of the upright source picture, in its pixels; floats."""

    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True, slots=True)
class Span:
    """One axis: source[start:start+length] scaled to `scaled` pixels; the output starts `offset` pixels into it."""

    start: int
    length: int
    scaled: int
    offset: float


class Sampler:
    """Scales windows of one source to one output size. Not thread-safe."""

    def __init__(self, video: VideoInfo, colour: Colour, width: int, height: int) -> None:
        """`width` and `height` of the output in pixels, even."""
        self._video = video
        self._colour = colour
        self._turned = video.rotation in (90, 270)
        self._out = (height, width) if self._turned else (width, height)
        self._graphs: OrderedDict[tuple[object, ...], _Graph] = OrderedDict()
        self._still: dict[Window, tuple[Span, Span]] = {}

    def sample(self, frame: VideoFrame, window: Window, *, moving: bool = False) -> VideoFrame:
        """The window as 8-bit limited-range BT.709 yuv420p of the output size, upright and safe to write into.

        `moving` says that the next frame's window will lie elsewhere: exact to a few hundredths of a pixel instead of
        `_STILL_ERROR_PX`, for a little more time.
        """
        coded = self._coded(window, frame)
        spans = None if moving else self._still.get(coded)
        if spans is None:
            sizes = (frame.width, frame.height)
            starts, lengths = (coded.x, coded.y), (coded.w, coded.h)
            solve = moving_span if moving else still_span
            across, down = (solve(starts[i], lengths[i], sizes[i], self._out[i]) for i in (0, 1))
            spans = (across, down)
            if not moving:
                self._still = {coded: spans}
        across, down = spans
        whole = not moving and all(_is_whole(span, out) for span, out in zip(spans, self._out, strict=True))
        key = (
            frame.width, frame.height, frame.format.name, across.length, across.scaled, down.length, down.scaled,
            (round(across.offset), round(down.offset)) if whole else None,
        )  # fmt: skip
        graph = self._graph(key, frame, across, down, whole)
        scaled = graph.run(frame, across.start, down.start)
        if whole:
            return scaled
        return self._turn(_cut(scaled, across.offset, down.offset, *self._out))

    def _coded(self, window: Window, frame: VideoFrame) -> Window:
        """The window in the coded picture: turned back, and stretched where its pixels are not square."""
        video = self._video
        x, y, w, h = window.x, window.y, window.w, window.h
        if video.rotation == 90:
            x, y, w, h = y, video.width - (x + w), h, w
        elif video.rotation == 180:
            x, y = video.width - (x + w), video.height - (y + h)
        elif video.rotation == 270:
            x, y, w, h = video.height - (y + h), x, h, w
        shown = (video.height, video.width) if self._turned else (video.width, video.height)
        across, down = frame.width / shown[0], frame.height / shown[1]
        w, h = min(w * across, frame.width), min(h * down, frame.height)
        return Window(min(max(x * across, 0.0), frame.width - w), min(max(y * down, 0.0), frame.height - h), w, h)

    def _graph(self, key: tuple[object, ...], frame: VideoFrame, across: Span, down: Span, whole: bool) -> _Graph:
        graph = self._graphs.pop(key, None)
        if graph is None:
            tail: list[str] = []
            if whole:
                if (across.scaled, down.scaled) != self._out:
                    tail.append(f"crop={self._out[0]}:{self._out[1]}:{round(across.offset)}:{round(down.offset)}")
                tail.extend(_TURN[self._video.rotation])
            graph = _Graph(frame, self._colour, across, down, tail)
        self._graphs[key] = graph
        if len(self._graphs) > _GRAPHS:
            self._graphs.popitem(last=False)
        return graph

    def _turn(self, frame: VideoFrame) -> VideoFrame:
        if not self._video.rotation:
            return frame
        key = ("turn", frame.width, frame.height)
        graph = self._graphs.pop(key, None)
        if graph is None:
            whole = Span(0, frame.width, frame.width, 0.0), Span(0, frame.height, frame.height, 0.0)
            graph = _Graph(frame, Colour("bt709", False), *whole, list(_TURN[self._video.rotation]))
        self._graphs[key] = graph
        return graph.run(frame, 0, 0)


def still_span(start: float, length: float, size: int, out: int) -> Span:
    """The span for a window that stands still; offset even (to be cut without a shift) wherever that is accurate."""
    factor = out / length
    best: tuple[float, int, Span] | None = None
    first = min(int(start) // 2 * 2, max(0, size - 2))
    for back in range(0, _SPREAD * 2 + 2, 2):
        at = first - back
        if at < 0:
            break
        reach = start + length - at
        lengths = {size - at} if reach > (size - at) // 2 * 2 else _lengths(reach, size - at, 0)
        for span in lengths:
            scaled = round(span * factor / 2) * 2
            real = scaled / span
            offset = (start - at) * real
            even = min(max(round(offset / 2) * 2, 0), scaled - out)
            if even < 0:
                continue
            near = abs(even / real + at - start) * factor
            far = abs((even + out) / real + at - (start + length)) * factor
            error = max(near, far)
            found = (round(error, 3), span, Span(at, span, scaled, float(even)))
            if best is None or found[:2] < best[:2]:
                best = found
        if best is not None and best[0] <= 0.02:
            break
    if best is not None and best[0] <= _STILL_ERROR_PX:
        return best[2]
    return moving_span(start, length, size, out)


def moving_span(start: float, length: float, size: int, out: int) -> Span:
    """The span for a window that moves: its length depends on `length` only, so one graph serves the whole shot."""
    factor = out / length
    if length >= size - 0.01:
        return Span(0, size, out, 0.0)
    candidates = [s for s in _lengths(length + 4, size, size % 2) if round(s * factor) >= out]
    span = min(candidates, key=lambda s: (round(abs(round(s * factor / 2) * 2 / (s * factor) - 1.0) * out, 2), s))
    at = min(max((int(start) - 1) // 2 * 2, 0), (size - span) // 2 * 2)
    scaled = max(out, round(span * factor / 2) * 2)
    return Span(at, span, scaled, min(max((start - at) * scaled / span, 0.0), float(scaled - out)))


def _lengths(least: float, most: int, odd: int) -> list[int]:
    """Lengths from `least` on, `_SPREAD` of them, all within `most` and odd or even as asked; `most` when none fits.

    Odd ones end flush with an odd picture's last column from an even start.
    """
    first = -(-int(-(-least // 1) - odd) // 2) * 2 + odd
    return [n for n in range(first, first + 2 * _SPREAD, 2) if n <= most] or [most]


def _is_whole(span: Span, out: int) -> bool:
    return span.offset % 2 == 0 and span.offset + out <= span.scaled


class _Graph:
    """crop, scale (with colour and depth conversion), tail; the crop's corner is moved by command."""

    def __init__(self, frame: VideoFrame, colour: Colour, across: Span, down: Span, tail: list[str]) -> None:
        from av.filter import Graph

        self._graph = graph = Graph()
        graph.threads = 1
        source = graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            time_base="1/1000",
            pixel_aspect="1/1",
            colorspace=str(int(frame.colorspace)),
            range=str(int(frame.color_range)),
        )
        chain = [source]
        self._crop: FilterContext | None = None
        self._corner = (0, 0)
        if (across.length, down.length) != (frame.width, frame.height):
            self._corner = (across.start, down.start)
            self._crop = graph.add("crop", f"{across.length}:{down.length}:{across.start}:{down.start}:exact=1")
            chain.append(self._crop)
        size = f"{across.scaled}:{down.scaled}:flags={FLAGS}"
        reading = f"in_color_matrix={colour.matrix}:in_range={'full' if colour.full_range else 'limited'}"
        writing = "out_color_matrix=bt709:out_range=limited"
        if colour.cube is None:
            chain.append(graph.add("scale", f"{size}:{reading}:{writing}"))
        else:
            chain.append(graph.add("scale", f"{size}:{reading}:out_range=full"))
            chain.append(graph.add("format", "gbrp10le"))
            chain.append(graph.add("lut3d", file=str(colour.cube), interp="tetrahedral"))
            chain.append(graph.add("scale", f"flags={FLAGS}:{writing}"))
        chain.append(graph.add("format", "yuv420p"))
        for step in tail:
            name, _, args = step.partition("=")
            chain.append(graph.add(name, args or None))
        chain.append(graph.add("buffersink"))
        graph.link_nodes(*chain)
        graph.configure()

    def run(self, frame: VideoFrame, x: int, y: int) -> VideoFrame:
        from av.video.frame import VideoFrame

        if self._crop is not None and (x, y) != self._corner:
            self._crop.process_command("x", str(x))
            self._crop.process_command("y", str(y))
            self._corner = (x, y)
        frame.pts = 0
        frame.time_base = Fraction(1, 1000)
        self._graph.push(frame)
        out = self._graph.pull()
        assert isinstance(out, VideoFrame)
        out.make_writable()  # a graph with nothing to do passes the decoder's own reference picture through
        out.pict_type = 0  # else the encoder repeats the source's choice of keyframes
        return out


def planes_of(frame: VideoFrame) -> tuple[Plane, Plane, Plane]:
    """Y, U and V of a yuv420p frame as writable views (rows, columns)."""
    import numpy as np

    views = []
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8)[: plane.height * plane.line_size].reshape(plane.height, -1)
        views.append(rows[:, : plane.width])
    return views[0], views[1], views[2]


def _cut(scaled: VideoFrame, across: float, down: float, width: int, height: int) -> VideoFrame:
    """`width` x `height` pixels of `scaled` from the fractional position (across, down)."""
    from av.video.frame import VideoFrame

    out = VideoFrame(width, height, "yuv420p")
    out.colorspace, out.color_range = scaled.colorspace, scaled.color_range
    for i, (source, target) in enumerate(zip(planes_of(scaled), planes_of(out), strict=True)):
        share = 1 if i == 0 else 2
        _shift(source, target, across / share, down / share)
    return out


def _shift(source: Plane, target: Plane, across: float, down: float) -> None:
    """Fill `target` from `source` at a fractional offset; edges repeat."""
    import cv2
    import numpy as np

    rows, columns = target.shape
    x, y = int(across), int(down)
    margin = _TAPS // 2
    top, left = max(0, y - margin), max(0, x - margin)
    part: NDArray[Any] = source[top : y + rows + margin, left : x + columns + margin]
    for axis, fraction in ((1, across - x), (0, down - y)):
        if fraction < 0.01:
            continue
        kernel = _sinc(round(fraction * 256))
        shaped = kernel[None, :] if axis == 1 else kernel[:, None]
        anchor = (_TAPS // 2 - 1, 0) if axis == 1 else (0, _TAPS // 2 - 1)
        part = cv2.filter2D(part, -1, shaped, anchor=anchor, borderType=cv2.BORDER_REPLICATE)
    np.copyto(target, part[y - top : y - top + rows, x - left : x - left + columns])


_KERNELS: dict[int, NDArray[np.float32]] = {}


def _sinc(fraction_256: int) -> NDArray[np.float32]:
    """Kernel that reads `fraction_256`/256 of a pixel further on: Hann-windowed sinc, sum 1."""
    import numpy as np

    kernel = _KERNELS.get(fraction_256)
    if kernel is None:
        at = np.arange(_TAPS) - (_TAPS // 2 - 1) - fraction_256 / 256
        raw = np.sinc(at) * np.cos(np.pi * at / (_TAPS + 1)) ** 2
        kernel = (raw / raw.sum()).astype(np.float32)
        _KERNELS[fraction_256] = kernel
    return kernel
