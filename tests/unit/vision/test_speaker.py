from __future__ import annotations

import numpy as np
import pytest

from stages.artifacts import Box, Span, Track
from stages.vision.clues import SpeakerRules
from stages.vision.mouth import Motion
from stages.vision.sound import GRID_HZ, RATE_HZ, Voice, listen, silence
from stages.vision.speaker import speaking_turns

RULES = SpeakerRules()
LENGTH_S = 20.0
SHOT = Span(start_s=100.0, end_s=100.0 + LENGTH_S)
STEPS = round(LENGTH_S * GRID_HZ)


def person(number: int, start_s: float = 0.0, end_s: float = LENGTH_S) -> Track:
    times = np.arange(start_s, end_s + 1e-6, 0.1) + SHOT.start_s
    boxes = [Box(t_s=float(t), x=600.0 * number, y=100, w=100, h=120, score=0.9) for t in times]
    return Track(id=number, shot=0, boxes=boxes)


def syllables(rng: np.random.Generator) -> np.ndarray:
    """A level that rises and falls about four times a second."""
    t = np.arange(STEPS) / GRID_HZ
    phase = np.cumsum(rng.uniform(2.5, 5.5, STEPS)) / GRID_HZ
    return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * phase + rng.uniform(0, 6)) * np.ones_like(t))


def scene(
    turns: list[tuple[float, float, int]], *, people: int = 2, noise: float = 0.006, seed: int = 0
) -> tuple[dict[int, Motion], Voice]:
    """Mouths that move with the voice while their owner speaks, and twitch a little otherwise."""
    rng = np.random.default_rng(seed)
    level, spoken = syllables(rng), np.zeros(STEPS, dtype=bool)
    t = np.arange(STEPS) / GRID_HZ
    moving = np.abs(rng.normal(0, noise, (people, STEPS)))
    for start_s, end_s, who in turns:
        inside = (t >= start_s) & (t < end_s)
        spoken |= inside
        moving[who - 1, inside] += 0.08 * level[inside] + np.abs(rng.normal(0, 0.01, int(inside.sum())))
    times = (t + SHOT.start_s).tolist()
    motions = {n + 1: Motion(times=times, values=moving[n].tolist()) for n in range(people)}
    return motions, Voice(start_s=SHOT.start_s, level=np.where(spoken, level, 0.0), speech=spoken)


@pytest.mark.parametrize("seed", range(5))
def test_alternating_people_get_their_turns_within_a_tenth_of_a_second(seed: int) -> None:
    script = [(0.5, 4.8, 1), (5.2, 9.6, 2), (10.0, 14.4, 1), (14.9, 19.5, 2)]
    motions, voice = scene(script, seed=seed)
    turns = speaking_turns(SHOT, [person(1), person(2)], [motions], voice, RULES)
    assert [t.track for t in turns] == [1, 2, 1, 2]
    assert (turns[0].start_s, turns[-1].end_s) == (SHOT.start_s, SHOT.end_s)
    for turn, (start_s, _, _) in list(zip(turns, script, strict=True))[1:]:
        assert turn.start_s - SHOT.start_s == pytest.approx(start_s, abs=0.2)
    assert min(t.confidence for t in turns) > 0.5


def test_a_grunt_of_the_listener_takes_no_turn() -> None:
    motions, voice = scene([(0.5, 9.0, 1), (9.0, 9.3, 2), (9.3, 19.0, 1)])
    turns = speaking_turns(SHOT, [person(1), person(2)], [motions], voice, RULES)
    assert [t.track for t in turns] == [1]


def test_a_chewing_listener_is_not_the_speaker() -> None:
    rng = np.random.default_rng(3)
    motions, voice = scene([(0.5, 19.5, 1)])
    chewing = 0.05 + 0.02 * np.sin(np.arange(STEPS) / GRID_HZ * 2 * np.pi * 1.1) + rng.normal(0, 0.004, STEPS)
    motions[2] = Motion(times=motions[2].times, values=np.abs(chewing).tolist())
    turns = speaking_turns(SHOT, [person(1), person(2)], [motions], voice, RULES)
    longest = max(turns, key=lambda t: t.end_s - t.start_s)
    assert longest.track == 1
    assert sum(t.end_s - t.start_s for t in turns if t.track == 1) > 0.9 * LENGTH_S


def test_turns_are_held_for_the_least_time() -> None:
    script = [(n * 0.6, n * 0.6 + 0.6, 1 + n % 2) for n in range(33)]
    motions, voice = scene(script)
    turns = speaking_turns(SHOT, [person(1), person(2)], [motions], voice, RULES)
    assert all(t.end_s - t.start_s >= RULES.min_turn_s - 0.05 for t in turns)


def test_two_still_mouths_give_no_confidence() -> None:
    motions, voice = scene([], noise=0.004)
    everywhere = Voice(start_s=voice.start_s, level=syllables(np.random.default_rng(9)), speech=np.ones(STEPS, bool))
    turns = speaking_turns(SHOT, [person(1), person(2)], [motions], everywhere, RULES)
    assert max(t.confidence for t in turns) < 0.2


def test_one_face_is_the_speaker_and_the_turn_ends_with_it() -> None:
    [turn] = speaking_turns(SHOT, [person(1, 0.0, 12.0)], [{}], silence(SHOT.start_s, SHOT.end_s), RULES)
    assert (turn.track, turn.start_s) == (1, SHOT.start_s)
    assert turn.end_s == pytest.approx(SHOT.start_s + 12.0, abs=0.05)
    assert turn.confidence == pytest.approx(0.9)


def test_nobody_in_view_gives_no_turns() -> None:
    assert speaking_turns(SHOT, [], [{}], silence(SHOT.start_s, SHOT.end_s), RULES) == []


def test_a_person_speaks_only_while_in_view() -> None:
    motions, voice = scene([(0.5, 19.5, 2)])
    turns = speaking_turns(SHOT, [person(1), person(2, 8.0, 20.0)], [motions], voice, RULES)
    assert [t.track for t in turns] == [1, 2]
    assert turns[1].start_s == pytest.approx(SHOT.start_s + 8.0, abs=0.1)


def tone(seconds: float, at_s: float, for_s: float, *, hz: float = 440.0) -> np.ndarray:
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    on = (t >= at_s) & (t < at_s + for_s)
    quiet = np.random.default_rng(0).normal(0, 0.001, len(t))
    return np.asarray((0.3 * np.sin(2 * np.pi * hz * t) * on + quiet)[:, None], dtype=np.float32)


@pytest.mark.parametrize("chunk", [160, 1000, 16000, 64000])
def test_the_voice_is_measured_alike_whatever_the_chunks(chunk: int) -> None:
    samples = tone(4.0, 1.0, 1.5)
    pieces = [samples[n : n + chunk] for n in range(0, len(samples), chunk)]
    voice = listen(pieces, 50.0, None)
    speech = np.flatnonzero(voice.speech) / GRID_HZ
    assert (speech[0], speech[-1]) == (pytest.approx(1.0, abs=0.08), pytest.approx(2.5, abs=0.08))
    assert np.array_equal(voice.level, listen([samples], 50.0, None).level)


def test_a_detectors_spans_decide_when_there_are_any() -> None:
    voice = listen([tone(4.0, 0.0, 4.0)], 50.0, [Span(start_s=49.0, end_s=51.0), Span(start_s=53.0, end_s=99.0)])
    assert np.flatnonzero(np.diff(voice.speech.astype(int))).tolist() == [24, 74]
