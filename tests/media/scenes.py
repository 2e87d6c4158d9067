"""Drawing: one or two people before a background, a walk, a page of text; every face's box is known exactly."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.media.script import PARAGRAPHS

Picture = NDArray[np.uint8]
Box = tuple[float, float, float, float]
"""x, y, width, height in upright pixels."""

# In the 512x512 portrait: the part that is cut out, the face (hairline to chin), the mouth.
_CUT = (95, 0, 270, 512)
_FACE = (178.0, 62.0, 93.0, 126.0)
_MOUTH = (224, 146)
_MOUTHS = 8
SWAY = 0.012
"""Amplitude of a seated person's sway, share of the picture's width."""
WALK = (0.24, 0.61)
"""From where to where a walker's face goes, share of the width; about 37 %."""


@dataclass(frozen=True, slots=True)
class Placed:
    person: int
    centre_x: float
    """Of the face."""
    centre_y: float
    face_height: float
    mouth: float
    """How far it is open, 0 to 1."""


class Painter:
    """Draws one shot: the background once, then only what moves."""

    def __init__(self, kind: str, width: int, height: int, seed: int, strip: bool) -> None:
        self.kind = kind
        self.width, self.height = width, height
        self.strip = strip
        self.background = page(width, height, seed) if kind == "page" else room(width, height, seed)
        if strip:
            draw_strip(self.background)
        self._canvas = self.background.copy()
        self._dirty: list[tuple[int, int, int, int]] = []

    def draw(self, people: list[Placed]) -> tuple[Picture, list[tuple[int, Box]]]:
        """The picture (valid until the next call) and each face's box, clipped to nothing."""
        for x0, y0, x1, y1 in self._dirty:
            self._canvas[y0:y1, x0:x1] = self.background[y0:y1, x0:x1]
        self._dirty = []
        boxes = [(placed.person, self._paste(placed)) for placed in people]
        return self._canvas, boxes

    def _paste(self, placed: Placed) -> Box:
        import cv2

        scale = placed.face_height / _FACE[3]
        level = min(_MOUTHS - 1, max(0, round(placed.mouth * (_MOUTHS - 1))))
        figure = sprite(placed.person, level, round(scale, 4))
        face_x, face_y = _face_in_cut(placed.person)
        left = placed.centre_x - (face_x + _FACE[2] / 2) * scale
        top = placed.centre_y - (face_y + _FACE[3] / 2) * scale
        box = (left + face_x * scale, top + face_y * scale, _FACE[2] * scale, _FACE[3] * scale)

        x0, y0 = math.floor(left), math.floor(top)
        size = (figure.shape[1] + 1, figure.shape[0] + 1)
        bottom = self.height - (strip_height(self.height) if self.strip else 0)
        ax, ay = max(0, x0), max(0, y0)
        bx, by = min(self.width, x0 + size[0]), min(bottom, y0 + size[1])
        if ax < bx and ay < by:
            shift: Any = np.array([[1, 0, left - ax], [0, 1, top - ay]], np.float32)
            over = cv2.warpAffine(figure, shift, (bx - ax, by - ay), flags=cv2.INTER_LINEAR)
            see_through = cv2.bitwise_not(cv2.cvtColor(over[..., 3], cv2.COLOR_GRAY2RGB))
            under = cv2.multiply(self._canvas[ay:by, ax:bx], see_through, scale=1 / 255)
            self._canvas[ay:by, ax:bx] = cv2.add(under, cv2.cvtColor(over, cv2.COLOR_RGBA2RGB))
            self._dirty.append((ax, ay, bx, by))
        return box


def placements(
    kind: str, t_s: float, share: float, width: int, height: int, mouths: tuple[float, float]
) -> list[Placed]:
    """Who stands where `t_s` seconds into a shot of which `share` has passed."""
    face = height * 0.24
    sway = SWAY * width * math.sin(2 * math.pi * 0.23 * t_s)
    nod = 0.006 * height * math.sin(2 * math.pi * 0.41 * t_s)
    y = height * 0.36 + nod
    if kind == "seated":
        return [Placed(0, width * 0.56 + sway, y, face, mouths[0])]
    if kind == "walk":
        x = width * (WALK[0] + (WALK[1] - WALK[0]) * share)
        step = 0.008 * height * abs(math.sin(2 * math.pi * 0.9 * t_s))
        return [Placed(0, x, y - step, face * 0.9, mouths[0])]
    if kind == "pair":
        return [
            Placed(0, width * 0.26 + sway * 0.7, y, face * 0.85, mouths[0]),
            Placed(1, width * 0.75 - sway * 0.6, y + 0.02 * height, face * 0.85, mouths[1]),
        ]
    if kind == "close":
        return [Placed(0, width * 0.45 + sway, height * 0.42 + nod, height * 0.42, mouths[0])]
    if kind in ("page", "empty"):
        return []
    raise ValueError(f"no scene is called {kind}")


def strip_height(height: int) -> int:
    """Rows of the luma ramp at the bottom: 40 of 1080."""
    return max(4, round(height * 40 / 1080))


def draw_strip(picture: Picture) -> None:
    """A grey ramp along the bottom whose luma tells x: value 16 at the left edge to 235 at the right."""
    ramp = np.round(np.linspace(16, 235, picture.shape[1])).astype(np.uint8)
    picture[-strip_height(picture.shape[0]) :] = ramp[None, :, None]


