"""Captions to pixels: each state is drawn once and blended into its rectangle of the picture's own YUV planes."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from stages.artifacts import Word
from stages.media.captions import Cue, needs_space
from stages.media.fonts import Typeface
from stages.media.resample import planes_of

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray
    from PIL.ImageFont import FreeTypeFont

    Bytes = NDArray[np.uint8]

Colour = tuple[int, int, int]
_OUTLINE_SHARE = 0.085
"""Outline width as a share of the letter size, the least that keeps white readable on white."""
_SHADOW_SHARE = 0.10
_SHADOW_OPACITY = 0.55
_LINE_SHARE = 1.16
"""Distance of baselines as a share of the letter size."""
_RGBA_TO_Y = (0.2126 * 219 / 255, 0.7152 * 219 / 255, 0.0722 * 219 / 255, 16 / 255)
_RGBA_TO_U = (-0.114572 * 224 / 255, -0.385428 * 224 / 255, 0.5 * 224 / 255, 128 / 255)
_RGBA_TO_V = (0.5 * 224 / 255, -0.454153 * 224 / 255, -0.045847 * 224 / 255, 128 / 255)


@dataclass(frozen=True, slots=True)
class CaptionStyle:
    """How captions look. Shares are of the output's width (`size`, `side`) or height (`bottom`)."""

    size: float
    side: float
    """Free on the left and on the right."""
    bottom: float
    """Free below."""
    text: Colour = (255, 255, 255)
    highlight: Colour = (255, 214, 10)
    outline: Colour = (0, 0, 0)
    upper_case: bool = False


@dataclass(frozen=True, slots=True)
class _State:
    """One drawn caption: premultiplied planes, their remaining background share, and the corner they go to."""

    x: int
    y: int
    planes: tuple[Bytes, Bytes, Bytes]
    keep: tuple[Bytes, Bytes, Bytes]


class CaptionPainter:
    """Draws the captions of one clip. Keeps the states of the cue in hand only. Not thread-safe."""

    def __init__(
        self,
        size: tuple[int, int],
        rate: Fraction,
        style: CaptionStyle,
        face: Typeface,
        words: Sequence[Word],
        cues: Sequence[Cue],
        middle: Callable[[Cue], float | None] = lambda cue: None,
    ) -> None:
        """`size` of the output picture; `middle` may give the height share a cue is centred at instead of standing on
        the bottom margin."""
        self._size = size
        self._rate = rate
        self._style = style
        self._face = face
        self._words = words
        self._cues = cues
        self._starts = [cue.start_s for cue in cues]
        self._middle = middle
        self._cue: Cue | None = None
        self._base: tuple[_Layout, Bytes] | None = None
        self._states: dict[int, _State] = {}

    def paint(self, picture: VideoFrame, k: int) -> bool:
        """Blend what is said during output frame `k` into `picture` (yuv420p, writable); whether there was anything.

        A word lights up in the frame that lies nearest to its start.
        """
        t_s = (k + 0.5) / float(self._rate)
        n = bisect_right(self._starts, t_s) - 1
        if n < 0 or t_s >= self._cues[n].end_s + 0.5 / float(self._rate):
            return False
        cue = self._cues[n]
        if cue is not self._cue:
            self._cue, self._states = cue, {}
            self._base = _draw_base(self._layout(cue), self._style, self._shown(cue))
        active = cue.active(self._words, t_s)
        state = self._states.get(active)
        if state is None:
            assert self._base is not None
            state = self._states[active] = _draw_state(*self._base, self._style, self._shown(cue), active - cue.first)
        _blend(picture, state)
        return True

    def measure(self, text: str) -> float:
        """Width of `text` in pixels at the style's size."""
        return text_width(self._face, self._style, self._size[0], text)

    def _shown(self, cue: Cue) -> list[str]:
        texts = [word.text for word in self._words[cue.first : cue.last]]
        return [text.upper() for text in texts] if self._style.upper_case else texts

    def _layout(self, cue: Cue) -> _Layout:
        width, height = self._size
        room = width * (1 - 2 * self._style.side)
        size_px = self._style.size * width
        texts = self._shown(cue)
        lines = [list(range(a - cue.first, b - cue.first)) for a, b in cue.lines]
        font = self._face.at(size_px)
        widest = max(_line_width(font, [texts[i] for i in line]) for line in lines) + 2 * _edge(size_px)
        if widest > room:
            size_px *= room / widest
            font = self._face.at(size_px)
        return _place(font, size_px, texts, lines, (width, height), self._style, self._middle(cue))


def line_room(style: CaptionStyle, width: int) -> float:
    """Pixels that a line of text may take between the side margins, outline and shadow not counted."""
    return width * (1 - 2 * style.side) - 2 * _edge(style.size * width)


def text_width(face: Typeface, style: CaptionStyle, width: int, text: str) -> float:
    """Width in pixels of `text` in an output `width` pixels wide."""
    return float(face.at(style.size * width).getlength(text.upper() if style.upper_case else text))


@dataclass(frozen=True, slots=True)
class _Layout:
    font: FreeTypeFont
    size_px: float
    corner: tuple[int, int]
    """Of the drawn rectangle within the picture, even."""
    box: tuple[int, int]
    """Its width and height, even."""
    spots: list[tuple[float, float]]
    """For each word its left end and baseline within the rectangle."""


def _edge(size_px: float) -> int:
    """Room around the letters for outline and shadow, even."""
    return int(size_px * (_OUTLINE_SHARE + 2 * _SHADOW_SHARE)) // 2 * 2 + 2


