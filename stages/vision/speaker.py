"""Who speaks when: mouth motion and voice must agree.

With one face in view it is that face. With several, each step of the grid gives evidence for each of them: its share
of all mouth motion while there is speech, and how well its motion follows the voice's level over two seconds. The
likeliest sequence of speakers under a cost per change (Viterbi) is then held to a least length.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from stages.artifacts import Span, Track, Turn
from stages.vision.mouth import Motion
from stages.vision.sound import GRID_HZ, Voice

Floats = NDArray[np.float64]


class SpeakerRules(Struct, frozen=True, kw_only=True):
    min_turn_s: float = 1.0
    change_cost: float = 0.5
    """In seconds of unit evidence: how much better the other must look before the turn passes."""
    smooth_s: float = 0.28
    agreement_s: float = 2.0
    quiet_motion: float = 0.012
    """Mouth motion of a closed mouth: noise, compression, a smile. Shares are counted above it."""


def speaking_turns(
    shot: Span, tracks: list[Track], motions: dict[int, Motion], voice: Voice, rules: SpeakerRules
) -> list[Turn]:
    """The turns of one shot in time order, not overlapping, each within its track's life.

    Stretches where no track lives have no turn. A turn goes on through silence until another begins.
    """
    if not tracks:
        return []
    grid = _grid(shot)
    alive = np.stack([_alive(track, grid, shot) for track in tracks])
    if len(tracks) == 1 or alive.sum(axis=0).max() <= 1:
        states = np.where(alive.any(axis=0), alive.argmax(axis=0), -1)
        return _turns(states, grid, shot, [(t, _seen(t)) for t in tracks])
    heard = _on_grid(voice, grid)
    activity = np.stack([_activity(motions.get(t.id), grid, rules) for t in tracks])
    evidence = _evidence(activity, alive, heard, rules)
    states = _hold(_viterbi(evidence, alive, rules), alive, rules)
    states = _wait_for_voice(states, heard[1])
    turns = _turns(states, grid, shot, [(t, 0.0) for t in tracks])
    order = {track.id: i for i, track in enumerate(tracks)}
    return [
        Turn(
            start_s=turn.start_s,
            end_s=turn.end_s,
            track=turn.track,
            confidence=_confidence(order[turn.track], turn, grid, activity, alive, heard, rules),
        )
        for turn in turns
    ]


def _grid(shot: Span) -> Floats:
    steps = max(1, round((shot.end_s - shot.start_s) * GRID_HZ))
    return shot.start_s + (np.arange(steps) + 0.5) * (shot.end_s - shot.start_s) / steps


def _alive(track: Track, grid: Floats, shot: Span) -> NDArray[np.bool_]:
    """Where the track lives; stretched to the shot's border when it ends within a sample or two of it."""
    first, last = track.boxes[0].t_s, track.boxes[-1].t_s
    first = shot.start_s if first - shot.start_s < 0.35 else first
    last = shot.end_s if shot.end_s - last < 0.35 else last
    alive: NDArray[np.bool_] = (grid >= first) & (grid <= last)
    if not alive.any():
        alive[int(np.abs(grid - first).argmin())] = True
    return alive


def _seen(track: Track) -> float:
    """Confidence of a face alone in view: how surely it is a face, over all its samples."""
    return float(np.mean([box.score for box in track.boxes]))


