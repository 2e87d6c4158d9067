"""How a source sounds: levels, bursts, quiet moments."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from stages.artifacts import Span
from stages.story.sound import HOP_S, RATE_HZ, Sound, listen, reactions, runs

Samples = NDArray[np.float32]


def tone(seconds: float, amplitude: float, hz: float = 440.0) -> Samples:
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return np.asarray(amplitude * np.sin(2 * np.pi * hz * t), np.float32)


def noise(seconds: float, amplitude: float) -> Samples:
    return np.asarray(np.random.default_rng(3).normal(0, amplitude, round(seconds * RATE_HZ)), np.float32)


def test_levels_and_flatness() -> None:
    sound = listen([tone(1.0, 0.1, 1000.0), np.zeros(RATE_HZ, np.float32), noise(1.0, 0.1)])
    assert len(sound) == 3 / HOP_S
    assert sound.level_db[5] == pytest.approx(20 * np.log10(0.1 / np.sqrt(2)), abs=0.2)
    assert sound.level_db[30] == -90
    assert sound.flatness[5] < 0.05
    assert np.median(sound.flatness[45:]) > 0.4


def test_blocks_do_not_matter() -> None:
    samples = noise(3.0, 0.05)
    one = listen([samples])
    many = listen(samples[i : i + 333] for i in range(0, len(samples), 333))
    np.testing.assert_allclose(one.level_db, many.level_db)


def test_applause_after_speech_is_a_reaction_and_speech_is_not() -> None:
    speech = [Span(start_s=0, end_s=4), Span(start_s=8, end_s=12)]
    sound = listen(
        [tone(4, 0.1), np.zeros(RATE_HZ, np.float32), noise(2, 0.08), np.zeros(RATE_HZ, np.float32), tone(4, 0.1)]
    )
    ((span, kind),) = reactions(sound, speech)
    assert kind == "applause"
    assert span.start_s == pytest.approx(5.0, abs=0.1)
    assert span.end_s == pytest.approx(7.0, abs=0.1)


def test_music_and_clicks_are_no_reactions() -> None:
    speech = [Span(start_s=0, end_s=4), Span(start_s=20, end_s=22)]
    silence = np.zeros(RATE_HZ, np.float32)
    sound = listen(
        [tone(4, 0.1), silence, noise(0.1, 0.2), silence[: -RATE_HZ // 10], noise(13, 0.1), silence, tone(2, 0.1)]
    )
    assert reactions(sound, speech) == []


def test_the_quietest_moment_near_the_wish() -> None:
    level = np.full(100, -20.0)
    level[30] = -60
    level[90] = -60
    sound = Sound(level, np.zeros(100))
    assert sound.quietest(1.0, 2.5, 2.0) == pytest.approx(30.5 * HOP_S)
    assert sound.quietest(1.0, 1.01, 1.0) == 1.0
    flat = Sound(np.full(100, -20.0), np.zeros(100))
    assert flat.quietest(1.0, 2.5, 2.0) == pytest.approx(2.0, abs=HOP_S)


def test_runs_close_short_gaps() -> None:
    mask = np.array([0, 1, 1, 0, 1, 0, 0, 0, 1], bool)
    assert runs(mask, 1) == [(1, 5), (8, 9)]
    assert runs(mask, 0) == [(1, 3), (4, 5), (8, 9)]
    assert runs(np.zeros(4, bool), 1) == []
