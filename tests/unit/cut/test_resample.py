from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from av.video.frame import VideoFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.artifacts import VideoInfo
from stages.media.colour import Colour
from stages.media.resample import Sampler, Window, moving_span, planes_of, still_span
from tests.unit.cut.test_framerate import VIDEO

SDR = Colour("bt709", False)
PERIOD = 40.0


def waves(width: int, height: int, axis: int = 1) -> VideoFrame:
    """A sine of 40 pixels along one axis: its phase tells positions to a few thousandths of a pixel."""
    frame = VideoFrame(width, height, "yuv420p")
    luma, u, v = planes_of(frame)
    at = np.arange(width if axis == 1 else height) + 0.5
    line = np.round(128 + 90 * np.sin(2 * np.pi * at / PERIOD))
    luma[:] = line[None, :] if axis == 1 else line[:, None]
    u[:], v[:] = 128, 128
    return frame


def position(frame: VideoFrame, extent: float, axis: int = 1) -> tuple[float, float]:
    """Where (modulo the period) a window of `extent` source pixels begins, and the amplitude that is left."""
    luma = planes_of(frame)[0].astype(float)
    row = luma.mean(axis=0 if axis == 1 else 1) - 128
    at = (np.arange(len(row)) + 0.5) * extent / len(row)
    basis = np.stack([np.sin(2 * np.pi * at / PERIOD), np.cos(2 * np.pi * at / PERIOD)], axis=1)
    (a, b), *_ = np.linalg.lstsq(basis, row, rcond=None)
    return float(np.arctan2(b, a) * PERIOD / 2 / np.pi), float(np.hypot(a, b))


def apart(a: float, b: float) -> float:
    return abs((a - b + PERIOD / 2) % PERIOD - PERIOD / 2)


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("x", [0.0, 0.4, 100.0, 333.1, 655.3, 700.77, 1311.9, 1312.5])
def test_windows_lie_where_they_are_asked_to(x: float, moving: bool) -> None:
    sampler = Sampler(VIDEO, SDR, 1080, 1920)
    out = sampler.sample(waves(1920, 1080), Window(x, 0.0, 607.5, 1080.0), moving=moving)
    assert (out.width, out.height, out.format.name) == (1080, 1920, "yuv420p")
    found, amplitude = position(out, 607.5)
    assert apart(found, x) < (0.03 if moving else 0.15)
    assert amplitude == pytest.approx(90, abs=1.0)


def test_a_slow_pan_moves_every_frame_and_keeps_its_sharpness() -> None:
    sampler = Sampler(VIDEO, SDR, 1080, 1920)
    source = waves(1920, 1080)
    track = [
        position(sampler.sample(source, Window(400 + 0.11 * k, 0, 607.5, 1080), moving=True), 607.5) for k in range(24)
    ]
    steps = np.diff([x for x, _ in track])
    assert np.abs(steps - 0.11).max() < 0.06
    assert np.ptp([amplitude for _, amplitude in track]) < 0.5


@pytest.mark.parametrize("moving", [False, True])
def test_vertical_offsets_hold_too(moving: bool) -> None:
    sampler = Sampler(VIDEO, SDR, 1080, 1920)
    out = sampler.sample(waves(1920, 1080, axis=0), Window(500.0, 33.3, 500.0, 888.9), moving=moving)
    assert apart(position(out, 888.9, axis=0)[0], 33.3) < 0.15


def test_a_zoom_keeps_its_centre() -> None:
    sampler = Sampler(VIDEO, SDR, 540, 960)
    source = waves(1920, 1080)
    for k in range(12):
        w = 500 + 7.3 * k
        window = Window(960 - w / 2, 100.0, w, w * 16 / 9)
        assert apart(position(sampler.sample(source, window, moving=True), w)[0], window.x) < 0.6