def _on_grid(voice: Voice, grid: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    steps = np.clip(((grid - voice.start_s) * GRID_HZ).astype(int), 0, len(voice.level) - 1)
    return voice.level[steps], voice.speech[steps]


def _activity(motion: Motion | None, grid: Floats, rules: SpeakerRules) -> Floats:
    if motion is None or len(motion.times) < 3:
        return np.zeros(len(grid))
    values = np.array(motion.values)
    # one blurred frame, one bad registration must not decide: clip at three times the loud parts
    values = np.minimum(values, 3 * np.quantile(values, 0.8) + rules.quiet_motion)
    return _smooth(np.interp(grid, motion.times, values, left=0.0, right=0.0), rules.smooth_s)


def _smooth(values: Floats, span_s: float) -> Floats:
    width = max(1, round(span_s * GRID_HZ)) | 1
    window = np.hanning(width + 2)[1:-1]
    padded = np.pad(values, width // 2, mode="edge")
    return np.asarray(np.convolve(padded, window / window.sum(), mode="valid"), dtype=np.float64)


def _evidence(
    activity: Floats, alive: NDArray[np.bool_], heard: tuple[Floats, NDArray[np.bool_]], rules: SpeakerRules
) -> Floats:
    """(tracks, steps): positive where the track is likelier than the average of those in view to be speaking."""
    level, speech = heard
    motion = np.where(alive, activity, 0.0)
    count = alive.sum(axis=0)
    share = (motion + rules.quiet_motion) / (motion.sum(axis=0) + np.maximum(count, 1) * rules.quiet_motion)
    evidence = np.clip(np.log(share * np.maximum(count, 1)), -2.0, 2.0)
    if np.ptp(level) > 0:
        evidence = evidence + np.stack([_agreement(track, level, rules) for track in activity])
    return np.where(alive & speech & (count > 1), evidence, 0.0)


def _agreement(activity: Floats, level: Floats, rules: SpeakerRules) -> Floats:
    """Correlation of mouth motion and voice level in a sliding window, −1 to 1; 0 where either stands still."""
    a, b = activity - activity.mean(), level - level.mean()
    width = rules.agreement_s
    mean_a, mean_b = _smooth(a, width), _smooth(b, width)
    covariance = _smooth(a * b, width) - mean_a * mean_b
    spread = np.sqrt(
        np.maximum(_smooth(a * a, width) - mean_a**2, 0.0) * np.maximum(_smooth(b * b, width) - mean_b**2, 0.0)
    )
    # a floor on the spread keeps the correlation of two near-constant signals from being counted as agreement
    return np.asarray(covariance / (spread + 0.25 * rules.quiet_motion), dtype=np.float64)


def _viterbi(evidence: Floats, alive: NDArray[np.bool_], rules: SpeakerRules) -> NDArray[np.int64]:
    """The best state per step: track index, or −1 where no track lives."""
    tracks, steps = evidence.shape
    gone = -1e6
    gain = np.vstack([np.where(alive, evidence, gone), np.where(alive.any(axis=0), gone, 0.0)]) / GRID_HZ
    score = gain[:, 0].copy()
    came = np.zeros((tracks + 1, steps), dtype=np.int64)
    everyone = np.arange(tracks + 1)
    for step in range(1, steps):
        best = int(score.argmax())
        switched = score[best] - rules.change_cost
        stays = score >= switched
        came[:, step] = np.where(stays, everyone, best)
        score = np.where(stays, score, switched) + gain[:, step]
    states = np.empty(steps, dtype=np.int64)
    states[-1] = int(score.argmax())
    for step in range(steps - 1, 0, -1):
        states[step - 1] = came[states[step], step]
    return np.where(states == tracks, -1, states)


def _hold(states: NDArray[np.int64], alive: NDArray[np.bool_], rules: SpeakerRules) -> NDArray[np.int64]:
    """Give turns shorter than `min_turn_s` to a neighbour who lives through them, shortest first."""
    states = states.copy()
    least = round(rules.min_turn_s * GRID_HZ)
    stuck: set[tuple[int, int]] = set()
    while True:
        runs = [r for r in _runs(states) if r[1] - r[0] < least and states[r[0]] >= 0 and r not in stuck]
        if not runs:
            return states
        first, last = min(runs, key=lambda r: (r[1] - r[0], r[0]))
        takers = [
            int(states[side])
            for side in (first - 1, last)
            if 0 <= side < len(states) and states[side] >= 0 and alive[states[side], first:last].all()
        ]
        if takers:
            states[first:last] = takers[0]
        else:
            stuck.add((first, last))


def _wait_for_voice(states: NDArray[np.int64], speech: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Move a change that fell into a pause to just before the voice sets in again, as an editor would cut."""
    states = states.copy()
    lead = round(0.12 * GRID_HZ)
    for (_, border), (_, end) in zip(_runs(states), _runs(states)[1:], strict=False):
        if speech[border] or states[border] < 0 or states[border - 1] < 0:
            continue
        onset = border
        while onset < end - 1 and not speech[onset]:
            onset += 1
        if speech[onset]:
            states[border : max(border, onset - lead)] = states[border - 1]
    return states


def _runs(states: NDArray[np.int64]) -> list[tuple[int, int]]:
    edges = [0, *(np.flatnonzero(np.diff(states)) + 1).tolist(), len(states)]
    return list(pairwise(edges))


def _turns(states: NDArray[np.int64], grid: Floats, shot: Span, tracks: list[tuple[Track, float]]) -> list[Turn]:
    half = (shot.end_s - shot.start_s) / len(grid) / 2
    turns = []
    for first, last in _runs(states):
        if states[first] < 0:
            continue
        track, confidence = tracks[states[first]]
        start_s = shot.start_s if first == 0 else float(grid[first] - half)
        end_s = shot.end_s if last == len(grid) else float(grid[last] - half)
        turns.append(Turn(start_s=start_s, end_s=end_s, track=track.id, confidence=confidence))
    return turns


def _confidence(
    index: int,
    turn: Turn,
    grid: Floats,
    activity: Floats,
    alive: NDArray[np.bool_],
    heard: tuple[Floats, NDArray[np.bool_]],
    rules: SpeakerRules,
) -> float:
    """0 to 1: how far this mouth's motion stands above the next one's while there was speech, for how long, and how
    well it keeps time with the voice (a mouth that does not counts half; a chewing one does not)."""
    level, speech = heard
    inside = (grid >= turn.start_s) & (grid < turn.end_s)
    spoken = inside & speech
    if not spoken.any():
        return 0.0
    others = [i for i in range(len(activity)) if i != index and alive[i, inside].mean() > 0.2]
    if not others:
        return 1.0
    mine = float(activity[index, spoken].mean())
    rival = max(float(activity[i, spoken].mean()) for i in others)
    margin = max(0.0, (mine - rival) / (mine + rival + 2 * rules.quiet_motion))
    long_enough = min(1.0, float(spoken.sum()) / GRID_HZ / rules.min_turn_s)
    return margin * long_enough * (0.5 + min(0.5, max(0.0, _correlation(activity[index, inside], level[inside]))))


def _correlation(a: Floats, b: Floats) -> float:
    """Pearson's, 0 where either is constant."""
    spread = float(a.std() * b.std())
    return float(((a - a.mean()) * (b - b.mean())).mean()) / spread if spread > 0 else 0.0
