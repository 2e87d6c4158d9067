"""The choice: units, candidates, scores, the exact schedule, then borders, titles and reasons."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from stages.artifacts import Span, Transcript, Word
from stages.base import PlannedClip
from stages.story import features, lexicon, rerank
from stages.story.borders import Cuts, Limits, Room, refine
from stages.story.features import Evidence
from stages.story.judge import Verdict, judge, reasons
from stages.story.schedule import schedule
from stages.story.spans import candidates, joined
from stages.story.titles import clock, title
from stages.story.units import Unit, from_sound, from_speech, from_words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MIN_WORDS, _MIN_TALK_SHARE = 8, 0.03
"""With fewer words or less speech than this the words do not tell what the video is about."""
_MIN_SPEECH_SHARE = 0.1
_THIN = 0.35
"""A candidate with a smaller share of speech is mostly silence: only taken when nothing better is left."""
_TIER_COST = 6.0
"""Taken off the total of candidates that are thin or too short; more than scores usually differ."""
_APART_SHARE = 0.25
"""Where the number allows it, clips lie apart by this share of the source for each, at most by the longest clip: two
halves of one good moment are no two moments."""
_MAX_CONSIDERED = 50
_SAME = 0.5
"""Two candidates that share more than this of the shorter one are the same moment."""
_OPINION = 0.5
"""Weight of the language model's grade against our own score, where it is asked."""
_FORGONE = 0.5
"""Factor on the score of candidates that the language model was not shown."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for; seconds."""

    clips: int
    min_s: float
    max_s: float
    min_gap_s: float
    pad_s: float


@dataclass(frozen=True, slots=True)
class Choice:
    clips: list[PlannedClip]
    """Best first, numbered from 1."""
    considered: list[PlannedClip]
    candidates: int
    notes: list[str] = field(default_factory=list)


def choose(
    duration_s: float, evidence: Evidence, wish: Wish, cuts: Cuts, endpoint: rerank.Endpoint | None = None
) -> Choice:
    """Up to `wish.clips` disjoint clips with the largest sum of scores. `cuts` finds hard cuts in a short range."""
    return _Chooser(duration_s, evidence, wish, cuts).choose(endpoint)


