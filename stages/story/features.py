"""What speaks for each candidate, as numbers: one array per feature, all candidates at once."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.artifacts import Span, Transcript
from stages.speech.words import ends_sentence
from stages.story import lexicon
from stages.story.sound import HOP_S, Sound, mask_of
from stages.story.spans import Spans
from stages.story.units import Unit

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

HOOK_S = 3.0
"""The first seconds decide whether people stay."""
_BLOCK_S = 45.0
"""Length of the parts of a talk whose vocabulary is compared."""
_PAUSE_CAP_S = 2.0
_TOPIC_UNITS = 5
"""Units on each side of a border whose words are compared."""
_LIVELY_S = 3.0
_AFTER_S = 2.0
"""A reaction this soon after a clip's last word belongs to it (and is given room by the border where there is any)."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the source. `reactions` are (span, kind), `changes` (time, grey difference)."""

    transcript: Transcript
    sound: Sound
    speech: Sequence[Span]
    reactions: Sequence[tuple[Span, str]]
    changes: Sequence[tuple[float, float]]


def of_words(units: Sequence[Unit], spans: Spans, transcript: Transcript) -> dict[str, Values]:
    """Features of what is said. Empty when the units have no words."""
    import numpy as np

    if not any(u.last > u.first for u in units):
        return {}
    talk = _Talk(units, transcript)
    words = np.maximum(_sums(talk.words, spans), 1.0)
    minutes = np.maximum(spans.end_s - spans.start_s, 1.0) / 60

    def per_word(counts: Values) -> Values:
        return 100 * _sums(counts, spans) / words

    return {
        "question": talk.asks[spans.first],
        "hook": talk.hook[spans.first],
        "questions": np.minimum(_sums(talk.asks, spans) / minutes, 8.0),
        "contrast": per_word(talk.contrast),
        "emphasis": per_word(talk.emphasis),
        "numbers": per_word(talk.numbers),
        "address": per_word(talk.address),
        "novelty": _sums(talk.rarity, spans) / np.maximum(_sums(talk.content, spans), 1.0),
        "standalone": -talk.dangles[spans.first],
        "finished": talk.ends[spans.last],
        "topic": talk.topic[spans.first] + talk.topic[spans.last + 1],
    }


def of_sound(units: Sequence[Unit], spans: Spans, evidence: Evidence) -> dict[str, Values]:
    """Features of how it sounds, and of the picture's change. Empty without sound."""
    import numpy as np

    found: dict[str, Values] = {}
    sound = evidence.sound
    length = spans.end_s - spans.start_s
    if len(sound):
        talk = mask_of(evidence.speech, len(sound)) if evidence.speech else np.ones(len(sound), bool)
        talk = talk if talk.any() else np.ones(len(sound), bool)
        first = np.clip((spans.start_s / HOP_S).astype(int), 0, len(sound) - 1)
        last = np.clip(np.ceil(spans.end_s / HOP_S).astype(int), first + 1, len(sound))
        hook = np.minimum(first + round(HOOK_S / HOP_S), last)
        heard = np.maximum(_over(talk, first, last), 1.0)
        level = np.where(talk, sound.level_db, 0.0)
        mean = _over(level, first, last) / heard
        usual, loud = float(np.median(sound.level_db[talk])), float(np.percentile(sound.level_db[talk], 90))
        hook_heard = np.maximum(_over(talk, first, hook), 1.0)
        found["loud"] = mean - usual
        found["peaks"] = _over(talk & (sound.level_db > loud), first, last) / heard
        found["lively"] = _over(_wobble(sound, talk), first, last) / heard
        found["opening"] = _over(level, first, hook) / hook_heard - usual
        if evidence.speech:
            found["coverage"] = np.minimum(heard * HOP_S / np.maximum(length, HOP_S), 1.0)
        if evidence.reactions:
            reacting = mask_of([span for span, _ in evidence.reactions], len(sound))
            until = np.minimum(last + round(_AFTER_S / HOP_S), len(sound))
            found["reaction"] = _over(reacting, first, until) * HOP_S / np.maximum(length, 1.0)
    if evidence.changes:
        times, amounts = np.array(evidence.changes, np.float64).T
        totals = np.concatenate([[0.0], np.cumsum(amounts)])
        inside = [np.searchsorted(times, t) for t in (spans.start_s, spans.end_s)]
        found["picture"] = (totals[inside[1]] - totals[inside[0]]) / np.maximum(length, 1.0)
    if units and evidence.speech:
        starts, ends = np.array([u.start_s for u in units]), np.array([u.end_s for u in units])
        gaps = np.concatenate([[_PAUSE_CAP_S], starts[1:] - ends[:-1], [_PAUSE_CAP_S]]).clip(0.0, _PAUSE_CAP_S)
        found["pauses"] = gaps[spans.first] + gaps[spans.last + 1]
        if any(u.last > u.first for u in units):
            words = np.array([u.last - u.first for u in units], np.float64)
            found["pace"] = _sums(words, spans) / np.maximum(_sums(ends - starts, spans), 1.0)
    return found