def marked(width: int, height: int) -> VideoFrame:
    """A bright block in the top left corner of the coded picture, red-ish chroma beside it."""
    frame = VideoFrame(width, height, "yuv420p")
    luma, u, v = planes_of(frame)
    luma[:], u[:], v[:] = 40, 128, 128
    luma[: height // 4, : width // 4] = 220
    v[: height // 8, : width // 8] = 200
    return frame


@pytest.mark.parametrize(("rotation", "corner"), [(0, (0, 0)), (90, (0, 1)), (180, (1, 1)), (270, (1, 0))])
@pytest.mark.parametrize("moving", [False, True])
def test_pictures_come_upright(rotation: int, corner: tuple[int, int], moving: bool) -> None:
    """The coded top left corner ends top right after a quarter turn clockwise, and so on."""
    turned = rotation in (90, 270)
    upright = (360, 640) if turned else (640, 360)
    video = msgspec.structs.replace(VIDEO, width=upright[0], height=upright[1], coded_width=640, coded_height=360,
                                    rotation=rotation)  # fmt: skip
    out = Sampler(video, SDR, *upright).sample(marked(640, 360), Window(0, 0, *map(float, upright)), moving=moving)
    assert (out.width, out.height) == upright
    luma, _, v = planes_of(out)
    quarters = {
        (r, c): luma[r * (upright[1] * 7 // 8) :, c * (upright[0] * 7 // 8) :][: upright[1] // 8, : upright[0] // 8]
        for r in (0, 1) for c in (0, 1)
    }  # fmt: skip
    assert {key for key, part in quarters.items() if part.mean() > 150} == {corner}
    assert (v > 180).sum() == pytest.approx(640 * 360 / 64, rel=0.1)


def test_windows_of_a_turned_picture_are_upright_coordinates() -> None:
    video = msgspec.structs.replace(VIDEO, width=1080, height=1920, rotation=90)
    out = Sampler(video, SDR, 540, 960).sample(waves(1920, 1080), Window(100.0, 333.0, 540.0, 960.0))
    assert apart(position(out, 960.0, axis=0)[0], 333.0) < 0.15


def test_squeezed_pixels_are_stretched() -> None:
    video = msgspec.structs.replace(VIDEO, width=1024, height=576, coded_width=720, coded_height=576)
    out = Sampler(video, SDR, 324, 576).sample(waves(720, 576), Window(400.0, 0.0, 324.0, 576.0))
    extent = 324 * 720 / 1024
    assert apart(position(out, extent)[0], 400 * 720 / 1024) < 0.15


@pytest.mark.parametrize("size", [(1279, 719), (641, 361), (853, 480)])
def test_odd_sizes_pass(size: tuple[int, int]) -> None:
    width, height = size
    video = msgspec.structs.replace(VIDEO, width=width, height=height, coded_width=width, coded_height=height)
    for window in (Window(0, 0, width, height), Window(width - height * 9 / 16, 0, height * 9 / 16, height)):
        for moving in (False, True):
            out = Sampler(video, SDR, 360, 640).sample(waves(width, height), window, moving=moving)
            assert (out.width, out.height) == (360, 640)
            assert apart(position(out, window.w)[0], window.x) < 0.2


def test_the_decoder_s_own_picture_is_never_handed_out() -> None:
    """A window that needs no scaling would pass the reference picture through; captions would damage later ones."""
    video = msgspec.structs.replace(VIDEO, width=360, height=640, coded_width=360, coded_height=640)
    source = waves(360, 640)
    before = planes_of(source)[0].copy()
    out = Sampler(video, SDR, 360, 640).sample(source, Window(0, 0, 360, 640))
    planes_of(out)[0][:] = 0
    assert np.array_equal(planes_of(source)[0], before)


@pytest.mark.parametrize("pix_fmt", ["yuv420p10le", "yuv422p", "yuv444p", "yuvj420p", "rgb24", "nv12", "gray"])
def test_other_formats_come_as_8_bit_limited(pix_fmt: str) -> None:
    source = waves(640, 360).reformat(
        format=pix_fmt, src_color_range=1, dst_color_range=2 if pix_fmt == "yuvj420p" else 1
    )
    video = msgspec.structs.replace(VIDEO, width=640, height=360, coded_width=640, coded_height=360)
    full = pix_fmt in ("yuvj420p", "rgb24")
    out = Sampler(video, Colour("bt709", full), 202, 360).sample(source, Window(200, 0, 202, 360))
    assert out.format.name == "yuv420p"
    found, amplitude = position(out, 202)
    assert apart(found, 200.0) < 0.2
    assert amplitude == pytest.approx(90, abs=6)


sizes = st.integers(64, 4096)


@settings(max_examples=300, deadline=None)
@given(sizes, st.floats(0.05, 1.0), st.floats(0.0, 1.0), st.integers(16, 540))
def test_spans_stay_inside_and_hold_the_window(size: int, share: float, at: float, half_out: int) -> None:
    length, out = max(8.0, size * share), half_out * 2
    start = (size - length) * at
    for solve in (still_span, moving_span):
        span = solve(start, length, size, out)
        assert span.start >= 0
        assert span.start % 2 == 0
        assert 0 < span.length <= size - span.start
        assert span.scaled >= out
        assert 0.0 <= span.offset <= span.scaled - out
        scale = span.scaled / span.length
        left = span.start + span.offset / scale
        assert abs(left - start) * out / length < 2.5
        assert abs(left + out / scale - (start + length)) * out / length < 2.5


def test_still_spans_are_exact_for_common_windows() -> None:
    errors: list[Any] = []
    for x in np.linspace(0, 1312.5, 97):
        span = still_span(float(x), 607.5, 1920, 1080)
        errors.append(abs(span.start + span.offset * span.length / span.scaled - x) * 1080 / 607.5)
    assert max(errors) <= 0.3


def test_video_info_is_what_the_sampler_trusts() -> None:
    assert isinstance(VIDEO, VideoInfo)
