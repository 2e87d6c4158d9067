"""Who is who from sample to sample: faces linked into tracks within one shot.

Each sample's detections are assigned to the live tracks at once (Hungarian algorithm) by overlap, predicted position
and size. Gaps are bridged up to a limit, short flickers dropped; a cut ends every track.
"""

from __future__ import annotations

import math

import numpy as np
from msgspec import Struct, field

from stages.artifacts import Box, Track
from stages.vision.detectors import Detection

UNLIKELY = 2.0
"""Assignment cost from which a detection is somebody else."""


class TrackRules(Struct, frozen=True, kw_only=True):
    """Limits of the tracker. Distances are measured in face sizes, so they hold for any picture."""

    max_gap_s: float = 1.0
    """A face missing longer than this is a new track when it comes back, unless it comes back in the same place."""
    max_rest_gap_s: float = 3.0
    """The limit for a face that comes back in the same place with the same size."""
    min_life_s: float = 0.4
    min_hits: int = 3
    """Tracks that are shorter or were seen less often are taken for false positives (a shot shorter than `min_life_s`
    keeps what it has)."""
    min_density: float = 0.35
    """Least share of a track's samples at which it was really seen."""


class LiveTrack(Struct):
    """A track while its shot runs. Boxes in source pixels."""

    id: int
    boxes: list[Box]
    vx: float = 0.0
    vy: float = 0.0
    """Velocity of the centre, pixels per second, smoothed."""
    samples: int = 0
    """Samples taken since the first hit."""
    samples_at_last_hit: int = 0

    @property
    def last(self) -> Box:
        return self.boxes[-1]


class Tracker(Struct):
    """Feed it samples in time order; `end_shot` closes the shot and returns its tracks."""

    rules: TrackRules = field(default_factory=TrackRules)
    shot: int = 0
    _next_id: int = 1
    _live: list[LiveTrack] = field(default_factory=list)
    _samples: list[float] = field(default_factory=list)

    def step(self, t_s: float, detections: list[Detection]) -> list[int]:
        """Assign one sample's detections; returns the track id of each, in their order."""
        self._samples.append(t_s)
        candidates = [t for t in self._live if t_s - t.last.t_s <= self.rules.max_rest_gap_s]
        ids = [0] * len(detections)
        for track in self._live:
            track.samples += 1
        if candidates and detections:
            from scipy.optimize import linear_sum_assignment

            costs = np.array([[self._cost(track, t_s, d) for d in detections] for track in candidates])
            for row, column in zip(*linear_sum_assignment(costs), strict=True):
                if costs[row, column] < UNLIKELY:
                    ids[column] = candidates[row].id
                    _extend(candidates[row], t_s, detections[column])
        for index, detection in enumerate(detections):
            if not ids[index]:
                ids[index] = self._next_id
                self._live.append(LiveTrack(id=self._next_id, boxes=[_box(t_s, detection)], samples=1))
                self._live[-1].samples_at_last_hit = 1
                self._next_id += 1
        return ids

    def live(self, t_s: float) -> list[LiveTrack]:
        """The tracks that were seen within the last `max_gap_s`."""
        return [t for t in self._live if t_s - t.last.t_s <= self.rules.max_gap_s]

    def end_shot(self) -> list[Track]:
        """The shot's tracks, false positives dropped and gaps filled at the sampled times; then a new shot begins."""
        tracks = [t for t in (self._finished(live) for live in self._live) if t is not None]
        self._live, self._samples = [], []
        self.shot += 1
        return tracks

    def _cost(self, track: LiveTrack, t_s: float, detection: Detection) -> float:
        last = track.last
        gap = t_s - last.t_s
        trust = min(gap, 0.3)  # a face that went missing is not predicted to run on for ever
        px, py = last.x + track.vx * trust, last.y + track.vy * trust
        size = math.sqrt(max(last.w * last.h, 1.0))
        distance = math.hypot(
            detection.x + detection.w / 2 - px - last.w / 2, detection.y + detection.h / 2 - py - last.h / 2
        )
        ratio = abs(math.log(max(detection.h, 1.0) / max(last.h, 1.0)))
        reach = 0.9 if gap <= self.rules.max_gap_s else 0.35
        if distance > reach * size or ratio > 0.6:
            return UNLIKELY * 10
        return distance / size + ratio + 0.5 * (1 - _overlap(px, py, last, detection))

    def _finished(self, live: LiveTrack) -> Track | None:
        rules, boxes = self.rules, live.boxes
        shot_s = self._samples[-1] - self._samples[0]
        life_s = boxes[-1].t_s - boxes[0].t_s
        brief = life_s < min(rules.min_life_s, 0.5 * shot_s) or len(boxes) < min(rules.min_hits, len(self._samples))
        if brief or len(boxes) < rules.min_density * live.samples_at_last_hit:
            return None
        return Track(id=live.id, shot=self.shot, boxes=fill_gaps(boxes, self._samples))


def fill_gaps(boxes: list[Box], samples: list[float]) -> list[Box]:
    """`boxes` with one linearly interpolated box (score 0) at each sample between first and last that has none."""
    filled: list[Box] = []
    first, last = boxes[0].t_s, boxes[-1].t_s
    at = 0
    for t_s in samples:
        if not first <= t_s <= last:
            continue
        while boxes[at].t_s < t_s:
            at += 1
        filled.append(boxes[at] if boxes[at].t_s == t_s else between(boxes[at - 1], boxes[at], t_s))
    return filled


def between(a: Box, b: Box, t_s: float) -> Box:
    """The box on the straight way from `a` to `b` at `t_s`, score 0: assumed, not seen."""
    share = (t_s - a.t_s) / (b.t_s - a.t_s)
    x, y, w, h = (p + share * (q - p) for p, q in ((a.x, b.x), (a.y, b.y), (a.w, b.w), (a.h, b.h)))
    return Box(t_s=t_s, x=x, y=y, w=w, h=h, score=0.0)


def _extend(track: LiveTrack, t_s: float, detection: Detection) -> None:
    last, box = track.last, _box(t_s, detection)
    gap = t_s - last.t_s
    if gap > 0:
        vx = (box.x + box.w / 2 - last.x - last.w / 2) / gap
        vy = (box.y + box.h / 2 - last.y - last.h / 2) / gap
        track.vx += 0.5 * (vx - track.vx)
        track.vy += 0.5 * (vy - track.vy)
    track.boxes.append(box)
    track.samples_at_last_hit = track.samples


def _box(t_s: float, detection: Detection) -> Box:
    return Box(t_s=t_s, x=detection.x, y=detection.y, w=detection.w, h=detection.h, score=detection.score)


def _overlap(px: float, py: float, last: Box, d: Detection) -> float:
    """Intersection over union of the predicted box (`last` moved to px, py) and the detection."""
    width = min(px + last.w, d.x + d.w) - max(px, d.x)
    height = min(py + last.h, d.y + d.h) - max(py, d.y)
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (last.w * last.h + d.w * d.h - shared)
