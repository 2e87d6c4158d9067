"""From features to one score a candidate, and the reasons for it in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stages.story import lexicon
from stages.story.spans import Spans

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

WORD_WEIGHTS: Mapping[str, float] = {
    "question": 0.6,
    "hook": 0.7,
    "questions": 0.4,
    "contrast": 0.5,
    "emphasis": 0.5,
    "numbers": 0.4,
    "address": 0.4,
    "novelty": 0.6,
    "standalone": 1.0,
    "finished": 0.8,
    "topic": 0.8,
}
SOUND_WEIGHTS: Mapping[str, float] = {
    "loud": 0.6,
    "peaks": 0.5,
    "lively": 0.4,
    "opening": 0.3,
    "pace": 0.3,
    "pauses": 0.8,
    "reaction": 1.0,
    "coverage": 0.8,
    "picture": 0.4,
}
_NOTICED: Mapping[str, float] = {
    "loud": 2.0,
    "opening": 2.0,
    "lively": 0.5,
    "peaks": 0.05,
    "coverage": 0.08,
    "pace": 0.15,
    "pauses": 0.2,
    "picture": 1.0,
    "topic": 0.05,
    "novelty": 0.02,
}
"""Differences (in each feature's own unit) that one just notices; the least divisor of its z-score."""
_LENGTH_WEIGHT = 0.5
_ROUGH_WORDS, _ROUGH_SOUND = 0.35, 1.3
"""Rough words are wrong in one of four: what they say counts less, how it sounds more."""
_Z_KNEE = 3.0
"""Beyond it a z-score counts by its logarithm: no single feature decides alone, and more is still more."""
_SOFTNESS = 2.0
"""Features that speak for a moment come together; a steeper curve would make all good candidates equal."""
_MAD_TO_SIGMA = 1.4826
_TELLING_Z = 0.8
"""From here on a feature is worth naming."""
_MAX_REASONS = 4
_FRAME = frozenset({"standalone", "finished", "topic", "pauses", "coverage"})
"""How the clip is set off, not what is in it: named after everything else."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`total` for comparing, any real number; `scores` 0 to 1; `parts` each feature's weighted share of the total."""

    total: Values
    scores: Values
    parts: dict[str, Values]
    z: dict[str, Values]


def judge(
    spans: Spans, words: Mapping[str, Values], sound: Mapping[str, Values], *, rough: bool, ideal_s: float
) -> Verdict:
    """Weigh the features, each as a robust z-score within this source, and how near the length is to `ideal_s`."""
    import numpy as np

    z: dict[str, Values] = {}
    parts: dict[str, Values] = {}
    scale = 0.0
    for features, weights, factor in (
        (words, WORD_WEIGHTS, _ROUGH_WORDS if rough else 1.0),
        (sound, SOUND_WEIGHTS, _ROUGH_SOUND if rough else 1.0),
    ):
        for name, values in features.items():
            z[name] = robust_z(values, _NOTICED.get(name, 0.0))
            parts[name] = factor * weights[name] * z[name]
            scale += (factor * weights[name]) ** 2
    length = np.maximum(spans.end_s - spans.start_s, 0.1)
    parts["length"] = -_LENGTH_WEIGHT * np.abs(np.log(length / ideal_s))
    total: Values = np.sum(list(parts.values()), axis=0)
    return Verdict(total, 1 / (1 + np.exp(-total / (_SOFTNESS * max(math.sqrt(scale), 1.0)))), parts, z)


def robust_z(values: Values, least: float = 0.0) -> Values:
    """(value - median) / (1.4826 MAD), compressed beyond ±3.

    Where the MAD is 0 the mean deviation stands in. The divisor is at least `least`: what is too small to be noticed
    is no difference, however even the source.
    """
    import numpy as np

    if not len(values):
        return values
    distance = values - np.median(values)
    spread = _MAD_TO_SIGMA * float(np.median(np.abs(distance)))
    if spread < 1e-9:
        spread = 1.2533 * float(np.mean(np.abs(distance)))  # sigma of a normal distribution by its mean deviation
    spread = max(spread, least)
    if spread < 1e-9:
        return np.zeros_like(values)
    z: Values = distance / spread
    beyond = np.maximum(np.abs(z), _Z_KNEE)
    compressed: Values = np.clip(z, -_Z_KNEE, _Z_KNEE) + np.sign(z) * np.log(beyond / _Z_KNEE)
    return compressed


def reasons(
    verdict: Verdict, words: Mapping[str, Values], sound: Mapping[str, Values], k: int, said: Sequence[str] = ()
) -> list[str]:
    """The features that count most for candidate `k`, at most four, at least one. `said`: its words, bare."""
    known = {**words, **sound}
    ranked = sorted(verdict.z, key=lambda n: (n in _FRAME, -verdict.parts[n][k], n))
    told = [
        text
        for n in ranked
        if verdict.z[n][k] >= _TELLING_Z and (text := _sentence(n, float(known[n][k]), _share_above(known[n], k), said))
    ]
    if not told:
        told = [text for n in ranked[:3] if (text := _sentence(n, float(known[n][k]), 0.5, said))]
    return list(dict.fromkeys(told))[:_MAX_REASONS] or ["the most even stretch: nothing stands out in this video"]


def _share_above(values: Values, k: int) -> float:
    """Share of the candidates that have more of it."""
    import numpy as np

    return float(np.mean(values > values[k]))


def _sentence(name: str, value: float, share: float, said: Sequence[str]) -> str:
    """One feature in words, or nothing where it is not worth a word."""
    top = "10 %" if share <= 0.1 else "quarter" if share <= 0.25 else "half"
    match name:
        case "question":
            return "opens with a question" if value > 0 else ""
        case "hook":
            return (
                "pulls in within the first 3 s: a figure, a strong word, a contrast or the viewer" if value > 0 else ""
            )
        case "questions":
            return "asks questions" if value > 0 else ""
        case "contrast":
            return "turns on a contrast" + _among(said, lexicon.CONTRAST.__contains__) if value > 0 else ""
        case "emphasis":
            return "strong words" + _among(said, lexicon.EMPHASIS.__contains__) if value > 0 else ""
        case "numbers":
            return "names figures" + _among(said, lexicon.is_number) if value > 0 else ""
        case "address":
            return "speaks to the viewer" if value > 0 else ""
        case "novelty":
            return "says what is said nowhere else in the video"
        case "standalone":
            return "starts without leaning on what came before"
        case "finished":
            return "ends with a finished sentence" if value > 0 else ""
        case "topic":
            return "starts and ends where the subject changes"
        case "loud":
            return f"among the loudest {top} of the video" if value > 0 else ""
        case "peaks":
            return "the voice peaks often"
        case "lively":
            return "a lively voice: loud and soft alternate"
        case "opening":
            return "opens loud" if value > 0 else ""
        case "pace":
            return f"spoken fast ({value:.1f} words a second)"
        case "pauses":
            return "between clear pauses"
        case "reaction":
            return "people react: laughter, applause or the like" if value > 0 else ""
        case "coverage":
            return "speech almost throughout" if value > 0.7 else ""
        case "picture":
            return "much happens in the picture" if share <= 0.25 else ""
    return ""


def _among(said: Sequence[str], test: Callable[[str], bool]) -> str:
    """Up to three of the words that passed, in brackets; empty when they are not known."""
    found = list(dict.fromkeys(w for w in said if test(w)))[:3]
    return f" ({', '.join(found)})" if found else ""
