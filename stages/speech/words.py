"""From a recogniser's words to words and sentences that captions and clips can rely on."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterable, Sequence

import msgspec

from stages.artifacts import Sentence, Span, Word

MIN_WORD_S = 0.02
_SNAP_SLACK_S = 0.1
"""A word may reach this far out of the heard speech before it is pulled back."""
_LONG_WORD_S = 0.7
"""Only longer words are suspected of covering a silence."""
_PAUSE_S = 1.0
"""Ends a sentence in a transcript with punctuation."""
_ROUGH_PAUSE_S = 0.45
"""Ends a sentence in a transcript without; breath groups of read and spoken English are mostly parted by more."""
_MAX_SENTENCE_S = 20.0
_MAX_SENTENCE_WORDS = 60
_TERMINAL = re.compile(r"[.?!…。？！]+[\"'”’»)\]]*$")
_ABBREVIATIONS = frozenset(
    ("mr.", "mrs.", "ms.", "dr.", "prof.", "st.", "jr.", "vs.", "etc.", "e.g.", "i.e.", "u.s.", "u.k.", "a.m.", "p.m.")
)
_INITIAL = re.compile(r"^[A-Z]\.$")


def tidy(words: Iterable[Word], speech: Sequence[Span], duration_s: float) -> list[Word]:
    """Words in order of time, inside [0, duration_s], without overlap, each at least 20 ms long where there is room.

    A long word that reaches out of the heard speech (a habit of attention alignment after a silence) is pulled back to
    it. Words that have no time left are dropped.
    """
    starts = [s.start_s for s in speech]
    tidied: list[Word] = []
    floor_s = 0.0
    for word in sorted(words, key=lambda w: (w.start_s, w.end_s)):
        start_s, end_s = word.start_s, word.end_s
        if end_s - start_s > _LONG_WORD_S:
            start_s, end_s = _within_speech(start_s, end_s, speech, starts)
        start_s = max(start_s, floor_s)
        end_s = min(max(end_s, start_s + MIN_WORD_S), duration_s)
        if end_s <= start_s or not word.text:
            continue
        tidied.append(
            msgspec.structs.replace(
                word, start_s=round(start_s, 3), end_s=round(end_s, 3), confidence=round(word.confidence, 3)
            )
        )
        floor_s = tidied[-1].end_s
    return [w for w in tidied if w.end_s > w.start_s]


def sentences(words: Sequence[Word], *, rough: bool) -> list[Sentence]:
    """Cut the words into sentences that cover them all, in order: at end marks and at pauses.

    `rough`: the words carry no punctuation, pauses decide. None is longer than 20 s or 60 words (a single word may be):
    longer ones are cut at their longest pauses.
    """
    pause_s = _ROUGH_PAUSE_S if rough else _PAUSE_S
    found: list[Sentence] = []
    first = 0
    for i, word in enumerate(words):
        last = i + 1 == len(words)
        if last or ends_sentence(word.text) or words[i + 1].start_s - word.end_s >= pause_s:
            found += _bounded(words, first, i + 1)
            first = i + 1
    return found


def ends_sentence(text: str) -> bool:
    """Whether a word's punctuation ends a sentence; abbreviations and initials do not."""
    return bool(_TERMINAL.search(text)) and text.lower() not in _ABBREVIATIONS and not _INITIAL.match(text)


def split(words: Sequence[Word], sentence: Sentence, max_s: float, max_words: int) -> list[Sentence]:
    """Cut one sentence at its longest pauses, the more central first, until each part keeps both limits."""
    first, last = sentence.first, sentence.last
    if last - first <= 1:
        return [sentence]
    if words[last - 1].end_s - words[first].start_s <= max_s and last - first <= max_words:
        return [sentence]
    middle = (first + last) / 2
    margin = max(1, (last - first) // 5)  # no slivers, and no deep recursion

    def better(i: int) -> tuple[float, float]:
        return round(words[i].start_s - words[i - 1].end_s, 2), -abs(i - middle)

    cut = max(range(first + margin, last - margin + 1), key=better)
    halves = (Sentence(first=first, last=cut), Sentence(first=cut, last=last))
    return [part for half in halves for part in split(words, half, max_s, max_words)]


def _bounded(words: Sequence[Word], first: int, last: int) -> list[Sentence]:
    return split(words, Sentence(first=first, last=last), _MAX_SENTENCE_S, _MAX_SENTENCE_WORDS)


def _within_speech(
    start_s: float, end_s: float, speech: Sequence[Span], starts: Sequence[float]
) -> tuple[float, float]:
    """The part of [start_s, end_s) inside the stretch of speech that it overlaps most, with a little slack."""
    best, overlap_s = None, 0.0
    for span in speech[max(0, bisect.bisect(starts, start_s) - 1) :]:
        if span.start_s >= end_s:
            break
        shared_s = min(end_s, span.end_s) - max(start_s, span.start_s)
        if shared_s > overlap_s:
            best, overlap_s = span, shared_s
    if best is None:
        return start_s, end_s
    return max(start_s, best.start_s - _SNAP_SLACK_S), min(end_s, best.end_s + _SNAP_SLACK_S)
