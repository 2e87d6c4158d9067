"""The crop plan from faces alone: pure, so every layout is tried here without a video."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.artifacts import Box, CropPlan, Faces, Span, Track, Turn
from stages.crop import Options, plan_crop

OPTIONS = Options()


def walker(
    number: int, at: Callable[[float], float], *, start_s: float = 0.0, end_s: float = 10.0, h: float = 240.0,
    y: float = 380.0, shot: int = 0,
) -> Track:  # fmt: skip
    """A face whose centre is at(t), y at time t."""
    times = np.arange(start_s, end_s - 1e-6, 0.1)
    boxes = [Box(t_s=float(t), x=at(float(t)) - 0.38 * h, y=y - h / 2, w=0.76 * h, h=h, score=0.9) for t in times]
    return Track(id=number, shot=shot, boxes=boxes)


def faces(
    tracks: list[Track], turns: list[Turn], *, shots: list[Span] | None = None, end_s: float = 10.0,
    width: int = 1920, height: int = 1080,
) -> Faces:  # fmt: skip
    return Faces(
        start_s=0.0, end_s=end_s, width=width, height=height, sample_fps=10.0,
        shots=shots or [Span(start_s=0.0, end_s=end_s)], tracks=tracks, turns=turns, detector="yunet", device="cpu",
    )  # fmt: skip


def turn(track: int, start_s: float, end_s: float, confidence: float = 0.9) -> Turn:
    return Turn(start_s=start_s, end_s=end_s, track=track, confidence=confidence)


def check(plan: CropPlan, source: Faces) -> None:
    """What every plan keeps, whatever it shows."""
    assert plan.shots[0].start_s == source.start_s
    assert plan.shots[-1].end_s == source.end_s
    assert all(a.end_s == b.start_s for a, b in pairwise(plan.shots))
    borders = {s.start_s for s in plan.shots}
    assert {s.start_s for s in source.shots} <= borders
    for shot in plan.shots:
        assert shot.reason
        assert len(shot.panes) == (2 if shot.layout == "stack" else 1)
        for pane in shot.panes:
            times = [k.t_s for k in pane.keys]
            assert times == sorted(set(times))
            assert shot.start_s <= times[0]
            assert times[-1] <= shot.end_s
            assert len(times) <= 10 * (shot.end_s - shot.start_s) + 2
            for key in pane.keys:
                assert -1e-6 <= key.x <= source.width - key.w + 1e-6
                assert -1e-6 <= key.y <= source.height - key.h + 1e-6
                shape = plan.width / (plan.height * pane.height)
                assert key.w / key.h == pytest.approx(shape, rel=1e-3)


def test_a_seated_talker_gets_a_camera_that_stands_still() -> None:
    source = faces([walker(1, lambda t: 1000 + 23 * np.sin(t))], [turn(1, 0, 10)])
    plan = plan_crop(source, OPTIONS)
    check(plan, source)
    [shot] = plan.shots
    assert shot.layout == "still"
    assert shot.reason == "one face, seated: camera still"
    [key] = shot.panes[0].keys
    assert (key.w, key.h, key.y) == (607.5, 1080.0, 0.0)
    assert key.x + key.w / 2 == pytest.approx(1000, abs=25)


def test_a_walker_is_followed() -> None:
    source = faces([walker(1, lambda t: 300 + 120 * t)], [turn(1, 0, 10)])
    plan = plan_crop(source, OPTIONS)
    check(plan, source)
    [shot] = plan.shots
    assert shot.layout == "follow"
    assert shot.panes[0].keys[-1].x - shot.panes[0].keys[0].x > 800
    assert plan.notes == []


def test_a_change_of_speaker_is_a_cut_and_never_a_pan() -> None:
    people = [walker(1, lambda t: 400.0), walker(2, lambda t: 1500.0)]
    source = faces(people, [turn(1, 0, 4), turn(2, 4, 7), turn(1, 7, 10)])
    plan = plan_crop(source, OPTIONS)
    check(plan, source)
    assert [(s.start_s, s.layout, len(s.panes[0].keys)) for s in plan.shots] == [
        (0.0, "still", 1), (4.0, "still", 1), (7.0, "still", 1),
    ]  # fmt: skip
    assert "the person on the right speaks" in plan.shots[1].reason


def test_two_who_sit_close_share_one_frame() -> None:
    people = [walker(1, lambda t: 850.0, h=180), walker(2, lambda t: 1150.0, h=180)]
    source = faces(people, [turn(1, 0, 5), turn(2, 5, 10)])
    plan = plan_crop(source, OPTIONS)
    check(plan, source)
    [shot] = plan.shots
    assert shot.layout == "still"
    assert "one frame holds all" in shot.reason


def test_two_who_come_one_after_the_other_are_cut_between() -> None:
    """A dissolve, or somebody who leaves: near enough for one frame, but never in it together."""
    people = [walker(1, lambda t: 800.0, end_s=5.2), walker(2, lambda t: 1050.0, start_s=4.8)]
    source = faces(people, [turn(1, 0, 5), turn(2, 5, 10)])
    plan = plan_crop(source, OPTIONS)
    check(plan, source)
    assert [(s.start_s, s.layout) for s in plan.shots] == [(0.0, "still"), (5.0, "still")]


def test_an_unknown_speaker_of_two_gives_a_stack() -> None:
    people = [walker(1, lambda t: 1500.0), walker(2, lambda t: 400.0)]
    source = faces(people, [turn(1, 0, 10, confidence=0.05)])
    plan = plan_crop(source, OPTIONS)
    check(plan, source)
    [shot] = plan.shots
    assert shot.layout == "stack"
    left, right = shot.panes
    assert (left.top, left.height, right.top, right.height) == (0.0, 0.5, 0.5, 0.5)
    assert left.keys[0].x < 400 < left.keys[0].x + left.keys[0].w < right.keys[0].x < 1500


def test_quick_answers_give_a_stack_and_long_turns_do_not() -> None:
    people = [walker(1, lambda t: 400.0), walker(2, lambda t: 1500.0)]
    quick = [turn(1 + n % 2, n * 1.25, (n + 1) * 1.25) for n in range(4)]
    source = faces(people, [*quick, turn(1, 5, 10)])
    plan = plan_crop(source, OPTIONS)
    check(plan, source)
    assert [(s.layout, s.end_s) for s in plan.shots] == [("stack", 5.0), ("still", 10.0)]


def test_no_face_shows_the_whole_picture() -> None:
    source = faces([], [])
    plan = plan_crop(source, OPTIONS)
    check_fit = plan.shots[0]
    assert check_fit.layout == "fit"
    [pane] = check_fit.panes
    assert pane.height == pytest.approx(1080 * 1080 / 1920 / 1920)
    assert pane.top == pytest.approx((1 - pane.height) / 2)
    assert (pane.keys[0].w, pane.keys[0].h) == (1920.0, 1080.0)


def test_a_vertical_source_is_shown_as_it_is() -> None:
    source = faces([], [], width=1080, height=1920)
    [shot] = plan_crop(source, OPTIONS).shots
    assert shot.layout == "still"
    assert (shot.panes[0].keys[0].w, shot.panes[0].keys[0].h) == (1080.0, 1920.0)


def test_a_source_taller_than_the_output_is_followed_up_and_down() -> None:
    source = faces(
        [walker(1, lambda t: 540.0, y=400.0), walker(2, lambda t: 540.0, y=1900.0, start_s=10, end_s=20, shot=1)],
        [turn(1, 0, 10), turn(2, 10, 20)], width=1080, height=2400, end_s=20.0,
        shots=[Span(start_s=0, end_s=10), Span(start_s=10, end_s=20)],
    )  # fmt: skip
    plan = plan_crop(source, OPTIONS)
    check(plan, source)
    assert plan.shots[0].panes[0].keys[0].y == 0.0
    assert plan.shots[1].panes[0].keys[0].y == 480.0


def test_a_small_face_gets_a_closer_frame_but_never_past_the_upscale_limit() -> None:
    small = walker(1, lambda t: 900.0, h=70, y=500)
    source = faces([small], [turn(1, 0, 10)])
    plan = plan_crop(source, OPTIONS)
    check(plan, source)
    key = plan.shots[0].panes[0].keys[0]
    assert key.h == pytest.approx(1920 / OPTIONS.max_upscale)
    assert key.y + 0.38 * key.h == pytest.approx(500, abs=5)
    assert "closer frame" in plan.shots[0].reason


def test_a_face_that_goes_away_for_long_gives_the_whole_picture_and_for_short_does_not() -> None:
    source = faces([walker(1, lambda t: 900.0, end_s=4.0)], [turn(1, 0, 4)])
    assert [s.layout for s in plan_crop(source, OPTIONS).shots] == ["still", "fit"]
    source = faces([walker(1, lambda t: 900.0, end_s=8.5)], [turn(1, 0, 8.5)])
    assert [s.layout for s in plan_crop(source, OPTIONS).shots] == ["still"]


def test_state_is_reset_at_a_cut() -> None:
    """The same place before and after a cut: what happens in one shot does not pull the other's camera."""
    shots = [Span(start_s=0, end_s=5), Span(start_s=5, end_s=10)]
    first = walker(1, lambda t: 400.0, end_s=5)
    second = walker(2, lambda t: 1500.0, start_s=5, shot=1)
    alone = faces([walker(2, lambda t: 1500.0, start_s=5, end_s=10)], [turn(2, 5, 10)])
    plan = plan_crop(faces([first, second], [turn(1, 0, 5), turn(2, 5, 10)], shots=shots), OPTIONS)
    assert [s.start_s for s in plan.shots] == [0.0, 5.0]
    other = plan_crop(msgspec.structs.replace(alone, start_s=5.0, shots=[shots[1]]), OPTIONS)
    assert plan.shots[1].panes == other.shots[0].panes