class _Chooser:
    def __init__(self, duration_s: float, evidence: Evidence, wish: Wish, cuts: Cuts) -> None:
        self._duration_s = duration_s
        self._evidence = evidence
        self._wish = wish
        self._cuts = cuts
        self._notes: list[str] = []
        self._units, self._spoken = self._find_units()
        fitting, short = candidates(self._units, duration_s, wish.min_s, wish.max_s, wish.pad_s)
        self._spans = joined(fitting, short)
        self._short = len(fitting)  # candidates from here on are too short
        self._words = features.of_words(self._units, self._spans, evidence.transcript)
        self._sound = features.of_sound(self._units, self._spans, evidence)
        ideal_s = math.sqrt(wish.min_s * wish.max_s)
        self._verdict: Verdict = judge(
            self._spans, self._words, self._sound, rough=evidence.transcript.rough, ideal_s=ideal_s
        )

    def choose(self, endpoint: rerank.Endpoint | None) -> Choice:
        scores = self._verdict.scores
        best = self._distinct(scores)
        if endpoint is not None and len(best):
            scores = self._graded(scores, best[: rerank.MAX_GRADED], endpoint)
            best = self._distinct(scores)
        chosen = self._schedule(scores)
        spans = self._refined(chosen)
        ranked = sorted(range(len(chosen)), key=lambda i: (-scores[chosen[i]], spans[i].start_s))
        clips = [self._planned(chosen[i], n, spans[i], float(scores[chosen[i]])) for n, i in enumerate(ranked, 1)]
        considered = [
            self._planned(k, n, self._span(k), float(scores[k])) for n, k in enumerate(best[:_MAX_CONSIDERED], 1)
        ]
        if len(clips) < self._wish.clips:
            self._notes.append(self._too_few(len(clips)))
        return Choice(clips, considered, len(self._spans), self._notes)

    def _find_units(self) -> tuple[list[Unit], bool]:
        """The units, and whether they are speech (else any sound)."""
        transcript, speech = self._evidence.transcript, self._evidence.speech
        longest_s = self._wish.max_s / 2
        share = sum(s.end_s - s.start_s for s in speech) / self._duration_s
        if len(transcript.words) >= _MIN_WORDS and share >= _MIN_TALK_SHARE:
            if transcript.rough:
                self._notes.append("the transcript is rough: the sound counted for more than the words")
            return from_words(transcript, longest_s), True
        if share >= _MIN_SPEECH_SHARE:
            self._notes.append("speech without words: chosen by how it sounds, borders in pauses")
            return from_speech(speech, longest_s, self._evidence.sound), True
        what = [
            *(["the sound"] if len(self._evidence.sound) else []),
            *(["the picture"] if self._evidence.changes else []),
        ]
        basis = (
            f"chosen by {' and '.join(what)} alone"
            if what
            else "neither sound nor picture tells anything: spread evenly"
        )
        self._notes.append(f"there is hardly any speech: {basis}")
        return from_sound(self._duration_s, longest_s, self._evidence.sound), False

    def _schedule(self, scores: NDArray[np.float64]) -> list[int]:
        """The best clips among good candidates; thin and short ones only where the number needs them."""
        import numpy as np

        coverage = self._sound.get("coverage")
        thin = np.zeros(len(self._spans), bool) if coverage is None or not self._spoken else coverage < _THIN
        short = np.arange(len(self._spans)) >= self._short
        tier = thin.astype(int) + 2 * short
        best: list[int] = []
        apart_s = max(self._wish.min_gap_s, min(self._wish.max_s, _APART_SHARE * self._duration_s / self._wish.clips))
        for ceiling, gap_s in itertools.product(sorted(set(tier.tolist())), (apart_s, self._wish.min_gap_s)):
            allowed = np.flatnonzero(tier <= ceiling)
            found = schedule(
                self._spans.start_s[allowed],
                self._spans.end_s[allowed],
                scores[allowed] - _TIER_COST * (tier[allowed] > 0),
                self._wish.clips,
                gap_s,
            )
            if len(found) > len(best):
                best = [int(allowed[i]) for i in found]
            if len(best) == self._wish.clips:
                break
        if any(short[k] for k in best):
            self._notes.append("no run of whole sentences had the length asked for: some clips are shorter")
        return best

    def _refined(self, chosen: Sequence[int]) -> list[Span]:
        limits = Limits(self._wish.min_s, self._wish.max_s)
        reacting = [span for span, _ in self._evidence.reactions]
        gap_s = self._wish.min_gap_s
        spans: list[Span] = []
        for k, following in zip(chosen, [*chosen[1:], None], strict=True):
            opening, closing = self._rooms(k)
            start_s, end_s = float(self._spans.start_s[k]), float(self._spans.end_s[k])
            floor_s = spans[-1].end_s + gap_s if spans else 0.0
            opening = Room(max(opening.earliest_s, min(floor_s, start_s)), opening.latest_s)
            if following is not None:
                ceiling_s = float(self._spans.start_s[following]) - gap_s
                closing = Room(closing.earliest_s, min(closing.latest_s, max(ceiling_s, end_s)))
            spans.append(refine(self._span(k), opening, closing, limits, self._evidence.sound, reacting, self._cuts))
        return spans

    def _rooms(self, k: int) -> tuple[Room, Room]:
        """Between which points both borders may move without touching a word (or, without words, far)."""
        first, last = int(self._spans.first[k]), int(self._spans.last[k])
        start_s, end_s = float(self._spans.start_s[k]), float(self._spans.end_s[k])
        if not self._spoken:
            return Room(max(0.0, start_s - 1.0), start_s + 1.0), Room(end_s - 1.0, min(self._duration_s, end_s + 1.0))
        units = self._units
        before_s = units[first - 1].end_s if first else 0.0
        after_s = units[last + 1].start_s if last + 1 < len(units) else self._duration_s
        return (
            Room(min(before_s, start_s), max(units[first].start_s, start_s)),
            Room(min(units[last].end_s, end_s), min(max(after_s, end_s), self._duration_s)),
        )

    def _graded(
        self, scores: NDArray[np.float64], best: Sequence[int], endpoint: rerank.Endpoint
    ) -> NDArray[np.float64]:
        try:
            grades = rerank.grade(endpoint, [self._text(k) for k in best])
        except rerank.NoGrades as error:
            self._notes.append(f"the language model was not heard, the box's own order stands: {error}")
            return scores
        graded = scores * _FORGONE
        for k, opinion in zip(best, grades, strict=True):
            if opinion is not None:
                graded[k] = (1 - _OPINION) * scores[k] + _OPINION * opinion
        self._notes.append(f"graded by the language model {endpoint.model!r} too")
        return graded

    def _distinct(self, scores: NDArray[np.float64]) -> list[int]:
        """The best candidates, best first, no two of them the same moment; at most 50."""
        import numpy as np

        starts, ends = self._spans.start_s, self._spans.end_s
        left = np.lexsort((starts, -scores))
        kept: list[int] = []
        while len(left) and len(kept) < _MAX_CONSIDERED:
            k = int(left[0])
            kept.append(k)
            shared = np.minimum(ends[left], ends[k]) - np.maximum(starts[left], starts[k])
            shorter = np.minimum(ends[left] - starts[left], ends[k] - starts[k])
            left = left[shared <= _SAME * shorter]
        return kept

    def _planned(self, k: int, n: int, span: Span, score: float) -> PlannedClip:
        words = self._clip_words(k)
        said = [lexicon.bare(w.text) for w in words]
        rough = self._evidence.transcript.rough
        return PlannedClip(
            n=n,
            start_s=span.start_s,
            end_s=span.end_s,
            score=round(score, 4),
            title=title(words, span.start_s, rough=rough),
            reasons=reasons(self._verdict, self._words, self._sound, k, said),
            text=" ".join(w.text for w in words),
        )

    def _clip_words(self, k: int) -> list[Word]:
        first, last = self._units[int(self._spans.first[k])], self._units[int(self._spans.last[k])]
        return list(self._evidence.transcript.words[first.first : last.last])

    def _text(self, k: int) -> str:
        return " ".join(w.text for w in self._clip_words(k)) or f"(no words, {clock(float(self._spans.start_s[k]))})"

    def _span(self, k: int) -> Span:
        return Span(start_s=round(float(self._spans.start_s[k]), 3), end_s=round(float(self._spans.end_s[k]), 3))

    def _too_few(self, count: int) -> str:
        where = "with speech " if self._spoken else ""
        return (
            f"{count} of {self._wish.clips} clips: no more separate stretches {where}of "
            f"{self._wish.min_s:g} to {self._wish.max_s:g} s"
        )


def whole(duration_s: float, transcript: Transcript) -> PlannedClip:
    """The source as one clip."""
    return PlannedClip(
        n=1,
        start_s=0.0,
        end_s=round(duration_s, 3),
        score=1.0,
        title=title(transcript.words, 0.0, rough=transcript.rough),
        reasons=["the whole video"],
        text=" ".join(w.text for w in transcript.words),
    )
