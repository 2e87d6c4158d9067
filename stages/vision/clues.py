"""How likely each face in view is speaking, step by step.

`MotionClues` need no model: a face's share of all mouth motion while there is speech, and how well its motion keeps
time with the voice. `ScoreClues` are the scores of a network that watched lips and sound. `JointClues` weigh both: the
network knows real faces far better, the motion is exact about when and still works on faces unlike any it has seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stages.vision.mouth import Motion
from stages.vision.sound import GRID_HZ

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class SpeakerRules(Struct, frozen=True, kw_only=True):
    min_turn_s: float = 1.0
    change_cost: float = 0.5
    """In seconds of unit evidence: how much better the other must look before the turn passes."""
    smooth_s: float = 0.28
    agreement_s: float = 2.0
    quiet_motion: float = 0.012
    """Mouth motion of a closed mouth: noise, compression, a smile. Shares are counted above it."""


class Scene(Struct, frozen=True, kw_only=True):
    """One shot with at least two faces. `grid` (steps) source times; `alive` (tracks, steps) who is in view; `level`
    (steps) of the voice, 0 to 1; `speech` (steps) where somebody speaks."""

    grid: Floats
    alive: Mask
    level: Floats
    speech: Mask
    rules: SpeakerRules


class Clues(Protocol):
    """Built from a `Scene` and, per track in its order, what was read from the mouth (None: nothing)."""

    def evidence(self) -> Floats:
        """(tracks, steps): the higher, the likelier the track speaks. 0 wherever nothing can be told."""

    def confidence(self, index: int, inside: Mask) -> float:
        """0 to 1: how surely track `index` is the one who speaks during the steps `inside`."""


class MotionClues:
    """Mouth motion and voice must agree."""

    def __init__(self, scene: Scene, read: list[Motion | None]) -> None:
        self._scene = scene
        self._activity = np.stack([_activity(motion, scene) for motion in read])

    def evidence(self) -> Floats:
        scene, rules = self._scene, self._scene.rules
        motion = np.where(scene.alive, self._activity, 0.0)
        count = np.maximum(scene.alive.sum(axis=0), 1)
        share = (motion + rules.quiet_motion) / (motion.sum(axis=0) + count * rules.quiet_motion)
        evidence = np.clip(np.log(share * count), -2.0, 2.0)
        if np.ptp(scene.level) > 0:
            evidence = evidence + np.stack([_agreement(track, scene.level, rules) for track in self._activity])
        return np.where(scene.alive & scene.speech & (count > 1), evidence, 0.0)

    def confidence(self, index: int, inside: Mask) -> float:
        """How far this mouth's motion stands above the next one's while there was speech, for how long, and how well it
        keeps time with the voice (a mouth that does not counts half: it may be chewing)."""
        scene, rules = self._scene, self._scene.rules
        spoken = inside & scene.speech
        if not spoken.any():
            return 0.0
        others = rivals(scene, index, inside)
        if not others:
            return 1.0
        mine = float(self._activity[index, spoken].mean())
        rival = max(float(self._activity[i, spoken].mean()) for i in others)
        margin = max(0.0, (mine - rival) / (mine + rival + 2 * rules.quiet_motion))
        in_time = _correlation(self._activity[index, inside], scene.level[inside])
        return margin * long_enough(scene, spoken) * (0.5 + min(0.5, max(0.0, in_time)))


class ScoreClues:
    """The network's word: log-odds that a face speaks."""

    def __init__(self, scene: Scene, read: list[Motion | None]) -> None:
        self._scene = scene
        self._scores = np.stack([_scores(known, scene) for known in read])

    def evidence(self) -> Floats:
        scene = self._scene
        together = scene.alive.sum(axis=0) > 1
        return np.where(scene.alive & scene.speech & together, np.clip(self._scores, -3.0, 3.0), 0.0)

    def confidence(self, index: int, inside: Mask) -> float:
        """Probability that this face speaks and the likeliest other one does not, over the steps with speech."""
        scene = self._scene
        spoken = inside & scene.speech
        if not spoken.any():
            return 0.0
        belief = 1 / (1 + np.exp(-self._scores[:, spoken]))
        rival = max((float(belief[i].mean()) for i in rivals(scene, index, inside)), default=0.0)
        return float(belief[index].mean()) * (1 - rival) * long_enough(scene, spoken)


class JointClues:
    """Evidence adds up; confidence is the mean, so that doubt of either shows."""

    def __init__(self, parts: Sequence[Clues]) -> None:
        self._parts = parts

    def evidence(self) -> Floats:
        return np.asarray(np.sum([part.evidence() for part in self._parts], axis=0), dtype=np.float64)

    def confidence(self, index: int, inside: Mask) -> float:
        return float(np.mean([part.confidence(index, inside) for part in self._parts]))


def rivals(scene: Scene, index: int, inside: Mask) -> list[int]:
    """Tracks that share the view with `index` for a fifth of the steps `inside` or more."""
    return [i for i in range(len(scene.alive)) if i != index and scene.alive[i, inside].mean() > 0.2]


def long_enough(scene: Scene, spoken: Mask) -> float:
    """1 from `min_turn_s` of speech on, less below."""
    return min(1.0, float(spoken.sum()) / GRID_HZ / scene.rules.min_turn_s)


def _scores(known: Motion | None, scene: Scene) -> Floats:
    """Where nothing was scored the face counts as silent: a speaker in full view would have been."""
    if known is None or not known.times:
        return np.full(len(scene.grid), -2.0)
    return smooth(np.interp(scene.grid, known.times, known.values), scene.rules.smooth_s)


def _activity(motion: Motion | None, scene: Scene) -> Floats:
    rules = scene.rules
    if motion is None or len(motion.times) < 3:
        return np.zeros(len(scene.grid))
    values = np.array(motion.values)
    # one blurred frame, one bad registration must not decide: clip at three times the loud parts
    values = np.minimum(values, 3 * np.quantile(values, 0.8) + rules.quiet_motion)
    return smooth(np.interp(scene.grid, motion.times, values, left=0.0, right=0.0), rules.smooth_s)


def smooth(values: Floats, span_s: float) -> Floats:
    """Mean under a Hann window of `span_s` around each step, edges repeated."""
    width = max(1, round(span_s * GRID_HZ)) | 1
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(values, width // 2, mode="edge")
    return np.asarray(np.convolve(padded, window / window.sum(), mode="valid"), dtype=np.float64)


def _agreement(activity: Floats, level: Floats, rules: SpeakerRules) -> Floats:
    """Correlation of mouth motion and voice level in a sliding window, −1 to 1; 0 where either stands still."""
    a, b = activity - activity.mean(), level - level.mean()
    width = rules.agreement_s
    mean_a, mean_b = smooth(a, width), smooth(b, width)
    covariance = smooth(a * b, width) - mean_a * mean_b
    spread = np.sqrt(
        np.maximum(smooth(a * a, width) - mean_a**2, 0.0) * np.maximum(smooth(b * b, width) - mean_b**2, 0.0)
    )
    # a floor on the spread keeps the correlation of two near-constant signals from being counted as agreement
    return np.asarray(covariance / (spread + 0.25 * rules.quiet_motion), dtype=np.float64)


def _correlation(a: Floats, b: Floats) -> float:
    """Pearson's, 0 where either is constant."""
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread > 0 else 0.0
