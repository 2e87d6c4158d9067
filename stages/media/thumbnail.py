"""The still that stands for a clip: sharp, a face in it, eyes open as far as that is cheap to tell, away from cuts."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from stages.artifacts import Box, Faces
from stages.media.colour import BT709
from stages.media.render import Placement
from stages.media.resample import planes_of

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

    Plane = NDArray[np.uint8]

_EVERY_S = 0.4
_CUT_DISTANCE_S = 0.2
"""Blends and compression settle within this time of a cut."""
_BOX_AGE_S = 0.3
_GOOD_FACE_SHARE = 0.3
"""Of the picture's width: a face this wide or wider gets full marks for size."""
_SHARP_VARIANCE = 60.0
"""Variance of the Laplacian at which a face counts as half sharp."""
_DARK, _BRIGHT = 40.0, 215.0
_JPEG_QUALITY = 90


class ThumbnailPicker:
    """Keeps the best picture offered. Pictures are taken before captions are drawn: the still is for covers and lists,
    where half a sentence would be noise."""

    def __init__(self, faces: Faces, shots: Sequence[tuple[float, float]], rate: Fraction) -> None:
        """`shots`: source times of each shot's start and end."""
        self._tracks = [(track.boxes, [box.t_s for box in track.boxes]) for track in faces.tracks if track.boxes]
        self._cuts = sorted({t for shot in shots for t in shot})
        self._step = max(1, round(_EVERY_S * float(rate)))
        self._best: VideoFrame | None = None
        self._score = float("-inf")

    def offer(self, picture: VideoFrame, k: int, t_s: float, placements: Sequence[Placement]) -> None:
        """Consider output frame `k`, which shows source time `t_s`. Copies the picture when it is the best so far."""
        if k % self._step and self._best is not None:
            return
        score = self._rate(picture, t_s, placements)
        if score > self._score + 0.01:
            from av.video.frame import VideoFrame

            self._score = score
            self._best = VideoFrame.from_ndarray(picture.to_ndarray(), format="yuv420p")

    def save(self, path: Path) -> None:
        """Write the best picture as JPEG; at least one must have been offered."""
        assert self._best is not None
        self._best.colorspace = BT709
        image = self._best.to_image(  # type: ignore[no-untyped-call]
            src_colorspace="ITU709", dst_colorspace="ITU601", interpolation="BICUBIC"
        )
        image.save(path, format="JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True)

    def _rate(self, picture: VideoFrame, t_s: float, placements: Sequence[Placement]) -> float:
        luma = planes_of(picture)[0]
        light = float(luma[::8, ::8].mean())
        score = 0.0 if _DARK <= light <= _BRIGHT else -1.5
        if any(abs(t_s - cut) < _CUT_DISTANCE_S for cut in self._cuts):
            score -= 2.0
        faces = [
            found
            for found in (self._face(luma, boxes, times, t_s, placements) for boxes, times in self._tracks)
            if found
        ]
        if faces:
            return score + 1.0 + max(faces)
        return score + 0.5 * _sharpness(luma[::2, ::2])

    def _face(
        self, luma: Plane, boxes: Sequence[Box], times: Sequence[float], t_s: float, placements: Sequence[Placement]
    ) -> float | None:
        """Marks for one person's face, 0 to 3; None when it is not wholly in the picture."""
        i = min(max(bisect_left(times, t_s), 0), len(boxes) - 1)
        box = min(boxes[max(0, i - 1) : i + 1], key=lambda b: abs(b.t_s - t_s))
        if abs(box.t_s - t_s) > _BOX_AGE_S:
            return None
        for place in placements:
            left, top = place.project(box.x, box.y)
            right, bottom = place.project(box.x + box.w, box.y + box.h)
            if left < place.x or top < place.y or right > place.x + place.w or bottom > place.y + place.h:
                continue
            face = luma[int(top) : int(bottom), int(left) : int(right)]
            if face.shape[0] < 24 or face.shape[1] < 24:
                return None
            rows, columns = face.shape
            eyes = face[rows // 4 : rows // 2, columns // 8 : columns - columns // 8]
            open_eyes = min(1.0, float(eyes.std()) / (float(face.std()) + 1.0))
            size = min(1.0, columns / luma.shape[1] / _GOOD_FACE_SHARE)
            return float(box.score * size + _sharpness(face) + open_eyes)
        return None


def _sharpness(plane: Plane) -> float:
    """0 to 1."""
    import cv2

    variance = float(cv2.Laplacian(plane, cv2.CV_16S).var())
    return variance / (variance + _SHARP_VARIANCE)
