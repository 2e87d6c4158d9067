"""Voice activity: where somebody speaks, found on a stream, and the pieces that recognisers are fed.

Silero VAD v6 (MIT) as shipped inside faster-whisper's wheel, run by onnxruntime. Its LSTM state is carried from block
to block, so the result does not depend on how the stream is cut into blocks, and memory does not grow with its length.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.float32]

RATE_HZ = 16_000
WINDOW = 512
"""Samples (32 ms) that get one probability. Fixed by the model."""
_CONTEXT = 64
"""Samples of the window before that the model sees too. Fixed by the model."""
_STATE = (1, 1, 128)
_HYSTERESIS = 0.15
"""Speech goes on while the probability stays above the threshold less this (Silero's own choice)."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of speech with its samples (float32, 16 kHz, mono); `index` counts from 0 within the source.

    [start_s, end_s) in source time; `samples` has exactly (end_s - start_s) * 16,000 values.
    """

    index: int
    start_s: float
    end_s: float
    samples: Samples


@dataclass(frozen=True, slots=True)
class VadSettings:
    """Seconds, and a probability for `threshold`."""

    threshold: float = 0.5
    min_speech_s: float = 0.1
    """Shorter bursts are not speech."""
    min_silence_s: float = 0.3
    """Shorter pauses do not end a stretch."""
    pad_s: float = 0.2
    """Kept before and after each stretch; where two would overlap they meet in the middle."""
    max_piece_s: float = 28.0
    """A longer stretch is cut at its quietest moment."""


class SpeechProbability:
    """Silero's probability for each 32 ms window of a stream."""

    def __init__(self) -> None:
        import numpy as np
        from faster_whisper.vad import get_vad_model

        self._run = get_vad_model().session.run
        self._h: NDArray[np.float32] = np.zeros(_STATE, np.float32)
        self._c: NDArray[np.float32] = np.zeros(_STATE, np.float32)
        self._context: Samples = np.zeros(_CONTEXT, np.float32)

    def __call__(self, samples: Samples) -> NDArray[np.float32]:
        """Probabilities of the next windows; `samples` holds a whole number of them."""
        import numpy as np

        if not len(samples):
            return np.zeros(0, np.float32)
        windows = samples.reshape(-1, WINDOW)
        tails = np.concatenate([self._context[None], windows[:-1, -_CONTEXT:]])
        self._context = windows[-1, -_CONTEXT:].copy()
        batch = np.concatenate([tails, windows], axis=1, dtype=np.float32)
        found, self._h, self._c = self._run(None, {"input": batch, "h": self._h, "c": self._c})
        return np.asarray(found, np.float32).reshape(-1)


class SpeechSpans:
    """Turns probabilities into stretches of windows [first, last), each at most `max_piece_s` long, in order."""

    def __init__(self, settings: VadSettings) -> None:
        self._on = settings.threshold
        self._off = max(settings.threshold - _HYSTERESIS, 0.01)
        self._min_speech = max(1, _windows(settings.min_speech_s))
        self._min_silence = max(1, _windows(settings.min_silence_s))
        self._max = max(2, _windows(settings.max_piece_s - 2 * settings.pad_s))
        self._at = 0
        self._first: int | None = None
        self._quiet_since: int | None = None
        self._probabilities: list[float] = []  # of the open stretch, from _first

    def feed(self, probabilities: Iterable[float]) -> Iterator[tuple[int, int]]:
        for probability in probabilities:
            yield from self._step(probability)
            self._at += 1

    def finish(self) -> Iterator[tuple[int, int]]:
        if self._first is not None:
            yield from self._close(self._at if self._quiet_since is None else self._quiet_since)

    @property
    def open_since(self) -> int:
        """Nothing before this window will be part of a later stretch."""
        return self._at if self._first is None else self._first

    def _step(self, probability: float) -> Iterator[tuple[int, int]]:
        if self._first is None:
            if probability < self._on:
                return
            self._first, self._quiet_since, self._probabilities = self._at, None, []
        self._probabilities.append(probability)
        if probability >= self._on:
            self._quiet_since = None
        elif probability < self._off and self._quiet_since is None:
            self._quiet_since = self._at
        if self._quiet_since is not None and self._at - self._quiet_since + 1 >= self._min_silence:
            yield from self._close(self._quiet_since)
        elif len(self._probabilities) >= self._max:
            yield from self._cut()

    def _close(self, last: int) -> Iterator[tuple[int, int]]:
        assert self._first is not None
        if last - self._first >= self._min_speech:
            yield self._first, last
        self._first, self._quiet_since, self._probabilities = None, None, []

    def _cut(self) -> Iterator[tuple[int, int]]:
        """Split the open stretch at the least likely speech of its second half and go on with the rest."""
        assert self._first is not None
        half = len(self._probabilities) // 2
        cut = min(range(half, len(self._probabilities)), key=self._probabilities.__getitem__)
        border = self._first + cut
        if cut:
            yield self._first, border
        self._first, self._probabilities = border, self._probabilities[cut:]
        if self._quiet_since is not None:
            self._quiet_since = max(self._quiet_since, border)


def pieces(blocks: Iterable[Samples], settings: VadSettings) -> Iterator[Piece]:
    """Stretches of speech in a stream of mono 16 kHz blocks (any lengths), in order, disjoint.

    Holds at most `max_piece_s` plus one block of samples at a time.
    """
    stream = _Stream()
    probability = SpeechProbability()
    spans = SpeechSpans(settings)
    pad = round(settings.pad_s * RATE_HZ)
    index = 0
    done = 0  # first sample that the next piece may use
    waiting: tuple[int, int] | None = None  # samples of a found stretch whose right border is still open

    def piece(start: int, end: int) -> Piece:
        return Piece(index, start / RATE_HZ, end / RATE_HZ, stream.get(start, end))

    for samples, last in stream.windows(blocks):
        found = list(spans.feed(probability(samples).tolist()))
        if last:
            found += spans.finish()
        for first_window, last_window in found:
            first, end = first_window * WINDOW, min(last_window * WINDOW, stream.length)
            if waiting is not None:
                middle = (waiting[1] + first) // 2
                border = min(waiting[1] + pad, middle)
                yield piece(max(done, waiting[0] - pad), border)
                index, done = index + 1, max(border, first - pad)
            waiting = (first, end)
        if waiting is not None and (last or spans.open_since * WINDOW >= waiting[1] + 2 * pad):
            border = min(waiting[1] + pad, stream.length)
            yield piece(max(done, waiting[0] - pad), border)
            index, done, waiting = index + 1, border, None
        stream.forget(max(0, (spans.open_since * WINDOW if waiting is None else waiting[0]) - pad))


def grouped(found: Iterable[Piece], max_s: float, max_gap_s: float) -> Iterator[list[Piece]]:
    """Neighbours in groups of at most `max_s` from first start to last end, no pause inside longer than `max_gap_s`."""
    group: list[Piece] = []
    for piece in found:
        fits = group and piece.end_s - group[0].start_s <= max_s and piece.start_s - group[-1].end_s <= max_gap_s
        if group and not fits:
            yield group
            group = []
        group.append(piece)
    if group:
        yield group


def joined(group: Sequence[Piece]) -> Piece:
    """One piece from a group; the pauses between become digital silence, so times stay true."""
    import numpy as np

    parts = [group[0].samples]
    for before, after in itertools.pairwise(group):
        parts += [np.zeros(round((after.start_s - before.end_s) * RATE_HZ), np.float32), after.samples]
    return Piece(group[0].index, group[0].start_s, group[-1].end_s, np.concatenate(parts))


class _Stream:
    """A window on a stream of samples: whole VAD windows come out, recent samples can be looked up again."""

    def __init__(self) -> None:
        import numpy as np

        self._kept: Samples = np.zeros(0, np.float32)
        self._base = 0
        self.length = 0
        """Samples so far; at the end, of the whole stream."""

    def windows(self, blocks: Iterable[Samples]) -> Iterator[tuple[Samples, bool]]:
        """Yield (samples of whole windows, whether they are the last); the last is filled up with silence."""
        import numpy as np

        rest: Samples = np.zeros(0, np.float32)
        for block in blocks:
            mono = np.ascontiguousarray(block, np.float32).reshape(-1)
            self._kept = np.concatenate([self._kept, mono])
            self.length += len(mono)
            rest = np.concatenate([rest, mono])
            whole = len(rest) // WINDOW * WINDOW
            if whole:
                yield rest[:whole], False
                rest = rest[whole:]
        yield np.pad(rest, (0, -len(rest) % WINDOW)), True

    def get(self, start: int, end: int) -> Samples:
        return self._kept[start - self._base : end - self._base].copy()

    def forget(self, before: int) -> None:
        drop = min(before, self.length) - self._base
        if drop > RATE_HZ:  # rarely: each time copies what is kept
            self._kept = self._kept[drop:].copy()
            self._base += drop


def _windows(seconds: float) -> int:
    return round(seconds * RATE_HZ / WINDOW)