def test_a_face_that_outruns_the_camera_is_noted() -> None:
    source = faces([walker(1, lambda t: 200 if t < 5 else 1700)], [turn(1, 0, 10)])
    plan = plan_crop(source, OPTIONS)
    check(plan, source)
    assert len(plan.notes) == 1
    assert "max_speed" in plan.notes[0]


@st.composite
def anything(draw: st.DrawFn) -> Faces:
    """Faces as a detector under stress might leave them."""
    width, height = draw(st.sampled_from([(1920, 1080), (640, 480), (1080, 1920), (720, 1600), (641, 359)]))
    borders = sorted({0.0, 12.0, *draw(st.lists(st.floats(0.3, 11.7), max_size=3))})
    shots = [Span(start_s=a, end_s=b) for a, b in pairwise(borders)]
    tracks: list[Track] = []
    turns: list[Turn] = []
    for number in range(draw(st.integers(0, 5))):
        shot = draw(st.integers(0, len(shots) - 1))
        span = shots[shot]
        h = draw(st.floats(0.02, 1.2)) * height
        x, y = draw(st.floats(-0.1, 1.1)) * width, draw(st.floats(-0.1, 1.1)) * height
        speed = draw(st.floats(-0.6, 0.6)) * width
        length = span.end_s - span.start_s
        a = span.start_s + draw(st.floats(0, 0.7)) * length
        b = a + draw(st.floats(0.25, 1.0)) * (span.end_s - a)
        times = np.linspace(a, b, max(2, int((b - a) * 5)))
        boxes = [Box(t_s=float(t), x=float(x + speed * (t - a)), y=y, w=0.8 * h, h=h, score=0.8) for t in times]
        tracks.append(Track(id=number + 1, shot=shot, boxes=boxes))
        if draw(st.booleans()) and not any(t.start_s < b and a < t.end_s for t in turns):
            turns.append(Turn(start_s=a, end_s=b, track=number + 1, confidence=draw(st.floats(0, 1))))
    turns.sort(key=lambda t: t.start_s)
    return faces(tracks, turns, shots=shots, end_s=12.0, width=width, height=height)


@settings(max_examples=60, deadline=None)
@given(anything())
def test_any_faces_give_a_whole_plan_inside_the_picture(source: Faces) -> None:
    plan = plan_crop(source, OPTIONS)
    check(plan, source)
    assert plan == plan_crop(source, OPTIONS)
