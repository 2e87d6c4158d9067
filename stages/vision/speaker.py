"""Who speaks when.

With one face in view it is that face. With several, `stages.vision.clues` says at each step of a grid how likely each
of them is speaking; the likeliest sequence of speakers under a cost per change (Viterbi) is then held to a least
length.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from stages.artifacts import Span, Track, Turn
from stages.vision.clues import Clues, JointClues, MotionClues, Scene, ScoreClues, SpeakerRules
from stages.vision.mouth import Motion
from stages.vision.sound import GRID_HZ, Voice

Floats = NDArray[np.float64]


def speaking_turns(
    shot: Span,
    tracks: list[Track],
    mouths: list[dict[int, Motion]],
    voice: Voice,
    rules: SpeakerRules,
) -> list[Turn]:
    """The turns of one shot in time order, not overlapping, each within its track's life.

    `mouths`: by track id, mouth motion and, where a network watched, its scores. Stretches where no track lives have no
    turn. A turn goes on through silence until another begins.
    """
    if not tracks:
        return []
    grid = _grid(shot)
    alive = np.stack([_alive(track, grid, shot) for track in tracks])
    if len(tracks) == 1 or alive.sum(axis=0).max() <= 1:
        states = np.where(alive.any(axis=0), alive.argmax(axis=0), -1)
        return _turns(states, grid, shot, [(t, _seen(t)) for t in tracks])
    level, speech = _on_grid(voice, grid)
    scene = Scene(grid=grid, alive=alive, level=level, speech=speech, rules=rules)
    kinds: tuple[Callable[[Scene, list[Motion | None]], Clues], ...] = (MotionClues, ScoreClues)
    clues = JointClues(
        [kind(scene, [known.get(t.id) for t in tracks]) for kind, known in zip(kinds, mouths, strict=False)]
    )
    states = _hold(_viterbi(clues.evidence(), alive, rules), alive, rules)
    states = _wait_for_voice(states, speech)
    turns = _turns(states, grid, shot, [(t, 0.0) for t in tracks])
    order = {track.id: i for i, track in enumerate(tracks)}
    return [
        Turn(
            start_s=turn.start_s,
            end_s=turn.end_s,
            track=turn.track,
            confidence=clues.confidence(order[turn.track], (grid >= turn.start_s) & (grid < turn.end_s)),
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
