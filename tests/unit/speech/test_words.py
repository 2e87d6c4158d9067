"""Words made fit for use, and sentences."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.artifacts import Sentence, Span, Word
from stages.speech.words import ends_sentence, sentences, split, tidy


def word(text: str, start_s: float, end_s: float) -> Word:
    return Word(text=text, start_s=start_s, end_s=end_s, confidence=0.9)


def talk(text: str, *, word_s: float = 0.3, gap_s: float = 0.05) -> list[Word]:
    step = word_s + gap_s
    return [word(t, i * step, i * step + word_s) for i, t in enumerate(text.split())]


def texts(words: list[Word], found: list[Sentence]) -> list[str]:
    return [" ".join(w.text for w in words[s.first : s.last]) for s in found]


times = st.floats(min_value=0, max_value=60, allow_nan=False)
messy_words = st.lists(
    st.builds(lambda a, d: word("w", a, a + d), times, st.floats(min_value=-0.1, max_value=3)), max_size=40
)


@given(messy_words, st.lists(st.tuples(times, times), max_size=5))
def test_tidy_words_are_ordered_disjoint_and_inside(words: list[Word], speech: list[tuple[float, float]]) -> None:
    spans = sorted((Span(start_s=min(a, b), end_s=max(a, b)) for a, b in speech), key=lambda s: s.start_s)
    found = tidy(words, spans, 60.0)
    for w in found:
        assert 0 <= w.start_s < w.end_s <= 60.0
    for a, b in itertools.pairwise(found):
        assert a.end_s <= b.start_s


def test_a_long_word_over_a_silence_is_pulled_back_to_its_speech() -> None:
    # What attention alignment does after a pause (SYSTRAN/faster-whisper#125): the word starts with the silence.
    (found,) = tidy([word("So", 3.0, 9.4)], [Span(start_s=0, end_s=2.9), Span(start_s=9.0, end_s=12.0)], 20.0)
    assert (found.start_s, found.end_s) == (8.9, 9.4)


def test_a_short_word_beside_speech_stays() -> None:
    (found,) = tidy([word("so", 3.0, 3.4)], [Span(start_s=5, end_s=6)], 20.0)
    assert (found.start_s, found.end_s) == (3.0, 3.4)


def test_punctuation_ends_sentences() -> None:
    words = talk("I met Dr. Smith at 3.5 degrees. Why? He said so!")
    assert texts(words, sentences(words, rough=False)) == ["I met Dr. Smith at 3.5 degrees.", "Why?", "He said so!"]


@pytest.mark.parametrize(
    ("text", "ends"),
    [("end.", True), ("really?!", True), ('so."', True), ("…", True), ("Mr.", False), ("J.", False), ("3.5", False)],
)
def test_end_marks(text: str, ends: bool) -> None:
    assert ends_sentence(text) is ends


def test_pauses_end_sentences_of_rough_words() -> None:
    words = [word("one", 0, 0.3), word("two", 0.35, 0.6), word("three", 1.2, 1.5), word("four", 1.55, 1.8)]
    assert texts(words, sentences(words, rough=True)) == ["one two", "three four"]


@given(st.lists(st.tuples(st.floats(0.05, 2), st.floats(0, 2), st.booleans()), min_size=1, max_size=300), st.booleans())
def test_sentences_cover_all_words_and_stay_short(shape: list[tuple[float, float, bool]], rough: bool) -> None:
    words, at = [], 0.0
    for length, gap, stop in shape:
        words.append(word("w." if stop else "w", at, at + length))
        at += length + gap
    found = sentences(words, rough=rough)
    assert [s.first for s in found] == [0, *(s.last for s in found[:-1])]
    assert found[-1].last == len(words)
    for s in found:
        assert s.last - s.first <= 60
        assert s.last - s.first == 1 or words[s.last - 1].end_s - words[s.first].start_s <= 20.0


def test_split_prefers_the_longest_pause() -> None:
    words = [word("w", i * 1.0, i * 1.0 + 0.9) for i in range(6)]
    words += [word("w", i * 1.0 + 0.8, i * 1.0 + 1.7) for i in range(6, 10)]
    assert split(words, Sentence(first=0, last=10), 8.0, 99) == [Sentence(first=0, last=6), Sentence(first=6, last=10)]
