"""How much each mouth moves, freed from the head's own motion and from the face's size.

Between two detections the boxes are interpolated and a small grey patch of each face is kept for every frame
(detecting at full rate would cost many times more and tell little else). Consecutive patches are registered on the
upper face; what still changes around the mouth, less what changes around the eyes, is the mouth's own motion.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from stages.artifacts import Box
from stages.vision.tracking import between

if TYPE_CHECKING:
    Grey = NDArray[np.uint8]

PATCH_PX = 48
PATCH_SPAN = 1.15
"""Side of the square that a patch shows, in box heights."""
_BOX = PATCH_PX / PATCH_SPAN
_TOP = (PATCH_PX - _BOX) / 2
MOUTH_ROWS = slice(round(_TOP + 0.60 * _BOX), round(_TOP + 0.98 * _BOX))
MOUTH_COLUMNS = slice(round(PATCH_PX / 2 - 0.24 * _BOX), round(PATCH_PX / 2 + 0.24 * _BOX))
UPPER_ROWS = slice(round(_TOP + 0.08 * _BOX), round(_TOP + 0.52 * _BOX))
UPPER_COLUMNS = slice(round(PATCH_PX / 2 - 0.32 * _BOX), round(PATCH_PX / 2 + 0.32 * _BOX))
MAX_HELD = 40
"""Frames held between two samples at most; older ones are dropped."""
MIN_FRAME_S = 1 / 31
"""Faster frames are skipped: lips move slower than 30 pictures a second show."""
MAX_SHIFT_PX = 4.0
MAX_SAMPLE_GAP_S = 0.5
MAX_FRAME_GAP_S = 0.2
"""Across longer gaps nothing is interpolated or compared."""


class Motion(Struct):
    """One track's mouth in time order. `MotionReader`: change per 1/25 s as a share of the face's own contrast, ≥ 0;
    `stages.vision.lips.LipReader`: the network's score, above 0 when the face speaks."""

    times: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)


class _Last(Struct):
    """The newest patch of a track: what the next one is compared with."""

    t_s: float
    patch: NDArray[np.float32]


class MouthReader(Protocol):
    """What turns a mouth's pictures into a measure of its speaking."""

    def read(self, track: int, t_s: float, grey: Grey, box: Box) -> None:
        """One frame of one face; frames of a track come in time order. `box` in pixels of `grey`."""

    def end_shot(self) -> dict[int, Motion]:
        """What was read in the shot, by track id; then a new shot begins."""


class MouthRecorder(Struct):
    """Hands every frame of every face to the readers while the frames stream by. Memory: MAX_HELD frames."""

    readers: list[MouthReader]
    _held: deque[tuple[float, NDArray[np.uint8]]] = field(default_factory=lambda: deque(maxlen=MAX_HELD))
    _boxes: dict[int, Box] = field(default_factory=dict)

    def hold(self, t_s: float, grey: Grey) -> None:
        """Keep one frame until the next `release`. `grey` (h, w) uint8."""
        if not self._held or t_s - self._held[-1][0] >= MIN_FRAME_S:
            self._held.append((t_s, grey))

    def release(self, boxes: dict[int, Box]) -> None:
        """Read the held frames of every track seen both now and at the sample before, boxes interpolated.

        `boxes`: by track id, in pixels of the held frames, all of the same instant.
        """
        for track, box in boxes.items():
            before = self._boxes.get(track)
            if before is None or box.t_s - before.t_s > MAX_SAMPLE_GAP_S:
                continue
            for t_s, grey in self._held:
                if before.t_s < t_s <= box.t_s:
                    at = between(before, box, t_s)
                    for reader in self.readers:
                        reader.read(track, t_s, grey, at)
        self._boxes = dict(boxes)
        self._held.clear()

    def end_shot(self) -> list[dict[int, Motion]]:
        """The shot's measures of each reader, by track id; then a new shot begins."""
        self._held.clear()
        self._boxes = {}
        return [reader.end_shot() for reader in self.readers]


class MotionReader(Struct):
    """Measures how much the mouth moves from frame to frame. Memory: one patch per face."""

    _last: dict[int, _Last] = field(default_factory=dict)
    _motions: dict[int, Motion] = field(default_factory=dict)

    def read(self, track: int, t_s: float, grey: Grey, box: Box) -> None:
        patch, last = _patch(grey, box), self._last.get(track)
        if last is not None and 0 < t_s - last.t_s <= MAX_FRAME_GAP_S:
            motion = self._motions.setdefault(track, Motion())
            motion.times.append(t_s)
            motion.values.append(mouth_change(last.patch, patch) * min(0.04 / (t_s - last.t_s), 1.5))
        self._last[track] = _Last(t_s, patch)

    def end_shot(self) -> dict[int, Motion]:
        motions, self._motions = self._motions, {}
        self._last = {}
        return motions


def mouth_change(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """How much the mouth changed from patch `a` to `b` beyond the upper face, as a share of the face's contrast."""
    import cv2

    upper = (UPPER_ROWS, UPPER_COLUMNS)
    window = cv2.createHanningWindow((_width(UPPER_COLUMNS), _width(UPPER_ROWS)), cv2.CV_32F)
    (dx, dy), _ = cv2.phaseCorrelate(np.ascontiguousarray(a[upper]), np.ascontiguousarray(b[upper]), window)
    if abs(dx) <= MAX_SHIFT_PX and abs(dy) <= MAX_SHIFT_PX:
        shift = np.array([[1, 0, dx], [0, 1, dy]], dtype=np.float32)
        b = np.asarray(
            cv2.warpAffine(
                b, shift, (PATCH_PX, PATCH_PX), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_REPLICATE,
            ),
            dtype=np.float32,
        )  # fmt: skip
    change = np.abs(b - a)
    mouth, rest = float(change[MOUTH_ROWS, MOUTH_COLUMNS].mean()), float(change[upper].mean())
    return max(0.0, mouth - rest) / (float(a[upper].std()) + 8.0)


def _width(part: slice) -> int:
    return int(part.stop - part.start)


def _patch(grey: Grey, box: Box) -> NDArray[np.float32]:
    import cv2

    side = max(8, round(box.h * PATCH_SPAN))
    # the centre is taken to a fraction of a pixel: whole pixels would shake the patch from frame to frame
    square = cv2.getRectSubPix(grey, (side, side), (box.x + box.w / 2, box.y + box.h / 2))
    shrink = cv2.INTER_AREA if side > PATCH_PX else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(square, (PATCH_PX, PATCH_PX), interpolation=shrink), dtype=np.float32)
