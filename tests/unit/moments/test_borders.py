"""Borders: on a cut, in a quiet moment, never out of their room."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stages.artifacts import Span
from stages.story.borders import Limits, Room, refine
from stages.story.sound import HOP_S, Sound

SOUND = Sound(np.full(2000, -30.0), np.zeros(2000))
LIMITS = Limits(15, 60)


def no_cuts(start_s: float, end_s: float) -> list[float]:
    return []


def test_a_cut_in_the_pause_wins() -> None:
    found = refine(
        Span(start_s=20.0, end_s=40.0), Room(19.0, 20.25), Room(39.75, 41.0), LIMITS, SOUND, [],
        lambda a, b: [t for t in (19.4, 40.5) if a <= t <= b],
    )  # fmt: skip
    assert (found.start_s, found.end_s) == (19.4, 40.5)


def test_a_cut_inside_a_word_is_left_alone() -> None:
    found = refine(
        Span(start_s=20.0, end_s=40.0), Room(19.9, 20.1), Room(39.9, 40.1), LIMITS, SOUND, [],
        lambda a, b: [20.3, 39.7],
    )  # fmt: skip
    assert 19.9 <= found.start_s <= 20.1
    assert 39.9 <= found.end_s <= 40.1


def test_a_quieter_moment_is_met() -> None:
    level = np.full(2000, -30.0)
    level[round(40.2 / HOP_S)] = -70
    sound = Sound(level, np.zeros(2000))
    found = refine(Span(start_s=20, end_s=40), Room(19.8, 20.2), Room(39.8, 40.5), LIMITS, sound, [], no_cuts)
    assert abs(found.end_s - 40.2) <= HOP_S


def test_the_laughter_after_the_line_is_kept() -> None:
    laughter = [Span(start_s=40.2, end_s=41.6)]
    found = refine(Span(start_s=20, end_s=40), Room(19.8, 20.2), Room(39.8, 45), LIMITS, SOUND, laughter, no_cuts)
    assert 41.3 <= found.end_s <= 42.0


times = st.floats(0, 3, allow_nan=False)


@given(times, times, times, times, st.lists(st.floats(0, 100), max_size=6), st.lists(st.floats(35, 50), max_size=2))
def test_borders_stay_in_their_rooms_and_limits(
    a: float, b: float, c: float, d: float, cuts: list[float], laughs: list[float]
) -> None:
    wish = Span(start_s=20.0, end_s=40.0)
    opening, closing = Room(20 - a, 20 + b), Room(40 - c, 40 + d)
    reactions = [Span(start_s=t, end_s=t + 1.5) for t in sorted(laughs)]
    found = refine(
        wish, opening, closing, Limits(18, 21.5), SOUND, reactions, lambda x, y: [t for t in cuts if x <= t < y]
    )
    assert opening.earliest_s - 1e-3 <= found.start_s <= opening.latest_s + 1e-3
    assert closing.earliest_s - 1e-3 <= found.end_s <= closing.latest_s + 1e-3
    assert 18 - 2e-3 <= found.end_s - found.start_s <= 21.5 + 2e-3
