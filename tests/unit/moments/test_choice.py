"""The whole choice on synthetic talks: planted moments are found, borders cut no word, numbers are kept."""

from __future__ import annotations

import itertools
import random

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.artifacts import Span, Transcript, Word
from stages.speech.words import sentences
from stages.story.choice import Choice, Wish, choose, whole
from stages.story.features import Evidence
from stages.story.sound import Sound
from tests.unit.moments.talks import Talk, planted

WISH = Wish(3, 15.0, 60.0, 1.0, 0.25)
SILENCE = Sound(np.zeros(0), np.zeros(0))


def no_cuts(start_s: float, end_s: float) -> list[float]:
    return []


def pick(talk: Talk, duration_s: float, wish: Wish = WISH, *, rough: bool = False) -> Choice:
    said = talk.transcript(rough=rough)
    if rough:
        said = msgspec.structs.replace(said, sentences=sentences(said.words, rough=True))
    return choose(duration_s, Evidence(said, talk.sound(duration_s), said.speech, [], []), wish, no_cuts)


def overlap(a: Span, start_s: float, end_s: float) -> float:
    """Intersection over union."""
    return max(0.0, min(a.end_s, end_s) - max(a.start_s, start_s)) / (max(a.end_s, end_s) - min(a.start_s, start_s))


@pytest.mark.parametrize(
    ("gain_db", "texts", "rough", "clips", "wanted"),
    [
        pytest.param(3.0, True, False, 3, 0.95, id="words and sound"),
        pytest.param(0.0, True, False, 3, 0.85, id="words alone"),
        pytest.param(4.0, False, False, 3, 0.8, id="sound alone"),
        pytest.param(3.0, True, True, 3, 0.9, id="rough words and sound"),
        pytest.param(2.0, True, False, 5, 0.9, id="among five"),
    ],
)
def test_planted_moments_are_found(gain_db: float, texts: bool, rough: bool, clips: int, wanted: float) -> None:
    found = total = 0
    for seed in range(100, 110):
        talk, duration_s = planted(seed, 12, (gain_db,) * 3, texts)
        choice = pick(talk, duration_s, Wish(clips, 15, 60, 1.0, 0.25), rough=rough)
        assert len(choice.clips) == clips
        for plant in talk.plants:
            total += 1
            found += max(overlap(plant, c.start_s, c.end_s) for c in choice.clips) >= 0.5
    assert found / total >= wanted


def test_good_clips_say_why_and_have_titles() -> None:
    talk, duration_s = planted(1, 20)
    choice = pick(talk, duration_s)
    assert choice.notes == []
    assert [c.n for c in choice.clips] == [1, 2, 3]
    assert [c.score for c in choice.clips] == sorted((c.score for c in choice.clips), reverse=True)
    for clip in choice.clips:
        assert clip.title.endswith("?")
        assert "opens with a question" in clip.reasons
        assert 1 <= len(clip.reasons) <= 4
    assert len(choice.considered) <= 50
    assert choice.considered[0].score >= choice.clips[0].score


def test_the_same_input_gives_the_same_clips() -> None:
    first = pick(*planted(3, 8))
    assert first == pick(*planted(3, 8))


