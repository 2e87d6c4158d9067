"""Time: what is shown and heard when, at every rate a source may have."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.integration.cut.kit import case, decode
from tests.integration.cut.sources import HEIGHT, WIDTH, beep_starts, flash_starts, number_of, numbered

SIZE = (180, 320)
WINDOW_W = HEIGHT * 9 / 16
LEFT = (WIDTH - WINDOW_W) / 2
SCALE = SIZE[0] / WINDOW_W


def steady(rate: Fraction, seconds: float) -> list[Fraction]:
    return [k / rate for k in range(round(seconds * rate))]


def phone(seconds: float) -> list[Fraction]:
    """Intervals of 1/30 s, now and then one and a half or two of it."""
    rng = np.random.default_rng(5)
    times, at = [], Fraction(0)
    while at < seconds:
        times.append(at)
        at += Fraction(int(rng.choice([2, 2, 2, 2, 3, 4])), 60)
    return times


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (Fraction(24), Fraction(24)),
        (Fraction(25), Fraction(25)),
        (Fraction(30000, 1001), Fraction(30000, 1001)),
        (Fraction(30), Fraction(30)),
        (Fraction(60), Fraction(60)),
        (Fraction(120), Fraction(60)),
        (Fraction(15), Fraction(30)),
        (None, Fraction(30)),
    ],
    ids=["24", "25", "29.97", "30", "60", "120", "15", "vfr"],
)
def test_pictures_and_sound_come_when_they_should(tmp_path: Path, rate: Fraction | None, expected: Fraction) -> None:
    source = tmp_path / "flash.mp4"
    times = steady(rate, 4.5) if rate else phone(4.5)
    flashes = numbered(source, times, 4.5)
    start_s, end_s = 1.013, 4.111
    job = case(tmp_path, source, start_s, end_s, size=SIZE)
    result = job.run()
    clip = decode(job.video)
    frame_s = 1 / float(clip.rate)
    if rate:
        assert clip.rate == expected
    else:
        assert clip.rate in (Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30))
    assert abs(len(clip.luma) * frame_s - (end_s - start_s)) <= frame_s
    assert result.duration_s == pytest.approx(len(clip.luma) * frame_s, abs=1e-6)
    assert np.allclose(clip.times_s, np.arange(len(clip.luma)) * frame_s, atol=1e-4)
    assert abs(len(clip.sound) / 48_000 - result.duration_s) <= 0.040

    shown = [float(times[number_of(picture, LEFT, SCALE)]) for picture in clip.luma]
    source_frame_s = 1 / float(rate) if rate else 2 / 30
    late = np.array(shown) - start_s - np.array(clip.times_s)
    assert np.abs(late).max() <= max(source_frame_s, frame_s) + 1e-3
    if rate and rate == expected:
        numbers = [number_of(picture, LEFT, SCALE) for picture in clip.luma]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    seen, heard = flash_starts(clip.luma, clip.times_s), beep_starts(clip.sound)
    inside = [t - start_s for t in flashes if start_s < t < end_s - 0.1]
    assert len(seen) == len(heard) == len(inside)
    for flash, beep, truth in zip(seen, heard, inside, strict=True):
        assert abs(flash - beep) <= 0.040
        assert abs(flash - truth) <= frame_s
        assert abs(beep - truth) <= 0.010


def test_a_source_that_does_not_start_at_zero_stays_in_sync(tmp_path: Path) -> None:
    source = tmp_path / "late.mkv"
    flashes = numbered(source, steady(Fraction(25), 3.0), 3.0, start_s=7.4)
    job = case(tmp_path, source, 0.2, 2.8, size=SIZE)
    job.run()
    clip = decode(job.video)
    seen, heard = flash_starts(clip.luma, clip.times_s), beep_starts(clip.sound)
    assert len(seen) == len(heard) == len([t for t in flashes if t > 0.2])
    assert all(abs(a - b) <= 0.040 for a, b in zip(seen, heard, strict=True))


def test_a_clip_that_reaches_past_the_end_holds_its_last_picture(tmp_path: Path) -> None:
    source = tmp_path / "short.mp4"
    numbered(source, steady(Fraction(30), 2.0), 2.0)
    job = case(tmp_path, source, 1.0, 2.5, size=SIZE)
    result = job.run()
    clip = decode(job.video)
    assert len(clip.luma) == 45
    assert [number_of(p, LEFT, SCALE) for p in clip.luma[-15:]] == [59] * 15
    assert any("held" in note for note in result.notes)
