"""Units: the shortest stretches that are never cut. A candidate clip is a run of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from stages.artifacts import Sentence, Span, Transcript
from stages.speech.words import split
from stages.story.sound import HOP_S, Sound

_MAX_UNIT_WORDS = 80
_GRID_S = 2.5
"""Where nobody speaks, a unit has about this length."""
_GRID_SLACK_S = 1.0


@dataclass(frozen=True, slots=True)
class Unit:
    """[start_s, end_s) of a sentence, a stretch of speech or of sound; words[first:last], empty without words."""

    start_s: float
    end_s: float
    first: int = 0
    last: int = 0


def from_words(transcript: Transcript, max_unit_s: float) -> list[Unit]:
    """The transcript's sentences, cut at pauses to at most `max_unit_s` each (a single word may be longer)."""
    words = transcript.words
    sentences = transcript.sentences or [Sentence(first=0, last=len(words))]
    parts = [p for s in sentences if s.last > s.first for p in split(words, s, max_unit_s, _MAX_UNIT_WORDS)]
    return [Unit(words[p.first].start_s, words[p.last - 1].end_s, p.first, p.last) for p in parts]


def from_speech(speech: Sequence[Span], max_unit_s: float, sound: Sound) -> list[Unit]:
    """Stretches of speech without words, long ones cut at quiet moments."""
    return [u for s in speech for u in _grid(s.start_s, s.end_s, min(max_unit_s, 2 * _GRID_S), sound)]


def from_sound(duration_s: float, max_unit_s: float, sound: Sound) -> list[Unit]:
    """The whole source in units of about 2.5 s whose borders lie where it is quiet."""
    return _grid(0.0, duration_s, min(max_unit_s, _GRID_S), sound)


def _grid(start_s: float, end_s: float, step_s: float, sound: Sound) -> list[Unit]:
    count = max(1, round((end_s - start_s) / step_s))
    step_s = (end_s - start_s) / count
    slack_s = min(_GRID_SLACK_S, step_s / 3)
    borders = [start_s]
    for i in range(1, count):
        wish_s = start_s + i * step_s
        borders.append(sound.quietest(wish_s - slack_s, wish_s + slack_s, wish_s))
    borders.append(end_s)
    return [Unit(a, b) for a, b in itertools.pairwise(borders) if b - a > HOP_S / 2]
