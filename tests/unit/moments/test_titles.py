"""Titles from what is said."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.artifacts import Word
from stages.story.titles import MAX_CHARS, clock, shorten, title


def words(text: str, confidence: float = 0.9) -> list[Word]:
    return [Word(text=t, start_s=i, end_s=i + 0.5, confidence=confidence) for i, t in enumerate(text.split())]


def test_a_question_makes_the_title() -> None:
    assert title(words("I went home. So why do we sleep? Nobody knows."), 0, rough=False) == "Why do we sleep?"


def test_else_the_first_sentence_that_stands_alone() -> None:
    said = "And it was fine. The whole town came to the river. We ate."
    assert title(words(said), 0, rough=False) == "The whole town came to the river"


def test_unsure_or_few_words_give_the_time() -> None:
    assert title(words("some noisy words here", 0.2), 192.4, rough=True) == "Moment at 3:12"
    assert title([], 3792, rough=False) == "Moment at 1:03:12"
    assert title(words("some good words here", 0.8), 0, rough=True) == "Some good words here"


@given(st.text(max_size=300))
def test_titles_are_short(text: str) -> None:
    assert len(shorten(text)) <= MAX_CHARS


def test_long_titles_are_cut_between_words() -> None:
    short = shorten("um so " + "remarkable " * 12)
    assert short.startswith("Remarkable remarkable")
    assert short.endswith("remarkable …")


@pytest.mark.parametrize(("t_s", "text"), [(0, "0:00"), (61.9, "1:01"), (3600, "1:00:00")])
def test_clock(t_s: float, text: str) -> None:
    assert clock(t_s) == text
