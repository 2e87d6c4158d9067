"""Words to captions: which words are shown together, on which lines, and from when to when. Pure; no pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.artifacts import Sentence, Word

Measure = Callable[[str], float]
"""Width of a text, in the unit of `CaptionRules.line_width`."""

_PAUSE_S = 0.7
"""A silence between words that ends a caption."""
_SHORT_WORD = 3
"""Words this short (the, of, und, les) mostly belong to what follows."""
_ENDINGS = (".", "!", "?", "…", "。", "！", "？", "؟", "।")
_BREATHS = (",", ";", ":", "—", "–", "，", "、", "；", "،")


@dataclass(frozen=True, slots=True)
class CaptionRules:
    line_width: float
    max_lines: int
    max_words: int
    best_words: int
    """The number of words a caption has when nothing speaks against it."""
    max_duration_s: float
    hold_s: float
    """A caption stays this long after its last word unless the next one comes earlier."""


@dataclass(frozen=True, slots=True)
class Cue:
    """Words[first:last] shown from `start_s` to `end_s`; `lines` split them in the same indices."""

    first: int
    last: int
    lines: tuple[tuple[int, int], ...]
    start_s: float
    end_s: float

    def active(self, words: Sequence[Word], t_s: float) -> int:
        """Index of the word being said at `t_s`: the last one that has begun."""
        current = self.first
        for i in range(self.first + 1, self.last):
            if words[i].start_s > t_s:
                break
            current = i
        return current


def clip_words(words: Sequence[Word], start_s: float, end_s: float) -> list[Word]:
    """The words that begin in [start_s, end_s), with times relative to `start_s`, in order, ends within the clip.

    Words without visible text are left out; times that run backwards are put right.
    """
    chosen = []
    latest_s = 0.0
    for word in sorted(words, key=lambda w: w.start_s):
        text = " ".join("".join(c for c in word.text if c.isprintable()).split())
        if not text or not start_s <= word.start_s < end_s:
            continue
        begin_s = max(word.start_s - start_s, latest_s)
        finish_s = min(max(word.end_s - start_s, begin_s), end_s - start_s)
        chosen.append(Word(text=text, start_s=begin_s, end_s=finish_s, confidence=word.confidence))
        latest_s = begin_s
    return chosen


def sentence_ends(words: Sequence[Word], sentences: Sequence[Sentence], start_s: float, end_s: float) -> set[float]:
    """Start times, relative to `start_s`, of the last word of each sentence within the range."""
    return {
        round(words[s.last - 1].start_s - start_s, 6)
        for s in sentences
        if 0 < s.last <= len(words) and start_s <= words[s.last - 1].start_s < end_s
    }


def make_cues(words: Sequence[Word], ends: set[float], measure: Measure, rules: CaptionRules) -> list[Cue]:
    """Captions that cover every word once, in order.

    A caption never runs across the end of a sentence (`ends`, or its punctuation) or a pause. Within such a run the
    breaks are those of least total cost: near `best_words`, rather after a comma than after a short word, no lone word.
    """
    cues: list[Cue] = []
    run = 0
    for i in range(len(words)):
        if i + 1 == len(words) or _breaks(words, i, ends):
            cues += _best_cues(words, run, i + 1, measure, rules)
            run = i + 1
    return _timed(cues, words, rules)


def joined(words: Sequence[Word], first: int, last: int) -> str:
    """The words as running text: no space between characters of scripts that write none."""
    text = ""
    for word in words[first:last]:
        text += word.text if not text or not needs_space(text, word.text) else f" {word.text}"
    return text


def needs_space(before: str, after: str) -> bool:
    return not (_unspaced(before[-1]) and _unspaced(after[0]))


def _unspaced(character: str) -> bool:
    """Han, kana and their punctuation."""
    code = ord(character)
    return 0x3000 <= code <= 0x30FF or 0x3400 <= code <= 0x9FFF or 0xF900 <= code <= 0xFAFF or 0xFF00 <= code <= 0xFF60


def _breaks(words: Sequence[Word], i: int, ends: set[float]) -> bool:
    word, following = words[i], words[i + 1]
    ended = word.text.rstrip("\"'”’»)]").endswith(_ENDINGS)
    return ended or round(word.start_s, 6) in ends or following.start_s - word.end_s >= _PAUSE_S


def _best_cues(words: Sequence[Word], first: int, last: int, measure: Measure, rules: CaptionRules) -> list[Cue]:
    """Dynamic programming over the run: cost[j] is the least cost of words[first:j]."""
    cost = {first: 0.0}
    back: dict[int, tuple[int, tuple[tuple[int, int], ...]]] = {}
    for j in range(first + 1, last + 1):
        for i in range(j - 1, max(first, j - rules.max_words) - 1, -1):
            if words[j - 1].end_s - words[i].start_s > rules.max_duration_s and j - i > 1:
                break
            lines = _lines(words, i, j, measure, rules)
            if lines is None:
                break
            total = cost[i] + _cost(words, i, j, first, last, rules)
            if j not in cost or total < cost[j]:
                cost[j] = total
                back[j] = (i, lines)
    cues: list[Cue] = []
    j = last
    while j > first:
        i, lines = back[j]
        cues.append(Cue(i, j, lines, words[i].start_s, words[j - 1].end_s))
        j = i
    return cues[::-1]


def _cost(words: Sequence[Word], i: int, j: int, first: int, last: int, rules: CaptionRules) -> float:
    count = j - i
    cost = 1.0 + ((count - rules.best_words) / rules.best_words) ** 2
    if count == 1 and last - first > 1:
        cost += 0.8
    if j < last:
        ending = words[j - 1].text
        if ending.endswith(_BREATHS):
            cost -= 0.5
        elif len(ending) <= _SHORT_WORD and needs_space(ending, words[j].text):
            cost += 0.25
    return cost


def _lines(
    words: Sequence[Word], i: int, j: int, measure: Measure, rules: CaptionRules
) -> tuple[tuple[int, int], ...] | None:
    """The fewest lines that hold words[i:j], evenly filled; None when they do not fit. One word always fits."""
    if j - i == 1 or measure(joined(words, i, j)) <= rules.line_width:
        return ((i, j),)
    if rules.max_lines < 2:
        return None
    best: tuple[float, int] | None = None
    for split in range(i + 1, j):
        widest = max(measure(joined(words, i, split)), measure(joined(words, split, j)))
        if widest <= rules.line_width and (best is None or widest < best[0]):
            best = (widest, split)
    return None if best is None else ((i, best[1]), (best[1], j))


def _timed(cues: list[Cue], words: Sequence[Word], rules: CaptionRules) -> list[Cue]:
    """Ends: held for `hold_s`, never into the next cue; no cue shorter than nothing."""
    timed = []
    for n, cue in enumerate(cues):
        end_s = max(word.end_s for word in words[cue.first : cue.last]) + rules.hold_s
        if n + 1 < len(cues):
            end_s = min(end_s, cues[n + 1].start_s)
        timed.append(Cue(cue.first, cue.last, cue.lines, cue.start_s, max(end_s, cue.start_s)))
    return timed
