"""Choosing how it is told who speaks, and telling it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from stages.artifacts import Span, Turn
from stages.base import Device
from stages.errors import Misconfigured
from stages.vision import lrasd
from stages.vision.clues import SpeakerRules
from stages.vision.lips import LipReader
from stages.vision.lrasd import LrAsd
from stages.vision.mfcc import mfcc
from stages.vision.mouth import MotionReader, MouthReader
from stages.vision.scan import Scan
from stages.vision.sound import listen, silence
from stages.vision.speaker import speaking_turns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

Wish = Literal["auto", "signal", "lrasd"]


class Attribution:
    """One clip's. `readers` go into the scan, whose outcome goes into `turns`.

    `sound` opens the clip's sound as mono chunks (n, 1) at 16 kHz, None when the source has none; it is opened at most
    once, and only when two faces share a picture (its memory: 64 kB per second). Raises `Misconfigured` when `lrasd`
    was asked for and cannot run.
    """

    def __init__(
        self,
        wish: Wish,
        *,
        device: Device,
        models_dir: Path,
        threads: int,
        span: Span,
        sound: Callable[[], Iterable[Samples]] | None,
    ) -> None:
        self._span = span
        self._sound = sound
        self._samples: Samples | None = None
        self.method: Literal["signal", "lrasd"] = "signal"
        self.notes: list[str] = []
        """Fallbacks; of interest only where people share a picture."""
        self.readers: list[MouthReader] = [MotionReader()]
        fault = None if wish == "signal" else lrasd.missing(models_dir)
        if fault is not None and wish == "lrasd":
            raise Misconfigured(
                f"LR-ASD was asked for to tell who speaks, but {fault}: run `appliance models pull lr-asd`, "
                "or set stages.faces.speaker: auto",
                "lrasd-missing",
            )
        if sound is None:
            self.notes.append("no sound: who speaks is judged by the mouths alone")
        elif fault is not None:
            self.notes.append(
                f"who speaks is told by mouth motion and voice, because {fault}: run `appliance models pull lr-asd`"
            )
        elif wish != "signal":
            self.method = "lrasd"
            cuda = device != "cpu" and lrasd.cuda_at_hand()

            def load() -> tuple[LrAsd, Samples]:
                return LrAsd(models_dir / lrasd.WEIGHTS_FILE, cuda=cuda, threads=threads), mfcc(self._heard())

            self.readers.append(LipReader(load, span.start_s))

    def turns(self, found: Scan, heard: list[Span] | None, min_turn_s: float) -> list[Turn]:
        """Who speaks when, shot by shot. `heard`: where a voice-activity detector heard speech, None when none did."""
        voice = silence(self._span.start_s, self._span.end_s)
        if together(found) and self._sound is not None:
            voice = listen([self._heard()[:, None]], self._span.start_s, heard)
        rules = SpeakerRules(min_turn_s=min_turn_s)
        turns: list[Turn] = []
        for number, shot in enumerate(found.shots):
            tracks = [t for t in found.tracks if t.shot == number]
            turns += speaking_turns(shot, tracks, found.mouths, voice, rules)
        return turns

    def _heard(self) -> Samples:
        if self._samples is None:
            chunks = self._sound() if self._sound is not None else []
            self._samples = np.concatenate([np.zeros(0, np.float32), *(chunk[:, 0] for chunk in chunks)])
        return self._samples


def together(found: Scan) -> bool:
    """Whether two faces ever shared a picture, so that somebody had to be chosen."""
    return any(found.mouths)
