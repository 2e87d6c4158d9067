from __future__ import annotations

import msgspec
import numpy as np
import pytest
from av.video.frame import VideoFrame

from stages.artifacts import CropKey, CropPlan, Layout, Pane, ShotPlan
from stages.media.colour import Colour
from stages.media.render import Renderer, moves, shaped, window_at
from stages.media.resample import Window, planes_of
from tests.unit.cut.test_framerate import VIDEO

SMALL = msgspec.structs.replace(VIDEO, width=640, height=360, coded_width=640, coded_height=360)


def key(t_s: float, x: float, y: float, w: float, h: float) -> CropKey:
    return CropKey(t_s=t_s, x=x, y=y, w=w, h=h)


def plan(*shots: tuple[float, float, Layout, list[Pane]]) -> CropPlan:
    return CropPlan(
        start_s=shots[0][0], end_s=shots[-1][1], width=360, height=640,
        shots=[ShotPlan(start_s=a, end_s=b, layout=layout, panes=panes, reason="") for a, b, layout, panes in shots],
    )  # fmt: skip


def halves() -> VideoFrame:
    """Left half dark and red, right half bright and blue."""
    frame = VideoFrame(640, 360, "yuv420p")
    luma, u, v = planes_of(frame)
    luma[:, :320], luma[:, 320:] = 60, 200
    u[:, :160], u[:, 160:] = 100, 180
    v[:, :160], v[:, 160:] = 180, 100
    return frame


LEFT, RIGHT = key(0, 20, 0, 202.5, 360), key(0, 400, 0, 202.5, 360)


def test_the_window_moves_linearly_between_keys_and_holds_outside() -> None:
    keys = [key(1.0, 0, 0, 100, 200), key(3.0, 50, 10, 100, 200)]
    assert [window_at(keys, t).x for t in (0.0, 1.0, 2.0, 2.5, 3.0, 9.0)] == [0, 0, 25, 37.5, 50, 50]
    assert window_at(keys, 2.0).y == 5


def test_a_window_counts_as_moving_a_second_before_and_after_it_moves() -> None:
    keys = [key(0, 10, 0, 100, 200), key(5, 10, 0, 100, 200), key(6, 40, 0, 100, 200), key(20, 40, 0, 100, 200)]
    assert [moves(keys, t) for t in (1.0, 3.9, 4.5, 5.5, 6.5, 7.5, 15.0)] == [
        False,
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    assert not moves([key(0, 1, 2, 3, 4)], 0.0)


def test_windows_are_cut_to_the_pane_s_shape_inside_the_picture() -> None:
    assert shaped(Window(100, 0, 300, 360), 9 / 16, SMALL) == Window(148.75, 0, 202.5, 360)
    grown = shaped(Window(-50, -50, 900, 900), 9 / 16, SMALL)
    assert grown.x >= 0
    assert grown.y >= 0
    assert grown.x + grown.w <= 640
    assert grown.h == 360


def test_cuts_are_frame_exact() -> None:
    panes = [Pane(top=0, height=1, keys=[k]) for k in (LEFT, RIGHT)]
    renderer = Renderer(
        plan((0, 1.0, "still", panes[:1]), (1.0, 2.0, "still", panes[1:])), SMALL, Colour("bt709", False)
    )
    source = halves()
    means = [planes_of(renderer.render(source, t))[0].mean() for t in (0.0, 29 / 30, 0.9999, 1.0, 31 / 30, 5.0)]
    assert means == pytest.approx([60, 60, 200, 200, 200, 200], abs=2)  # 0.9999 is 1.0, rounded elsewhere


def test_a_stack_shows_both_windows() -> None:
    upper = Pane(top=0.0, height=0.5, keys=[key(0, 20, 0, 250, 222)])
    lower = Pane(top=0.5, height=0.5, keys=[key(0, 380, 0, 250, 222)])
    renderer = Renderer(plan((0, 1, "stack", [upper, lower])), SMALL, Colour("bt709", False))
    luma, u, v = planes_of(renderer.render(halves(), 0.5))
    assert luma.shape == (640, 360)
    assert luma[:320].mean() == pytest.approx(60, abs=1)
    assert luma[320:].mean() == pytest.approx(200, abs=1)
    assert (u[:160].mean(), v[160:].mean()) == pytest.approx((100, 100), abs=1)


def test_panes_that_leave_room_stand_on_black() -> None:
    pane = Pane(top=0.25, height=0.5, keys=[key(0, 400, 0, 202.5, 180)])
    luma = planes_of(Renderer(plan((0, 1, "stack", [pane])), SMALL, Colour("bt709", False)).render(halves(), 0.5))[0]
    assert set(np.unique(luma[:160])) == {16}
    assert set(np.unique(luma[480:])) == {16}
    assert luma[170:470].mean() == pytest.approx(200, abs=1)


def test_fit_shows_the_whole_picture_over_a_dark_fill() -> None:
    pane = Pane(top=0, height=1, keys=[key(0, 0, 0, 640, 360)])
    renderer = Renderer(plan((0, 1, "fit", [pane])), SMALL, Colour("bt709", False))
    luma, u, _ = planes_of(renderer.render(halves(), 0.5))
    tall = round(360 * 360 / 640 / 2) * 2
    top = (640 - tall) // 4 * 2
    assert luma[top + 4 : top + tall - 4, 10:170].mean() == pytest.approx(60, abs=1)
    assert luma[top + 4 : top + tall - 4, 190:350].mean() == pytest.approx(200, abs=1)
    for fill in (luma[: top - 2], luma[top + tall + 2 :]):
        assert fill.min() >= 16
        assert fill.max() < 110
        assert np.abs(np.diff(fill[:, ::8].astype(int), axis=1)).max() < 25  # no edge survives the blur
    assert u.min() >= 98


def test_placements_map_source_points_to_output_pixels() -> None:
    pane = Pane(top=0, height=1, keys=[key(0, 100, 0, 202.5, 360)])
    renderer = Renderer(plan((0, 1, "still", [pane])), SMALL, Colour("bt709", False))
    (place,) = renderer.placements(0.5)
    assert place.project(100, 0) == (0, 0)
    assert place.project(302.5, 360) == (360, 640)
    fit = Renderer(
        plan((0, 1, "fit", [Pane(top=0, height=1, keys=[key(0, 0, 0, 640, 360)])])), SMALL, Colour("bt709", False)
    )
    (place,) = fit.placements(0.5)
    assert place.project(320, 180) == pytest.approx((180, 320), abs=1)
