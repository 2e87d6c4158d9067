"""The scheduler against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.story.schedule import schedule

spans = st.lists(
    st.tuples(st.integers(0, 30), st.integers(1, 12), st.integers(-20, 20)).map(
        lambda t: (float(t[0]), float(t[0] + t[1]), t[2] / 4)
    ),
    max_size=9,
)


def apart(chosen: list[tuple[float, float, float]], gap_s: float) -> bool:
    ordered = sorted(chosen)
    return all(b[0] - a[1] >= gap_s for a, b in itertools.pairwise(ordered))


def brute_force(candidates: list[tuple[float, float, float]], count: int, gap_s: float) -> tuple[int, float]:
    for size in range(min(count, len(candidates)), 0, -1):
        sums = [
            sum(c[2] for c in chosen)
            for chosen in itertools.combinations(candidates, size)
            if apart(list(chosen), gap_s)
        ]
        if sums:
            return size, max(sums)
    return 0, 0.0


@settings(max_examples=400)
@given(spans, st.integers(0, 5), st.sampled_from([0.0, 1.0, 3.0]))
def test_it_equals_brute_force(candidates: list[tuple[float, float, float]], count: int, gap_s: float) -> None:
    starts, ends, scores = (np.array([c[i] for c in candidates], float) for i in range(3))
    chosen = schedule(starts, ends, scores, count, gap_s)
    picked = [candidates[i] for i in chosen]
    assert len(set(chosen)) == len(chosen)
    assert apart(picked, gap_s)
    assert picked == sorted(picked)
    size, best = brute_force(candidates, count, gap_s)
    assert len(chosen) == size
    assert sum(c[2] for c in picked) == pytest.approx(best)


@given(spans, st.integers(1, 4), st.randoms(use_true_random=False))
def test_the_order_of_candidates_does_not_matter_for_the_value(
    candidates: list[tuple[float, float, float]], count: int, rng: object
) -> None:
    shuffled = list(candidates)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]

    def value(rows: list[tuple[float, float, float]]) -> float:
        starts, ends, scores = (np.array([c[i] for c in rows], float) for i in range(3))
        return sum(rows[i][2] for i in schedule(starts, ends, scores, count, 0.0))

    assert value(candidates) == pytest.approx(value(shuffled))


def test_a_greedy_choice_would_lose() -> None:
    # The best single span blocks two that are better together.
    assert schedule([0, 0, 6], [10, 5, 10], [5.0, 3.0, 3.0], 2, 1.0) == [1, 2]
    assert schedule([0, 0, 6], [10, 5, 10], [5.0, 3.0, 3.0], 1, 1.0) == [0]


def test_two_hours_of_candidates_take_no_time() -> None:
    rng = np.random.default_rng(0)
    starts = np.sort(rng.uniform(0, 7200, 60_000))
    chosen = schedule(starts, starts + rng.uniform(15, 60, 60_000), rng.normal(size=60_000), 20, 1.0)
    assert len(chosen) == 20
