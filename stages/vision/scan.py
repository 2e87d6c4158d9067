"""One pass over a clip's pictures: cuts, faces, tracks and mouths, with memory that does not grow with its length."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from msgspec import Struct, field

from stages.artifacts import Box, Span, Track
from stages.vision.detectors import Detection, Detector
from stages.vision.mouth import Motion, MouthReader, MouthRecorder
from stages.vision.shots import mark_cuts
from stages.vision.tracking import Tracker, TrackRules

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stages.media.video import Frame

    Picture = NDArray[np.uint8]

SETTLE_S = 1.0
"""After a cut faces are sampled at twice the rate for this long: the framing is decided there."""
FULL_EVERY_S = 1.0
"""How often the whole picture is searched at full analysis size for faces not known yet."""
SMALL = 0.5
"""Scale of the searches in between."""


class ScanRules(Struct, frozen=True, kw_only=True):
    sample_fps: float
    min_shot_s: float
    min_face: float
    """Smallest face worth following, share of the picture's height."""
    tracks: TrackRules = TrackRules()


class Scan(Struct, kw_only=True):
    """What one pass found. Boxes in source pixels."""

    shots: list[Span] = field(default_factory=list)
    tracks: list[Track] = field(default_factory=list)
    mouths: list[dict[int, Motion]] = field(default_factory=list)
    """What each mouth reader measured, by track id. Empty dicts when faces were never together."""
    frames: int = 0
    searches: int = 0


def scan(
    frames: Iterable[Frame[Picture]],
    detector: Detector,
    mouth_readers: list[MouthReader],
    *,
    span: Span,
    scale: float,
    rules: ScanRules,
    progress: Callable[[float], None],
) -> Scan:
    """Run the pass over BGR frames of `span`; `scale` is source pixels per frame pixel.

    Faces are searched at `sample_fps`, twice as often just after a cut, half as often while none is in view.
    Shots cover `span` without gaps. Mouths are measured only while two or more faces are in view.
    """
    import cv2

    found = Scan(mouths=[{} for _ in mouth_readers])
    tracker, mouths = Tracker(rules=rules.tracks), MouthRecorder(readers=mouth_readers)
    search = _Search(detector, rules.min_face)
    step_s = 1.0 / rules.sample_fps
    shot_start_s, due_s = span.start_s, span.start_s

    def end_shot(end_s: float) -> None:
        found.shots.append(Span(start_s=shot_start_s, end_s=end_s))
        found.tracks.extend(tracker.end_shot())
        for known, read in zip(found.mouths, mouths.end_shot(), strict=True):
            known.update(read)

    for frame, cut in mark_cuts(frames, min_shot_s=rules.min_shot_s):
        if cut:
            end_shot(frame.t_s)
            search.forget()
            shot_start_s = due_s = frame.t_s
        found.frames += 1
        live = tracker.live(frame.t_s)
        if len(live) > 1:
            mouths.hold(frame.t_s, cv2.cvtColor(frame.image, cv2.COLOR_BGR2GRAY))  # type: ignore[arg-type]
        if frame.t_s < due_s - 1e-3:
            continue
        detections = search.run(frame.t_s, frame.image, known=len(live))
        settling = frame.t_s - shot_start_s < SETTLE_S
        due_s = frame.t_s + step_s * (0.5 if settling else 1.0 if live or detections else 2.0)
        ids = tracker.step(frame.t_s, [d.scaled(scale) for d in detections])
        mouths.release({i: _box(frame.t_s, d) for i, d in zip(ids, detections, strict=True)})
        progress(frame.t_s)
    if found.frames:
        end_shot(span.end_s)
    found.searches = search.count
    return found


class _Search:
    """Searches at full analysis size now and then and whenever a known face is lost, else at half of it.

    Half size costs a quarter; it is taken only when every face seen last is large enough to be found there.
    """

    def __init__(self, detector: Detector, min_face: float) -> None:
        self._detector = detector
        self._min_face = min_face
        self._small_ok = False
        self._full_due_s = float("-inf")
        self.count = 0

    def forget(self) -> None:
        """A new shot: nothing is known about it."""
        self._small_ok = False
        self._full_due_s = float("-inf")

    def run(self, t_s: float, image: Picture, *, known: int) -> list[Detection]:
        import cv2

        self.count += 1
        if self._small_ok and t_s < self._full_due_s:
            small = cv2.resize(image, None, fx=SMALL, fy=SMALL, interpolation=cv2.INTER_AREA)
            faces = [d.scaled(1 / SMALL) for d in self._detector.detect(small)]  # type: ignore[arg-type]
            if len(faces) >= known:
                return self._large(faces, image)
        faces = self._large(self._detector.detect(image), image)
        self._full_due_s = t_s + FULL_EVERY_S
        self._small_ok = bool(faces) and min(d.h for d in faces) * SMALL >= 1.2 * self._detector.least_face
        return faces

    def _large(self, faces: list[Detection], image: Picture) -> list[Detection]:
        return [d for d in faces if d.h >= self._min_face * image.shape[0]]


def _box(t_s: float, d: Detection) -> Box:
    return Box(t_s=t_s, x=d.x, y=d.y, w=d.w, h=d.h, score=d.score)