def check_borders(choice: Choice, words: list[Word], duration_s: float, wish: Wish, *, short: bool = False) -> None:
    spans = sorted((c.start_s, c.end_s) for c in choice.clips)
    for start_s, end_s in spans:
        assert 0 <= start_s < end_s <= duration_s + 1e-3
        assert end_s - start_s <= wish.max_s + 2e-3
        assert short or end_s - start_s >= wish.min_s - 2e-3
        for border in (start_s, end_s):
            assert not [w for w in words if w.start_s + 1e-3 < border < w.end_s - 1e-3]
    assert all(b[0] - a[1] >= wish.min_gap_s - 2e-3 for a, b in itertools.pairwise(spans))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000),
    st.floats(0.7, 6),
    st.integers(1, 12),
    st.sampled_from([(15, 60), (5, 10), (20, 25), (30, 30), (3, 90)]),
    st.booleans(),
    st.lists(st.floats(0, 400), max_size=40),
    st.lists(st.floats(0, 400), max_size=40),
    st.sampled_from([0.0, 1.0, 5.0]),
)
def test_borders_never_cut_words(
    seed: int,
    minutes: float,
    clips: int,
    lengths: tuple[float, float],
    rough: bool,
    cuts: list[float],
    laughs: list[float],
    gap_s: float,
) -> None:
    talk = Talk(random.Random(seed))
    talk.bland(minutes * 60)
    duration_s = talk.at_s
    wish = Wish(clips, *lengths, gap_s, 0.25)
    reactions = [(Span(start_s=t, end_s=t + 1.5), "laughter") for t in sorted(laughs)]
    said = talk.transcript(rough=rough)
    if rough:
        said = msgspec.structs.replace(said, sentences=sentences(said.words, rough=True))
    choice = choose(
        duration_s,
        Evidence(said, talk.sound(duration_s), said.speech, reactions, []),
        wish,
        lambda a, b: [t for t in sorted(cuts) if a <= t < b],
    )
    short = any("some clips are shorter" in note for note in choice.notes)
    check_borders(choice, said.words, duration_s, wish, short=short)
    assert choice.clips
    if len(choice.clips) < clips:
        assert any(f"of {clips} clips" in note for note in choice.notes)


def test_ten_minutes_of_the_blandest_talk_give_three_clips() -> None:
    talk = Talk(random.Random(0))
    talk.bland(600)
    choice = pick(talk, talk.at_s)
    assert len(choice.clips) == 3
    check_borders(choice, talk.words, talk.at_s, WISH)


def test_too_few_clips_are_told() -> None:
    talk = Talk(random.Random(5))
    talk.bland(40)
    choice = pick(talk, talk.at_s, Wish(10, 15, 60, 1.0, 0.25))
    assert 1 <= len(choice.clips) <= 2
    assert any("of 10 clips" in note for note in choice.notes)


def test_without_speech_the_sound_decides() -> None:
    level = np.random.default_rng(2).normal(-40, 1, int(300 / 0.05))
    level[int(120 / 0.05) : int(150 / 0.05)] += 15
    nothing = Transcript(model="none", device="cpu", language=None, rough=False, words=[], sentences=[], speech=[])
    evidence = Evidence(nothing, Sound(level, np.zeros(len(level))), [], [], [])
    choice = choose(300.0, evidence, Wish(2, 15, 60, 1.0, 0.25), no_cuts)
    assert len(choice.clips) == 2
    assert choice.notes[0] == "there is hardly any speech: chosen by the sound alone"
    assert overlap(Span(start_s=120, end_s=150), choice.clips[0].start_s, choice.clips[0].end_s) > 0.5
    assert choice.clips[0].title in ("Moment at 1:59", "Moment at 2:00")


def test_speech_without_words_is_cut_in_its_pauses() -> None:
    talk = Talk(random.Random(9))
    talk.bland(240)
    heard = msgspec.structs.replace(talk.transcript(), words=[], sentences=[])
    evidence = Evidence(heard, talk.sound(talk.at_s), heard.speech, [], [])
    choice = choose(talk.at_s, evidence, WISH, no_cuts)
    assert len(choice.clips) == 3
    assert choice.notes[0].startswith("speech without words")


def test_with_neither_sound_nor_picture_clips_are_still_made() -> None:
    nothing = Transcript(model="none", device="cpu", language=None, rough=False, words=[], sentences=[], speech=[])
    choice = choose(120.0, Evidence(nothing, SILENCE, [], [], []), WISH, no_cuts)
    assert len(choice.clips) == 3
    assert "spread evenly" in choice.notes[0]


def test_the_whole_video_as_a_clip() -> None:
    talk = Talk(random.Random(1))
    talk.say("A short hello to you all.")
    clip = whole(2.0, talk.transcript())
    assert (clip.n, clip.start_s, clip.end_s) == (1, 0.0, 2.0)
    assert clip.title == "A short hello to you all"
