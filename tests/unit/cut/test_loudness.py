from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.media.loudness import integrated, limit, measure, normalise
from stages.media.soundtrack import decode_aac, encode_aac, fade

RATE = 48_000


def tone(level_db: float, seconds: float = 3.0, hz: float = 997.0) -> NDArray[np.float32]:
    at = np.arange(round(seconds * RATE)) / RATE
    wave = 10 ** (level_db / 20) * np.sin(2 * np.pi * hz * at)
    return np.stack([wave, wave], axis=1).astype(np.float32)


def bursts(level: float, seconds: float = 4.0) -> NDArray[np.float32]:
    """Noise with hard peaks, like plosives: a crest factor that one gain cannot bring to -14 LUFS."""
    rng = np.random.default_rng(3)
    samples = rng.standard_normal((round(seconds * RATE), 2)) * level
    samples[:: RATE // 5] = np.sign(samples[:: RATE // 5]) * 0.9
    return samples.astype(np.float32)


def test_a_stereo_tone_measures_as_the_standard_says() -> None:
    """EBU Tech 3341 case 1: a stereo sine of 1 kHz at -23 dBFS measures -23 LUFS."""
    assert measure(tone(-23.0), RATE).integrated_lufs == pytest.approx(-23.0, abs=0.1)


def test_true_peaks_between_samples_are_found() -> None:
    """A quarter-rate sine sampled 45 degrees off its crests: samples stay 3 dB under the wave."""
    at = np.arange(RATE)
    wave = 0.5 * np.sin(np.pi / 2 * at + np.pi / 4) * np.hanning(RATE)
    samples = np.stack([wave, wave], axis=1).astype(np.float32)
    assert float(np.abs(samples).max()) == pytest.approx(0.3536, abs=0.001)
    assert measure(samples, RATE).true_peak_dbtp == pytest.approx(-6.02, abs=0.1)
    assert measure(np.zeros((RATE, 2), np.float32), RATE).true_peak_dbtp == float("-inf")


def test_one_gain_is_enough_where_peaks_allow() -> None:
    samples = tone(-30.0)
    out, note = normalise(samples, RATE, -14.0, -2.0)
    assert note is None
    assert integrated(out, RATE) == pytest.approx(-14.0, abs=0.1)
    gain = out[1000:2000] / samples[1000:2000]
    assert np.ptp(gain[np.abs(samples[1000:2000]) > 0.005]) < 1e-3


def test_peaks_are_limited_to_the_ceiling_and_the_target_is_met() -> None:
    samples = bursts(0.02)
    assert measure(samples, RATE).integrated_lufs < -24
    out, note = normalise(samples, RATE, -14.0, -2.0)
    assert note is not None
    assert "limited" in note
    assert measure(out, RATE).true_peak_dbtp <= -1.9
    assert integrated(out, RATE) == pytest.approx(-14.0, abs=0.5)


def test_the_limiter_touches_only_the_neighbourhood_of_peaks() -> None:
    samples = np.full((RATE, 2), 0.1, np.float32)
    samples[RATE // 2] = 1.0
    out = limit(samples, RATE, -6.0)
    gain = (out / samples)[:, 0]
    assert np.all(gain <= 1.0 + 1e-6)
    assert np.all(gain[: RATE // 2 - RATE // 50] > 0.999)
    assert gain[RATE // 2] <= 10 ** (-6 / 20) + 1e-6
    assert np.all(np.abs(np.diff(gain)) < 0.01)  # no click
    assert np.array_equal(limit(samples * 0.3, RATE, -6.0), samples * np.float32(0.3))


@pytest.mark.parametrize("samples", [np.zeros((RATE, 2), np.float32), tone(-65.0)])
def test_silence_is_left_alone_with_a_note(samples: NDArray[np.float32]) -> None:
    out, note = normalise(samples, RATE, -14.0, -2.0)
    assert np.array_equal(out, samples)
    assert note is not None
    assert "quiet" in note


def test_a_clip_shorter_than_one_block_counts_as_silent() -> None:
    assert measure(tone(-20, seconds=0.2), RATE).quiet


def test_fades_start_and_end_at_nothing() -> None:
    samples = np.ones((RATE, 2), np.float32)
    fade(samples, RATE, 0.01)
    assert samples[0].max() < 1e-4
    assert samples[-1].max() < 1e-4
    assert samples[480:-480].min() == 1.0
    assert np.all(np.diff(samples[:480, 0]) > 0)
    fade(np.zeros((0, 2), np.float32), RATE, 0.01)


def test_aac_keeps_time_to_the_sample() -> None:
    samples = np.zeros((2 * RATE + 333, 2), np.float32)
    samples[RATE : RATE + 24] = 0.8
    packets = encode_aac(samples, 192)
    assert packets[0].pts == -1024
    heard = decode_aac(packets, len(samples))
    assert len(heard) == len(samples)
    assert abs(int(np.abs(heard[:, 0]).argmax()) - (RATE + 12)) <= 16