def _place(
    font: FreeTypeFont, size_px: float, texts: list[str], lines: list[list[int]], size: tuple[int, int],
    style: CaptionStyle, middle: float | None,
) -> _Layout:  # fmt: skip
    width, height = size
    ascent, descent = font.getmetrics()
    ascent, descent = min(ascent, round(size_px * 1.05)), min(descent, round(size_px * 0.35))
    edge = _edge(size_px)
    widths = [_line_width(font, [texts[i] for i in line]) for line in lines]
    box_w = _even_up(max(widths) + 2 * edge)
    box_h = _even_up(ascent + descent + (len(lines) - 1) * size_px * _LINE_SHARE + 2 * edge)
    spots: dict[int, tuple[float, float]] = {}
    for row, line in enumerate(lines):
        x = (box_w - widths[row]) / 2
        y = edge + ascent + row * size_px * _LINE_SHARE
        order = line[::-1] if _right_to_left("".join(texts[i] for i in line)) else line
        for n, i in enumerate(order):
            if n and needs_space(texts[order[n - 1]], texts[i]):
                x += font.getlength(" ")
            spots[i] = (x, y)
            x += font.getlength(texts[i])
    lowest = round(height * (1 - style.bottom)) - box_h
    top = lowest if middle is None else min(lowest, round(height * middle - box_h / 2))
    corner = (max(0, (width - box_w) // 4 * 2), max(0, top // 2 * 2))
    return _Layout(font, size_px, corner, (box_w, box_h), [spots[i] for i in range(len(texts))])


def _line_width(font: FreeTypeFont, texts: list[str]) -> float:
    width = sum(font.getlength(text) for text in texts)
    gaps = sum(1 for a, b in pairwise(texts) if needs_space(a, b))
    return float(width + gaps * font.getlength(" "))


def _even_up(value: float) -> int:
    return -(-int(-(-value // 1)) // 2) * 2


def _right_to_left(text: str) -> bool:
    return any(unicodedata.bidirectional(c) in ("R", "AL") for c in text)


def _draw_base(layout: _Layout, style: CaptionStyle, texts: list[str]) -> tuple[_Layout, Bytes]:
    """Shadow, outlines and every word in the plain colour, as premultiplied RGBA.

    Opaque ink drawn by Pillow over transparent black mixes all four channels alike: that is premultiplied "over".
    """
    import cv2
    import numpy as np
    from PIL import Image, ImageDraw

    outline = max(1, round(layout.size_px * _OUTLINE_SHARE))
    shape = Image.new("L", layout.box, 0)
    pen = ImageDraw.Draw(shape)
    for text, spot in zip(texts, layout.spots, strict=True):
        pen.text(spot, text, font=layout.font, fill=255, stroke_width=outline, stroke_fill=255, anchor="ls")
    ink = np.asarray(shape)
    shadow = cv2.GaussianBlur(ink, (0, 0), layout.size_px * _SHADOW_SHARE / 2)
    drop = round(layout.size_px * _SHADOW_SHARE / 2)
    pixels = np.zeros((layout.box[1], layout.box[0], 4), np.uint8)
    pixels[drop:, :, 3] = cv2.convertScaleAbs(shadow[: layout.box[1] - drop], alpha=_SHADOW_OPACITY)
    edges = Image.new("RGBA", layout.box, (*style.outline, 255))
    canvas = Image.composite(edges, Image.fromarray(pixels, "RGBA"), shape)
    pen = ImageDraw.Draw(canvas)
    for text, spot in zip(texts, layout.spots, strict=True):
        pen.text(spot, text, font=layout.font, fill=(*style.text, 255), anchor="ls")
    return layout, np.asarray(canvas)


def _draw_state(layout: _Layout, base: Bytes, style: CaptionStyle, texts: list[str], active: int) -> _State:
    """The base with one word in the highlight colour, as YUV."""
    import cv2
    import numpy as np
    from PIL import Image, ImageDraw

    canvas = Image.fromarray(base, "RGBA")
    ImageDraw.Draw(canvas).text(
        layout.spots[active], texts[active], font=layout.font, fill=(*style.highlight, 255), anchor="ls"
    )
    rgba: NDArray[Any] = np.asarray(canvas)
    half = (layout.box[0] // 2, layout.box[1] // 2)
    small: NDArray[Any] = cv2.resize(rgba, half, interpolation=cv2.INTER_AREA)
    luma: NDArray[Any] = cv2.transform(rgba, np.array([_RGBA_TO_Y], np.float32))
    chroma: list[NDArray[Any]] = [cv2.transform(small, np.array([row], np.float32)) for row in (_RGBA_TO_U, _RGBA_TO_V)]
    keep, keep_small = 255 - rgba[:, :, 3], 255 - small[:, :, 3]
    planes = (np.squeeze(luma), np.squeeze(chroma[0]), np.squeeze(chroma[1]))
    return _State(*layout.corner, planes, (np.ascontiguousarray(keep), *(np.ascontiguousarray(keep_small),) * 2))


def _blend(picture: VideoFrame, state: _State) -> None:
    import cv2

    for i, plane in enumerate(planes_of(picture)):
        share = 1 if i == 0 else 2
        ink, keep = state.planes[i], state.keep[i]
        rows, columns = ink.shape
        part = plane[state.y // share : state.y // share + rows, state.x // share : state.x // share + columns]
        part[:] = cv2.add(cv2.multiply(part, keep, scale=1 / 255), ink)
