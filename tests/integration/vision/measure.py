"""Measures of a crop plan against exact truth: where the camera looked, how soon, how calmly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stages.artifacts import CropKey, CropPlan, Pane, ShotPlan
from tests.media.maker import Truth

TRUE_MARGIN = 0.05
"""Room around the true face that must be inside too, share of its size."""


@dataclass(frozen=True)
class Instant:
    """One frame of a clip: its plan, the windows on it, and the truth."""

    t_s: float
    plan: ShotPlan
    windows: list[CropKey]
    faces: dict[int, tuple[float, float, float, float]]
    speaker: int | None


def window_at(pane: Pane, t_s: float) -> CropKey:
    """The pane's window: linear between keys, held before the first and after the last."""
    times = [k.t_s for k in pane.keys]
    x, y, w, h = (float(np.interp(t_s, times, [getattr(k, name) for k in pane.keys])) for name in ("x", "y", "w", "h"))
    return CropKey(t_s=t_s, x=x, y=y, w=w, h=h)


def instants(plan: CropPlan, truth: Truth) -> Iterator[Instant]:
    """Every frame of the truth's first period inside the plan."""
    for t_s in truth.times_s:
        if not plan.start_s <= t_s < plan.end_s:
            continue
        shot = next(s for s in plan.shots if s.start_s - 1e-6 <= t_s < s.end_s - 1e-6)
        yield Instant(
            t_s=t_s,
            plan=shot,
            windows=[window_at(p, t_s) for p in shot.panes],
            faces={person: (x, y, w, h) for person, x, y, w, h in truth.faces_at(t_s)},
            speaker=truth.speaker_at(t_s),
        )


def holds(window: CropKey, face: tuple[float, float, float, float]) -> bool:
    """Whether the face with TRUE_MARGIN lies wholly in the window."""
    x, y, w, h = face
    dx, dy = TRUE_MARGIN * w, TRUE_MARGIN * h
    return (
        window.x <= x - dx and x + w + dx <= window.x + window.w
        and window.y <= y - dy and y + h + dy <= window.y + window.h
    )  # fmt: skip


def right(instant: Instant) -> bool:
    """Whether this frame shows what it should: who speaks, in a pause anybody, without faces the whole picture."""
    if not instant.faces:
        return instant.plan.layout == "fit"
    speaking = instant.speaker in instant.faces
    wanted = [instant.faces[instant.speaker]] if speaking and instant.speaker is not None else instant.faces.values()
    return any(holds(w, face) for w in instant.windows for face in wanted)


def containment(plan: CropPlan, truth: Truth, kind: str) -> float:
    """Share of the frames of all shots of `kind` that are right."""
    return float(np.mean([right(i) for i in instants(plan, truth) if _kind(truth, i.t_s) == kind]))


def cut_latency_frames(plan: CropPlan, truth: Truth) -> list[int]:
    """For each hard cut inside the plan, how many frames pass until the framing is right."""
    latencies = []
    frames = list(instants(plan, truth))
    for cut_s in truth.cuts_s:
        if not plan.start_s < cut_s < plan.end_s:
            continue
        after = [i for i in frames if i.t_s >= cut_s - 1e-6]
        latencies.append(next((n for n, i in enumerate(after) if right(i)), len(after)))
    return latencies


def switch_latency_s(plan: CropPlan, truth: Truth) -> list[float]:
    """For each change of speaker within a shot, seconds from the new voice to the right framing (0 when early)."""
    frames = list(instants(plan, truth))
    latencies = []
    for before, now in pairwise(truth.sentences):
        same_shot = not any(before.start_s < cut <= now.start_s for cut in truth.cuts_s)
        if before.person == now.person or not same_shot or not plan.start_s <= now.start_s < plan.end_s:
            continue
        after = [i for i in frames if i.t_s >= now.start_s]
        found = next((i.t_s for i in after if right(i)), after[-1].t_s)
        latencies.append(max(0.0, found - now.start_s))
    return latencies


def travel_px_s(plan: CropPlan, truth: Truth, kind: str) -> float:
    """Path length of the window per second in shots of `kind`, jumps at plan borders left out; source pixels."""
    frames = [i for i in instants(plan, truth) if _kind(truth, i.t_s) == kind]
    moved = sum(abs(b.windows[0].x - a.windows[0].x) for a, b in _steps(frames))
    return moved / max(frames[-1].t_s - frames[0].t_s, 1e-6)


def undeclared_jumps(plan: CropPlan, truth: Truth) -> int:
    """Frame-to-frame moves of more than 1 % of the picture's width that are not at a border of the plan."""
    steps = _steps(list(instants(plan, truth)))
    return sum(abs(b.windows[0].x - a.windows[0].x) > 0.01 * truth.width for a, b in steps)


def reversals_per_s(plan: CropPlan, truth: Truth, kind: str) -> float:
    """How often the camera changes direction per second in shots of `kind`."""
    frames = [i for i in instants(plan, truth) if _kind(truth, i.t_s) == kind]
    speeds = np.array([b.windows[0].x - a.windows[0].x for a, b in _steps(frames)])
    signs = np.sign(speeds[np.abs(speeds) > 1e-6])
    return float((np.diff(signs) != 0).sum() / max(frames[-1].t_s - frames[0].t_s, 1e-6))


def _steps(frames: list[Instant]) -> list[tuple[Instant, Instant]]:
    return [(a, b) for a, b in pairwise(frames) if a.plan is b.plan]


def _kind(truth: Truth, t_s: float) -> str:
    return next(s.kind for s in reversed(truth.shots) if s.start_s <= t_s + 1e-6)
