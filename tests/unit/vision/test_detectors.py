from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

from stages.errors import Misconfigured
from stages.vision.detectors import MAX_FACES, YUNET_FILE, Cascade, Detection, YuNet, best_first, choose_detector

SHARED_MODELS = Path(__file__).parents[3].parent / "shared" / "models"
TRUE_FACE = (178, 62, 93, 126)
"""Hairline to chin, ear to ear, in the 512 x 512 portrait."""


def portrait(scale: float = 0.6) -> NDArray[np.uint8]:
    """A room with the portrait twice, BGR, 360 x 640."""
    room = np.full((360, 640, 3), 90, np.uint8)
    side = round(512 * scale)
    astronaut: NDArray[np.uint8] = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    face = cv2.resize(astronaut[:, :, ::-1], (side, side), interpolation=cv2.INTER_AREA)
    room[20 : 20 + side, :side] = face
    room[20 : 20 + side, 640 - side :] = face[:, ::-1]
    return room


def agrees(found: Detection, scale: float = 0.6) -> bool:
    """Whether the box's centre and height are those of the left face."""
    x, y, w, h = (v * scale for v in TRUE_FACE)
    off = np.hypot(found.x + found.w / 2 - x - w / 2, found.y + found.h / 2 - y - 20 - h / 2)
    return bool(off < 0.2 * h and 0.6 < found.h / h < 1.4)


def test_the_cascade_finds_both_faces() -> None:
    found = Cascade().detect(portrait())
    assert len(found) == 2
    assert sum(agrees(d) for d in found) == 1
    assert all(0 < d.score <= 1 for d in found)


def test_the_cascade_finds_nothing_in_noise() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (360, 640, 3), dtype=np.uint8)
    assert Cascade().detect(noise) == []


@pytest.mark.skipif(not (SHARED_MODELS / YUNET_FILE).is_file(), reason="the YuNet model is not at hand")
def test_yunet_finds_both_faces_at_any_size_and_is_chosen_first() -> None:
    detector, notes = choose_detector("auto", "cpu", SHARED_MODELS, min_score=0.6)
    assert isinstance(detector, YuNet)
    assert notes == []
    for scale in (0.6, 0.3):
        found = detector.detect(portrait(scale))
        assert len(found) == 2
        assert sum(agrees(d, scale) for d in found) == 1


def test_without_the_model_the_cascade_is_taken_and_says_what_to_run(tmp_path: Path) -> None:
    detector, notes = choose_detector("auto", "cpu", tmp_path, min_score=0.6)
    assert isinstance(detector, Cascade)
    assert len(notes) == 1
    assert "appliance models pull yunet" in notes[0]
    assert str(tmp_path / YUNET_FILE) in notes[0]


def test_a_damaged_model_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / YUNET_FILE).write_bytes(b"not a network")
    detector, notes = choose_detector("auto", "cpu", tmp_path, min_score=0.6)
    assert isinstance(detector, Cascade)
    assert "sha256" in notes[0]
    with pytest.raises(Misconfigured, match="damaged"):
        choose_detector("yunet", "cpu", tmp_path, min_score=0.6)


def test_what_was_asked_for_by_name_and_is_missing_fails(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="models pull yunet"):
        choose_detector("yunet", "auto", tmp_path, min_score=0.6)
    with pytest.raises(Misconfigured, match=r"CUDA .* `gpu` extra") as raised:
        choose_detector("auto", "cuda", tmp_path, min_score=0.6)
    assert raised.value.code == "cuda-missing"
    with pytest.raises(Misconfigured, match="device: cpu"):
        choose_detector("yolo", "cpu", tmp_path, min_score=0.6)


def test_auto_says_why_the_card_is_not_used(tmp_path: Path) -> None:
    _, notes = choose_detector("cascade", "auto", tmp_path, min_score=0.6)
    assert notes == []  # asked for by name: no fallback
    _, notes = choose_detector("auto", "auto", tmp_path, min_score=0.6)
    assert len(notes) == 2
    assert "CPU" in notes[0]


def test_detections_come_best_first_and_capped() -> None:
    crowd = [Detection(x=float(n), y=0, w=1, h=1, score=n % 7 / 10) for n in range(40)]
    kept = best_first(crowd)
    assert len(kept) == MAX_FACES
    assert kept == best_first(crowd[::-1])
    assert kept[0].score == 0.6
