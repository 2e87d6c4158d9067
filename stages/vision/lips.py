"""Lips and sound brought together for LR-ASD, while frames stream by."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from stages.artifacts import Box
from stages.vision.lrasd import CENTRE_DOWN, PICTURE_HZ, SIDE_PX, SOUND_PER_PICTURE, SPAN
from stages.vision.mouth import Motion

if TYPE_CHECKING:
    Grey = NDArray[np.uint8]

Floats = NDArray[np.float32]

WINDOW = 50
"""Pictures scored at once, 2 s, a length that the network was tuned on; memory grows with it (about 2 MB each)."""
CONTEXT = 12
"""Pictures of the window before that are scored again, so that no score lacks a past."""
MAX_REPEATS = 5
"""A picture stands in for at most this many missing ones (low frame rates); across longer gaps a new run begins."""
MIN_PICTURES = 12
"""Fewer at the end of a run tell nothing."""
MAX_FACES = 4
"""The tracks that come first in a shot are read; a crowd is shown whole anyway."""


class Scorer(Protocol):
    """`stages.vision.lrasd.LrAsd`, as far as it is needed here."""

    def score(self, faces: Grey, sound: Floats) -> Floats: ...


class _Run(Struct):
    """Pictures of one face on consecutive ticks; the first `scored` of them are context."""

    first: int
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)
    scored: int = 0

    @property
    def end(self) -> int:
        return self.first + len(self.pictures)


class LipReader:
    """A `MouthReader`. Ticks are 1/25 s from `start_s`. `load` is called once, when two faces are in view, and gives
    the network and the sound: cepstra (steps, 13) at 100 Hz from `start_s` on. Memory: WINDOW pictures per face and
    MAX_FACES faces."""

    def __init__(self, load: Callable[[], tuple[Scorer, Floats]], start_s: float) -> None:
        self._load = load
        self._loaded: tuple[Scorer, Floats] | None = None
        self._start_s = start_s
        self._runs: dict[int, _Run] = {}
        self._scores: dict[int, Motion] = {}

    def read(self, track: int, t_s: float, grey: Grey, box: Box) -> None:
        tick = round((t_s - self._start_s) * PICTURE_HZ)
        run = self._runs.get(track)
        if run is None and len(self._runs) >= MAX_FACES:
            return
        if run is None or tick - run.end > MAX_REPEATS:
            if run is not None:
                self._score(track, run)
            run = self._runs[track] = _Run(first=tick)
        if tick < run.end:
            return  # more frames than ticks
        run.pictures += [run.pictures[-1]] * (tick - run.end) if run.pictures else []
        run.pictures.append(lower_face(grey, box))
        if len(run.pictures) >= WINDOW + run.scored:
            self._score(track, run)
            kept = run.pictures[-CONTEXT:]
            self._runs[track] = _Run(first=run.end - len(kept), pictures=kept, scored=len(kept))

    def end_shot(self) -> dict[int, Motion]:
        for track, run in self._runs.items():
            self._score(track, run)
        scores, self._scores, self._runs = self._scores, {}, {}
        return scores

    def _score(self, track: int, run: _Run) -> None:
        if len(run.pictures) < MIN_PICTURES or len(run.pictures) <= run.scored:
            return
        if self._loaded is None:
            self._loaded = self._load()
        network, whole = self._loaded
        first, last = run.first * SOUND_PER_PICTURE, run.end * SOUND_PER_PICTURE
        sound = whole[max(0, first) : last]
        if len(sound) == 0:
            return
        # the clip's last pictures may outlast its sound by a few steps
        sound = np.pad(sound, ((max(0, -first), 0), (0, 0)), mode="edge")
        sound = np.pad(sound, ((0, last - first - len(sound)), (0, 0)), mode="edge")
        scores = network.score(np.stack(run.pictures), sound)
        known = self._scores.setdefault(track, Motion())
        known.times += [self._start_s + (run.first + n) / PICTURE_HZ for n in range(run.scored, len(scores))]
        known.values += [float(s) for s in scores[run.scored :]]


def lower_face(grey: Grey, box: Box) -> NDArray[np.uint8]:
    """The (112, 112) picture that the network wants: a square around mouth and chin."""
    import cv2

    side = max(8.0, SPAN * box.h)
    scale = SIDE_PX / side
    x, y = box.x + box.w / 2, box.y + box.h / 2 + CENTRE_DOWN * box.h
    place = np.array([[scale, 0, SIDE_PX / 2 - x * scale], [0, scale, SIDE_PX / 2 - y * scale]], dtype=np.float32)
    cut = cv2.warpAffine(grey, place, (SIDE_PX, SIDE_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(cut, dtype=np.uint8)
