from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from av.video.frame import VideoFrame

from stages.media.colour import colour_of, transfer_of
from stages.media.resample import Sampler, Window, planes_of
from tests.unit.cut.test_framerate import VIDEO
from tests.unit.cut.test_tonemap import pq

SMALL = msgspec.structs.replace(VIDEO, width=128, height=128, coded_width=128, coded_height=128)
WHOLE = Window(0, 0, 128, 128)


def flat(luma: int, u: int, v: int, pix_fmt: str = "yuv420p") -> VideoFrame:
    frame = VideoFrame(128, 128, pix_fmt)
    kind = np.uint16 if "10" in pix_fmt else np.uint8
    for plane, value in zip(frame.planes, (luma, u, v), strict=True):
        plane.update(np.full(plane.buffer_size // np.dtype(kind).itemsize, value, kind).tobytes())
    return frame


def means(frame: VideoFrame) -> tuple[float, ...]:
    return tuple(float(plane[8:-8, 8:-8].mean()) for plane in planes_of(frame))


@pytest.mark.parametrize(("nits", "signal"), [(0.0, 0.0), (26.0, 0.42), (203.0, 0.85), (1000.0, 1.0)])
def test_pq_pictures_come_out_at_sdr_levels(tmp_path: Path, nits: float, signal: float) -> None:
    frame = flat(round(64 + 876 * pq(nits)), 512, 512, "yuv420p10le")
    frame.color_trc, frame.colorspace, frame.color_range = 16, 9, 1
    assert transfer_of(frame) == "pq"
    colour = colour_of(frame, SMALL, tmp_path / "sdr.cube")
    luma, u, v = means(Sampler(SMALL, colour, 64, 64).sample(frame, WHOLE))
    assert luma == pytest.approx(16 + 219 * signal, abs=5)
    assert (u, v) == pytest.approx((128, 128), abs=1.5)


@pytest.mark.parametrize(("tag", "height"), [(5, 1080), (6, 1080), (2, 480)])
def test_bt601_red_becomes_bt709_red(tmp_path: Path, tag: int, height: int) -> None:
    """Tagged, or untagged in standard definition. Red: (81, 90, 240) in BT.601, (63, 102, 240) in BT.709."""
    frame = flat(81, 90, 240)
    frame.colorspace, frame.color_range = tag, 1
    video = msgspec.structs.replace(SMALL, width=height * 4 // 3, height=height)
    colour = colour_of(frame, video, tmp_path / "sdr.cube")
    assert not (tmp_path / "sdr.cube").exists()
    assert means(Sampler(SMALL, colour, 64, 64).sample(frame, WHOLE)) == pytest.approx((63, 102, 240), abs=2)


def test_untagged_hd_stays_as_it_is(tmp_path: Path) -> None:
    frame = flat(63, 102, 240)
    frame.colorspace, frame.color_range = 2, 0
    colour = colour_of(frame, VIDEO, tmp_path / "sdr.cube")
    assert means(Sampler(SMALL, colour, 64, 64).sample(frame, WHOLE)) == pytest.approx((63, 102, 240), abs=1)


def test_full_range_is_narrowed(tmp_path: Path) -> None:
    frame = flat(255, 128, 128, "yuvj420p")
    frame.colorspace = 1
    colour = colour_of(frame, VIDEO, tmp_path / "sdr.cube")
    assert means(Sampler(SMALL, colour, 64, 64).sample(frame, WHOLE))[0] == pytest.approx(235, abs=1)