@functools.lru_cache(maxsize=64)
def sprite(person: int, mouth: int, scale: float) -> Picture:
    """A person with the mouth at one of eight openings: colours times alpha, and alpha, (h, w, 4)."""
    import cv2

    colour, alpha = _cut_out(person)
    colour = colour.copy()
    opening = mouth / (_MOUTHS - 1)
    if opening > 0:
        x = _MOUTH[0] - _CUT[0]
        x = _CUT[2] - 1 - x if person == 1 else x
        lips = np.zeros(alpha.shape, np.float32)
        cv2.ellipse(lips, (x, _MOUTH[1] + round(3 * opening)), (17, 2 + round(11 * opening)), 0, 0, 360, 1.0, -1)
        cover = np.clip(cv2.GaussianBlur(lips, (0, 0), 1.2), 0, 1)[..., None]
        colour = np.round(colour * (1 - cover) + np.array([52, 14, 16], np.float32) * cover).astype(np.uint8)
    size = (max(2, round(colour.shape[1] * scale)), max(2, round(colour.shape[0] * scale)))
    share = alpha[..., None].astype(np.float32) / 255
    figure = np.concatenate([np.round(colour * share), alpha[..., None]], axis=2).astype(np.uint8)
    return _u8(cv2.resize(figure, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR))


@functools.cache
def _cut_out(person: int) -> tuple[Picture, Picture]:
    """Head, neck and shoulders of scikit-image's public-domain portrait, soft-edged; person 1: mirrored, tinted."""
    import cv2
    import skimage.data

    x, y, w, h = _CUT
    portrait: Picture = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    colour = np.ascontiguousarray(portrait[y : y + h, x : x + w, :3])
    alpha = np.zeros((h, w), np.uint8)
    cv2.ellipse(alpha, (132, 98), (78, 88), 0, 0, 360, 255, -1)
    body = np.array(
        [[95, 150], [60, 215], [20, 262], [0, 512], [269, 512], [250, 300], [215, 230], [165, 150]], np.int32
    )
    cv2.fillPoly(alpha, [body], 255)
    alpha = _u8(cv2.GaussianBlur(alpha, (0, 0), 3))
    if person == 1:
        colour, alpha = colour[:, ::-1], alpha[:, ::-1]
        hsv = cv2.cvtColor(np.ascontiguousarray(colour), cv2.COLOR_RGB2HSV)
        suit = (hsv[..., 1] > 120) & (np.arange(h)[:, None] > 195)
        hsv[..., 0] = np.where(suit, (hsv[..., 0].astype(np.int32) + 95) % 180, hsv[..., 0]).astype(np.uint8)
        hsv[..., 2] = np.round(hsv[..., 2] * 0.88).astype(np.uint8)
        colour = _u8(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
    return np.ascontiguousarray(colour), np.ascontiguousarray(alpha)


def _face_in_cut(person: int) -> tuple[float, float]:
    x = _FACE[0] - _CUT[0]
    return (_CUT[2] - x - _FACE[2] if person == 1 else x), _FACE[1] - _CUT[1]


def _u8(array: Any) -> Picture:
    """OpenCV's stubs promise any number type; these are bytes."""
    return np.asarray(array, np.uint8)


def room(width: int, height: int, seed: int) -> Picture:
    """A wall with a gradient, a few shelves and some texture, different for each seed."""
    import cv2

    rng = np.random.default_rng(seed)
    one, two = rng.integers(40, 200, (2, 3))
    ramp = np.linspace(0, 1, height)[:, None, None]
    wall = (one * (1 - ramp) + two * ramp) * np.ones((1, width, 1))
    grain = cv2.resize(rng.normal(0, 9, (height // 8 + 1, width // 8 + 1)).astype(np.float32), (width, height))
    picture = np.clip(wall + grain[..., None], 0, 255).astype(np.uint8)
    for _ in range(6):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        w, h = int(width * rng.uniform(0.04, 0.14)), int(height * rng.uniform(0.05, 0.25))
        colour = tuple(int(c) for c in rng.integers(20, 220, 3))
        cv2.rectangle(picture, (x, y), (x + w, y + h), colour, -1)
    return np.ascontiguousarray(cv2.GaussianBlur(picture, (0, 0), max(1.0, width / 400)))


def page(width: int, height: int, seed: int) -> Picture:
    """A page of text from edge to edge: what a vertical crop would cut off."""
    import cv2

    picture = np.full((height, width, 3), 244, np.uint8)
    size = height / 1080 * 1.5
    line = round(height / 15)
    words = " ".join(PARAGRAPHS[seed % len(PARAGRAPHS)] + PARAGRAPHS[(seed + 1) % len(PARAGRAPHS)]).split()
    y, text = line, ""
    thick = max(1, round(height / 400))
    for word in words:
        longer = f"{text} {word}".strip()
        if cv2.getTextSize(longer, cv2.FONT_HERSHEY_SIMPLEX, size, thick)[0][0] > width * 0.94:
            cv2.putText(
                picture,
                text,
                (round(width * 0.03), y),
                cv2.FONT_HERSHEY_SIMPLEX,
                size,
                (25, 25, 30),
                thick,
                cv2.LINE_AA,
            )
            y, longer = y + line, word
        if y > height * 0.95:
            break
        text = longer
    return picture
