from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.vision.shots import difference, mark_cuts, shrink

Picture = NDArray[np.uint8]
SIZE = (180, 320)


@dataclass
class Still:
    t_s: float
    image: Picture


def scene(seed: int, *, shift: int = 0, gain: float = 1.0) -> Picture:
    """A patchwork of coloured blocks with grain, wide enough to pan over."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (9, 64, 3)).astype(np.float64)
    wide = np.kron(blocks, np.ones((20, 20, 1)))[: SIZE[0], shift : shift + SIZE[1]]
    return np.asarray(np.clip(wide * gain, 0, 255), dtype=np.uint8)


def person(x: float, *, seed: int = 1) -> Picture:
    """A quiet room and somebody in it."""
    picture = np.clip(scene(seed).astype(np.int32) // 4 + 90, 0, 255).astype(np.uint8)
    left = round(x)
    picture[40:180, left : left + 60] = (90, 120, 190)
    return picture


def cuts(pictures: list[Picture], fps: float = 30.0) -> list[int]:
    frames = [Still(n / fps, p) for n, p in enumerate(pictures)]
    marked = list(mark_cuts(frames, min_shot_s=0.2))
    assert [f for f, _ in marked] == frames  # every frame comes out, in order
    return [n for n, (_, cut) in enumerate(marked) if cut]


def noisy(pictures: list[Picture], seed: int = 0) -> list[Picture]:
    rng = np.random.default_rng(seed)
    return [np.clip(p + rng.normal(0, 3, p.shape), 0, 255).astype(np.uint8) for p in pictures]


def test_hard_cuts_are_found_to_the_frame() -> None:
    pictures = [scene(1)] * 31 + [scene(2)] * 17 + [scene(3)] * 40
    assert cuts(noisy(pictures)) == [31, 48]


@pytest.mark.parametrize("near_the_edge", [1, 2, 40 - 1])
def test_cuts_next_to_the_ends_are_found_unless_the_shot_is_too_short(near_the_edge: int) -> None:
    pictures = noisy([scene(1)] * near_the_edge + [scene(2)] * (40 - near_the_edge))
    assert cuts(pictures) == ([near_the_edge] if near_the_edge / 30 >= 0.2 else [])


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_a_flash_is_no_cut(length: int) -> None:
    white = np.full((*SIZE, 3), 250, np.uint8)
    assert cuts(noisy([scene(1)] * 20 + [white] * length + [scene(1)] * 20)) == []


def test_a_flash_beside_a_cut_does_not_hide_it() -> None:
    white = np.full((*SIZE, 3), 250, np.uint8)
    found = cuts(noisy([scene(1)] * 20 + [white] + [scene(1)] * 4 + [scene(2)] * 20))
    assert found == [25]


def test_a_camera_pan_is_no_cut() -> None:
    assert cuts(noisy([scene(1, shift=n * 9) for n in range(60)])) == []


def test_a_cut_inside_a_pan_is_found() -> None:
    before = [scene(1, shift=n * 4) for n in range(40)]
    after = [scene(2, shift=n * 4) for n in range(40)]
    assert cuts(noisy(before + after)) == [40]


def test_a_change_of_exposure_is_no_cut() -> None:
    pictures = [scene(1, gain=0.5)] * 20 + [scene(1, gain=0.9)] * 20
    fade = [scene(1, gain=0.9 - 0.045 * n) for n in range(20)]
    assert cuts(noisy(pictures + fade)) == []


def test_a_jump_cut_on_the_same_set_is_found() -> None:
    pictures = [person(100 + np.sin(n / 5)) for n in range(40)] + [person(150 + np.sin(n / 5)) for n in range(40)]
    assert cuts(noisy(pictures)) == [40]


def test_somebody_who_walks_is_no_cut() -> None:
    assert cuts(noisy([person(10 + 4 * n) for n in range(60)])) == []


def test_doubled_frames_do_not_look_like_cuts() -> None:
    doubled = [p for n in range(40) for p in [person(10 + 5 * n)] * 2]
    assert cuts(noisy(doubled), fps=60) == []


def test_of_two_cuts_too_close_the_first_stays() -> None:
    assert cuts(noisy([scene(1)] * 20 + [scene(2)] * 4 + [scene(3)] * 20)) == [20]


def test_no_frames_give_no_frames() -> None:
    assert list(mark_cuts([], min_shot_s=0.2)) == []


def test_difference_ignores_brightness_and_sees_content() -> None:
    a, b = shrink(scene(1, gain=0.6)), shrink(scene(1, gain=0.9))
    assert difference(a, a) == 0.0
    assert difference(a, b) < 0.35 * difference(a, shrink(scene(2, gain=0.6)))
