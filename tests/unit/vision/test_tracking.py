from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from stages.artifacts import Track
from stages.vision.detectors import Detection
from stages.vision.tracking import Tracker

STEP_S = 0.1


def face(x: float, y: float = 300.0, *, h: float = 120.0, score: float = 0.9) -> Detection:
    """A face centred on (x, y)."""
    return Detection(x=x - 0.4 * h, y=y - h / 2, w=0.8 * h, h=h, score=score)


def track(samples: list[list[Detection]]) -> list[Track]:
    tracker = Tracker()
    for n, detections in enumerate(samples):
        tracker.step(n * STEP_S, detections)
    return tracker.end_shot()


def middles(found: Track) -> list[float]:
    return [b.x + b.w / 2 for b in found.boxes]


def test_two_people_keep_their_identities_in_any_order_of_detection() -> None:
    order = itertools.cycle([1, -1])
    found = track([[face(400 + 3 * n), face(1300 - 2 * n)][:: next(order)] for n in range(50)])
    assert len(found) == 2
    for one, start, speed in zip(found, (400, 1300), (3, -2), strict=True):
        assert np.allclose(middles(one), [start + speed * n for n in range(50)])


def test_people_who_pass_each_other_are_not_swapped() -> None:
    found = track([[face(500 + 14 * n, 300), face(1200 - 14 * n, 345)] for n in range(50)])
    assert len(found) == 2
    starts_left = next(t for t in found if middles(t)[0] == 500)
    assert middles(starts_left)[-1] == 500 + 14 * 49


def test_random_walks_with_misses_and_noise_keep_one_track_each() -> None:
    rng = np.random.default_rng(5)
    places = np.array([300.0, 900.0, 1500.0])
    samples = []
    for n in range(200):
        places = np.clip(places + rng.normal(0, 6, 3), [150, 750, 1350], [450, 1050, 1650])
        seen = [face(p + rng.normal(0, 3), h=120 + rng.normal(0, 3)) for p in places if rng.random() > 0.15 or n == 0]
        samples.append(seen)
    found = track(samples)
    assert len(found) == 3
    assert all(np.ptp(middles(t)) < 350 for t in found)


def test_a_gap_is_filled_on_the_straight_way_and_marked_as_assumed() -> None:
    samples = [[face(500 + 5 * n)] if not 10 <= n < 17 else [] for n in range(30)]
    [found] = track(samples)
    assert np.allclose(middles(found), [500 + 5 * n for n in range(30)])
    assert [b.score for b in found.boxes] == [0.9] * 10 + [0.0] * 7 + [0.9] * 13


def test_somebody_who_comes_back_elsewhere_is_somebody_else() -> None:
    samples = [[face(500)] if n < 10 else [face(1500)] if n >= 35 else [] for n in range(50)]
    first, second = track(samples)
    assert first.boxes[-1].t_s == pytest.approx(0.9)
    assert second.boxes[0].t_s == pytest.approx(3.5)


def test_flickers_are_dropped_and_a_short_shot_keeps_its_face() -> None:
    samples = [[face(500)] + ([face(1500)] if n in (7, 8) else []) for n in range(30)]
    assert len(track(samples)) == 1
    assert len(track([[face(500)], [face(500)]])) == 1


def test_a_ghost_seen_now_and_then_is_dropped() -> None:
    samples = [[face(500)] + ([face(1500)] if n % 9 == 0 else []) for n in range(60)]
    assert len(track(samples)) == 1


def test_a_cut_ends_all_tracks_and_numbers_go_on() -> None:
    tracker = Tracker()
    for n in range(10):
        tracker.step(n * STEP_S, [face(500)])
    before = tracker.end_shot()
    for n in range(10, 20):
        tracker.step(n * STEP_S, [face(500)])
    after = tracker.end_shot()
    assert [(t.id, t.shot, len(t.boxes)) for t in before + after] == [(1, 0, 10), (2, 1, 10)]
    assert tracker.end_shot() == []


def test_times_of_a_track_rise_and_lie_on_samples() -> None:
    [found] = track([[face(700 + 200 * math.sin(n / 9))] for n in range(80)])
    times = [b.t_s for b in found.boxes]
    assert times == sorted(set(times))
    assert len(times) == 80
