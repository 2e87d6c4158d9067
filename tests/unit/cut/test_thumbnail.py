from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray
from PIL import Image

from stages.artifacts import Box, Faces, Span, Track
from stages.media.render import Placement
from stages.media.resample import Window, planes_of
from stages.media.thumbnail import ThumbnailPicker

SIZE = (180, 320)
WHOLE = [Placement(Window(0, 0, 180, 320), False, 0, 0, 180, 320)]


def faces(*boxes: Box) -> Faces:
    return Faces(
        start_s=0, end_s=10, width=180, height=320, sample_fps=10, shots=[Span(start_s=0, end_s=10)],
        tracks=[Track(id=0, shot=0, boxes=list(boxes))] if boxes else [], turns=[], detector="x", device="cpu",
    )  # fmt: skip


def picture(texture: NDArray[Any]) -> VideoFrame:
    frame = VideoFrame(*SIZE, "yuv420p")
    luma, u, v = planes_of(frame)
    luma[:] = texture
    u[:], v[:] = 128, 128
    return frame


TEXTURE = cv2.resize(np.random.default_rng(0).integers(40, 220, (80, 45)).astype(np.uint8), SIZE)
BLURRED = cv2.GaussianBlur(TEXTURE, (0, 0), 6)


def chosen(picker: ThumbnailPicker, path: Path) -> NDArray[np.uint8]:
    picker.save(path)
    with Image.open(path) as image:
        assert image.size == SIZE
        return np.asarray(image.convert("L"))


def test_the_sharper_picture_wins(tmp_path: Path) -> None:
    picker = ThumbnailPicker(faces(), [(0, 10)], Fraction(30))
    for k, texture in ((0, BLURRED), (60, TEXTURE), (120, BLURRED)):
        picker.offer(picture(texture), k, k / 30, WHOLE)
    assert cv2.Laplacian(chosen(picker, tmp_path / "t.jpg"), cv2.CV_64F).var() > 100


def test_a_whole_face_beats_a_sharper_picture_without(tmp_path: Path) -> None:
    box = Box(t_s=4.0, x=50, y=80, w=80, h=100, score=0.9)
    picker = ThumbnailPicker(faces(box), [(0, 10)], Fraction(30))
    picker.offer(picture(TEXTURE), 60, 2.0, WHOLE)
    picker.offer(picture(BLURRED), 120, 4.0, WHOLE)
    assert cv2.Laplacian(chosen(picker, tmp_path / "t.jpg"), cv2.CV_64F).var() < 100


def test_a_cut_face_does_not_count(tmp_path: Path) -> None:
    box = Box(t_s=4.0, x=150, y=80, w=80, h=100, score=0.9)
    picker = ThumbnailPicker(faces(box), [(0, 10)], Fraction(30))
    picker.offer(picture(TEXTURE), 60, 2.0, WHOLE)
    picker.offer(picture(BLURRED), 120, 4.0, WHOLE)
    assert cv2.Laplacian(chosen(picker, tmp_path / "t.jpg"), cv2.CV_64F).var() > 100


def test_cuts_and_darkness_are_avoided(tmp_path: Path) -> None:
    picker = ThumbnailPicker(faces(), [(0, 4), (4, 10)], Fraction(30))
    picker.offer(picture(TEXTURE), 120, 4.05, WHOLE)  # right after a cut
    picker.offer(picture(TEXTURE // 8), 180, 6.0, WHOLE)  # a fade to black
    picker.offer(picture(BLURRED), 240, 8.0, WHOLE)
    assert cv2.Laplacian(chosen(picker, tmp_path / "t.jpg"), cv2.CV_64F).var() < 100


def test_the_picture_is_a_copy(tmp_path: Path) -> None:
    picker = ThumbnailPicker(faces(), [(0, 10)], Fraction(30))
    frame = picture(TEXTURE)
    picker.offer(frame, 60, 2.0, WHOLE)
    planes_of(frame)[0][:] = 16  # captions are drawn into it afterwards
    assert chosen(picker, tmp_path / "t.jpg").mean() > 80