def _wobble(sound: Sound, talk: NDArray[np.bool_]) -> Values:
    """How far each heard value lies from the mean of the 3 s around it, dB: a step in loudness is no liveliness."""
    import numpy as np

    half = round(_LIVELY_S / HOP_S / 2)
    at = np.arange(len(sound))
    first, last = np.maximum(at - half, 0), np.minimum(at + half + 1, len(sound))
    mean = _over(np.where(talk, sound.level_db, 0.0), first, last) / np.maximum(_over(talk, first, last), 1.0)
    return np.where(talk, np.abs(sound.level_db - mean), 0.0)


class _Talk:
    """Figures of each unit's words."""

    def __init__(self, units: Sequence[Unit], transcript: Transcript) -> None:
        import numpy as np

        self._words = transcript.words
        bare = [[lexicon.bare(w.text) for w in transcript.words[u.first : u.last]] for u in units]
        content = [[w for w in unit if len(w) > 2 and w not in lexicon.STOP] for unit in bare]
        rarity = self._rarity(units, content)

        def count(test: Callable[[str], bool]) -> Values:
            return np.array([sum(map(test, unit)) for unit in bare], np.float64)

        punctuated = not transcript.rough
        self.words = np.array([len(unit) for unit in bare], np.float64)
        self.content = np.array([len(unit) for unit in content], np.float64)
        self.contrast = count(lexicon.CONTRAST.__contains__)
        self.emphasis = count(lexicon.EMPHASIS.__contains__)
        self.address = count(lexicon.SECOND_PERSON.__contains__)
        self.numbers = count(lexicon.is_number)
        self.rarity = np.array([sum(rarity[w] for w in unit) for unit in content], np.float64)
        asking = [
            bool(unit) and lexicon.asks(unit, self._words[u.last - 1].text, punctuated=punctuated)
            for unit, u in zip(bare, units, strict=True)
        ]
        self.asks = np.array(asking, np.float64)
        self.dangles = np.array([dangles(unit) for unit in bare], np.float64)
        self.ends = np.array(
            [u.last > u.first and (transcript.rough or ends_sentence(self._words[u.last - 1].text)) for u in units],
            np.float64,
        )
        self.hook = np.array([self._hook(u, unit) for u, unit in zip(units, bare, strict=True)], np.float64)
        self.topic = self._borders(content, rarity)

    def _hook(self, unit: Unit, bare: list[str]) -> int:
        """How many kinds of signal the unit's first seconds hold, not how often."""
        until_s = unit.start_s + HOOK_S
        opening = [
            w for w, word in zip(bare, self._words[unit.first : unit.last], strict=True) if word.start_s < until_s
        ]
        return (
            any(w in lexicon.SECOND_PERSON for w in opening)
            + any(lexicon.is_number(w) for w in opening)
            + any(w in lexicon.EMPHASIS for w in opening)
            + any(w in lexicon.CONTRAST for w in opening[1:])
        )

    @staticmethod
    def _rarity(units: Sequence[Unit], content: Sequence[Sequence[str]]) -> dict[str, float]:
        """Inverse document frequency over blocks of 45 s, 0 (in every block) to 1 (in one)."""
        blocks: dict[int, set[str]] = {}
        for unit, words in zip(units, content, strict=True):
            blocks.setdefault(int(unit.start_s / _BLOCK_S), set()).update(words)
        seen = Counter(word for block in blocks.values() for word in block)
        scale = math.log(len(blocks) + 1)
        return {word: math.log((len(blocks) + 1) / n) / scale for word, n in seen.items()}

    @staticmethod
    def _borders(content: Sequence[Sequence[str]], rarity: dict[str, float]) -> Values:
        """For each border between units, 1 less the cosine of the vocabularies beside it; 1 at both ends."""
        import numpy as np

        depth = np.ones(len(content) + 1)
        for i in range(1, len(content)):
            left = Counter(w for unit in content[max(0, i - _TOPIC_UNITS) : i] for w in unit)
            right = Counter(w for unit in content[i : i + _TOPIC_UNITS] for w in unit)
            shared = sum(left[w] * right[w] * rarity[w] ** 2 for w in left if w in right)
            norms = [math.sqrt(sum((n * rarity[w]) ** 2 for w, n in side.items())) for side in (left, right)]
            depth[i] = 1.0 - shared / (norms[0] * norms[1]) if norms[0] and norms[1] else 1.0
        return depth


def dangles(bare: Sequence[str]) -> bool:
    """Whether a sentence opens by leaning on the one before; leading fillers are passed over."""
    opening = next((w for w in bare if w not in lexicon.FILLERS or w in lexicon.DANGLING), "")
    return opening in lexicon.DANGLING


def _sums(per_unit: Values, spans: Spans) -> Values:
    """Sum over each candidate's units."""
    import numpy as np

    totals = np.concatenate([[0.0], np.cumsum(per_unit)])
    summed: Values = totals[spans.last + 1] - totals[spans.first]
    return summed


def _over(curve: NDArray[np.generic], first: NDArray[np.int64], last: NDArray[np.int64]) -> Values:
    """Sum of the curve over [first, last) for each candidate."""
    import numpy as np

    totals = np.concatenate([[0.0], np.cumsum(curve, dtype=np.float64)])
    summed: Values = totals[last] - totals[first]
    return summed
