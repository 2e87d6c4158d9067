from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from stages.vision.path import Path, plan_path

SIZE = 600.0
BOUNDS = (0.0, 1320.0)
STEP_S = 0.1
FACE = 150.0

Floats = NDArray[np.float64]


def follow(centres: Floats, *, max_speed: float = 0.6, comfort: float = 70.0) -> Path:
    """Plan for a face of FACE px at `centres`."""
    return plan_path(
        centres + FACE / 2 - SIZE, centres - FACE / 2, centres - SIZE / 2,
        bounds=BOUNDS, size=SIZE, step_s=STEP_S, max_speed=max_speed, comfort=comfort,
    )  # fmt: skip


@st.composite
def walks(draw: st.DrawFn) -> Floats:
    """Faces that wander in straight legs, slower than the camera may move, anywhere in a 1920 px picture."""
    legs = draw(st.lists(st.tuples(st.integers(2, 25), st.floats(-320, 320)), min_size=1, max_size=6))
    at, places = draw(st.floats(80, 1840)), []
    for steps, speed in legs:
        for _ in range(steps):
            at = min(1840.0, max(80.0, at + speed * STEP_S))
            places.append(at)
    return np.array(places)


@settings(max_examples=40, deadline=None)
@given(walks())
def test_a_reachable_face_is_always_inside_and_the_camera_keeps_its_limits(centres: Floats) -> None:
    path = follow(centres)
    x = path.positions
    assert path.overrun == 0.0
    assert (x >= BOUNDS[0] - 1e-6).all()
    assert (x <= BOUNDS[1] + 1e-6).all()
    seen = np.clip(centres - FACE / 2, *(BOUNDS[0], BOUNDS[1] + SIZE))
    assert (x <= np.maximum(seen, 0) + 1e-3).all()
    assert (x + SIZE >= np.minimum(centres + FACE / 2, 1920.0) - 1e-3).all()
    assert np.abs(np.diff(x)).max(initial=0.0) <= 0.6 * SIZE * STEP_S + 1e-3


@settings(max_examples=15, deadline=None)
@given(walks())
def test_the_same_face_gives_the_same_path(centres: Floats) -> None:
    assert np.array_equal(follow(centres).positions, follow(centres.copy()).positions)


@settings(max_examples=25, deadline=None)
@given(walks(), st.floats(0.02, 0.2))
def test_a_face_too_fast_never_breaks_speed_or_picture_and_is_reported(centres: Floats, max_speed: float) -> None:
    path = follow(centres, max_speed=max_speed)
    x = path.positions
    assert np.abs(np.diff(x)).max(initial=0.0) <= max_speed * SIZE * STEP_S + 1e-3
    assert x.min() >= BOUNDS[0] - 1e-6
    assert x.max() <= BOUNDS[1] + 1e-6
    low, high = np.clip(centres + FACE / 2 - SIZE, *BOUNDS), np.clip(centres - FACE / 2, *BOUNDS)
    outside = float(np.maximum(np.maximum(low - x, x - high), 0).max())
    assert path.overrun == pytest.approx(outside, abs=2e-3)


@settings(max_examples=25, deadline=None)
@given(st.floats(100, 1800), st.integers(2, 200), st.integers(0, 2**32 - 1))
def test_a_seated_talker_is_filmed_with_a_camera_that_stands_still(at: float, steps: int, seed: int) -> None:
    sway = np.random.default_rng(seed).uniform(-60, 60, steps)
    path = follow(at + sway)
    assert path.still
    assert np.ptp(path.positions) == 0.0


def test_a_path_on_its_own_output_stays_where_it_is() -> None:
    first = follow(np.full(60, 700.0) + np.sin(np.arange(60)) * 30)
    again = follow(first.positions + SIZE / 2)
    assert np.allclose(first.positions, again.positions, atol=1e-9)


def test_a_walk_is_one_even_move_between_two_rests() -> None:
    t = np.arange(200) * STEP_S
    path = follow(400 + np.clip(t - 6, 0, 6) * 130 + np.random.default_rng(1).normal(0, 2, len(t)))
    speed = np.diff(path.positions) / STEP_S
    assert np.abs(speed[:40]).max() < 0.5
    assert np.abs(speed[-50:]).max() < 0.5
    assert (speed >= -1e-6).all()  # never back
    assert np.abs(np.diff(speed)).max() < 60  # px/s from step to step: it eases in and out


def test_where_nobody_is_in_view_nothing_pulls() -> None:
    centres = np.full(50, 900.0)
    unseen = np.arange(50) >= 20
    path = plan_path(
        np.where(unseen, -np.inf, centres + FACE / 2 - SIZE), np.where(unseen, np.inf, centres - FACE / 2),
        np.where(unseen, np.nan, centres - SIZE / 2),
        bounds=BOUNDS, size=SIZE, step_s=STEP_S, max_speed=0.6, comfort=70.0,
    )  # fmt: skip
    assert path.still
    assert path.positions[-1] == 600.0


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_very_short_shots_have_a_path_too(steps: int) -> None:
    path = follow(np.linspace(300, 300 + 400 * (steps - 1), steps), comfort=0.0, max_speed=10)
    assert len(path.positions) == steps
    assert path.overrun == 0.0


def test_a_face_larger_than_the_window_is_held_at_its_middle() -> None:
    n = 10
    path = plan_path(
        np.full(n, 500.0), np.full(n, 300.0), np.full(n, np.nan),
        bounds=BOUNDS, size=SIZE, step_s=STEP_S, max_speed=0.6, comfort=70.0,
    )  # fmt: skip
    assert path.positions.tolist() == [400.0] * n


def test_nonsense_is_refused() -> None:
    empty = np.zeros(0)
    with pytest.raises(ValueError, match="steps"):
        plan_path(empty, empty, empty, bounds=BOUNDS, size=SIZE, step_s=STEP_S, max_speed=1, comfort=1)
    one = np.zeros(1)
    with pytest.raises(ValueError, match="bounds"):
        plan_path(one, one, one, bounds=(5.0, 1.0), size=SIZE, step_s=STEP_S, max_speed=1, comfort=1)
