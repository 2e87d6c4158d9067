from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.artifacts import VideoInfo
from stages.media.framerate import conform, frame_count, output_rate
from stages.media.video import Frame

VIDEO = VideoInfo(
    index=0, codec="h264", profile=None, width=1920, height=1080, coded_width=1920, coded_height=1080, rotation=0,
    fps=30.0, variable_rate=False, pix_fmt="yuv420p", bit_depth=8, hdr=False,
)  # fmt: skip


@pytest.mark.parametrize(
    ("fps", "variable", "expected"),
    [
        (23.976, False, Fraction(24000, 1001)),
        (24.0, False, Fraction(24)),
        (24.98, False, Fraction(25)),
        (29.97, False, Fraction(30000, 1001)),
        (30.0, False, Fraction(30)),
        (59.94, False, Fraction(60000, 1001)),
        (120.0, False, Fraction(60)),
        (119.88, False, Fraction(60000, 1001)),
        (240.0, False, Fraction(60)),
        (100.0, False, Fraction(50)),
        (15.0, False, Fraction(30)),
        (12.5, False, Fraction(25)),
        (10.0, False, Fraction(30)),
        (29.4, True, Fraction(30000, 1001)),
        (27.1, True, Fraction(30000, 1001)),
        (22.0, True, Fraction(24)),
        (8.0, True, Fraction(24)),
        (0.0, False, Fraction(30)),
    ],
)
def test_rates_snap_to_what_players_expect(fps: float, variable: bool, expected: Fraction) -> None:
    video = msgspec.structs.replace(VIDEO, fps=fps, variable_rate=variable)
    assert output_rate(video) == expected


@given(st.floats(1.0, 480.0), st.booleans())
def test_every_rate_ends_between_23_and_60(fps: float, variable: bool) -> None:
    rate = output_rate(msgspec.structs.replace(VIDEO, fps=fps, variable_rate=variable))
    assert Fraction(2397, 100) * Fraction(95, 100) <= rate <= 61


def frames(times: list[float]) -> list[Frame[Any]]:
    return [Frame(t, i, i) for i, t in enumerate(times)]


def shown(times: list[float], start_s: float, count: int, rate: Fraction) -> list[Any]:
    return [frame.image for _, frame in conform(frames(times), start_s, count, rate)]


def test_a_steady_source_passes_one_to_one() -> None:
    times = [k / 30 for k in range(60)]
    assert shown(times, times[10], 30, Fraction(30)) == list(range(10, 40))


@pytest.mark.parametrize("offset", [-0.49, -0.2, 0.0, 0.2, 0.49])
def test_a_start_between_pictures_still_passes_one_to_one(offset: float) -> None:
    times = [k / 25 for k in range(60)]
    assert shown(times, times[10] + offset / 25, 30, Fraction(25)) == list(range(10, 40))


def test_gaps_repeat_and_surplus_is_dropped() -> None:
    assert shown([0.0, 0.1, 0.5], 0.0, 6, Fraction(10)) == [0, 1, 1, 1, 1, 2]
    assert shown([k / 60 for k in range(60)], 0.0, 15, Fraction(30)) == list(range(0, 30, 2))


def test_an_early_end_holds_the_last_picture_and_nothing_gives_nothing() -> None:
    assert shown([0.0, 0.1], 0.0, 4, Fraction(10)) == [0, 1, 1, 1]
    assert shown([], 0.0, 4, Fraction(10)) == []


def test_frame_counts_round_to_the_nearest_picture() -> None:
    assert frame_count(10.0, 30.0, Fraction(30000, 1001)) == 599
    assert frame_count(1.0, 1.0, Fraction(30)) == 1
