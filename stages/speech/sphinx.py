"""PocketSphinx with its bundled US English model: the recogniser of last resort, always on the box, marked rough.

PocketSphinx holds the interpreter lock while it decodes, so two decoders need two processes. They are forked, not
started anew: a stage may run where no program may be started, and forked decoders share the model's memory.
"""

from __future__ import annotations

import collections
import ctypes
import math
import multiprocessing
import os
import queue
import re
import signal
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from stages.artifacts import Word
from stages.errors import Transient
from stages.speech.recogniser import Heard
from stages.speech.vad import Piece

if TYPE_CHECKING:
    from stages.speech.vad import Samples

MODEL = "pocketsphinx-en-us"
SETTINGS: dict[str, Any] = {"ds": 2, "maxhmmpf": 4000}
"""Decoder settings that differ from PocketSphinx's own, measured in docs/SPEECH.md."""
FRAME_RATE_HZ = 100
"""Frames a second of PocketSphinx's features."""
_AHEAD = 2
"""Groups in the hands of each process: one being decoded, one waiting."""
_STOP_S = 5.0
_VARIANT = re.compile(r"\(\d+\)$")
_PR_SET_PDEATHSIG = 1

Hypothesis = list[tuple[str, float, float, float]]
"""Word, start and end in seconds from the start of the sound, confidence 0 to 1."""


class SphinxRecogniser:
    """`processes` decoders side by side. Enter it before threads are started: it forks."""

    model = MODEL
    device = "cpu"
    rough = True
    group_s = 30.0
    """Its noise tracking warms up over pieces, so some are decoded in a row; the group bounds what depends on what."""
    group_gap_s = math.inf

    def __init__(self, processes: int) -> None:
        self.notes: list[str] = []
        self._count = max(1, processes)
        self._idle: queue.SimpleQueue[_DecoderProcess] = queue.SimpleQueue()
        self._decoders: list[_DecoderProcess] = []

    def transcribe(self, groups: Iterable[list[Piece]]) -> Iterator[Heard]:
        """One `Heard` for each group, in order. Raises `Transient` (`recogniser-died`) when a decoder dies."""
        with ThreadPoolExecutor(self._count, thread_name_prefix="sphinx") as threads:
            running: collections.deque[Future[Heard]] = collections.deque()
            try:
                for group in groups:
                    running.append(threads.submit(self._hear, group))
                    if len(running) >= self._count * _AHEAD:
                        yield running.popleft().result()
                while running:
                    yield running.popleft().result()
            except BaseException:
                for future in running:
                    future.cancel()
                self._stop()  # or the pool would wait for decoders that nobody needs any more
                raise

    def _hear(self, group: list[Piece]) -> Heard:
        decoder = self._idle.get()
        try:
            hypotheses = decoder.decode([piece.samples for piece in group])
        finally:
            self._idle.put(decoder)
        words = [
            Word(text=text, start_s=piece.start_s + start, end_s=min(piece.start_s + end, piece.end_s), confidence=sure)
            for piece, found in zip(group, hypotheses, strict=True)
            for text, start, end, sure in found
            if piece.start_s + start < piece.end_s
        ]
        return Heard(start_s=group[0].start_s, end_s=group[-1].end_s, words=words, language="en")

    def __enter__(self) -> Self:
        from pocketsphinx import Decoder

        decoder = Decoder(loglevel="FATAL", **SETTINGS)
        for _ in range(self._count):
            self._decoders.append(_DecoderProcess(decoder))
            self._idle.put(self._decoders[-1])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        for decoder in self._decoders:
            decoder.close()
        self._decoders.clear()

    def _stop(self) -> None:
        for decoder in self._decoders:
            decoder.kill()


def hypotheses(decoder: Any, sounds: list[bytes]) -> list[Hypothesis]:
    """Decode 16 kHz mono s16 sounds, in a row: the noise floor is learnt on the way, and forgotten before the first."""
    decoder.reinit_feat()
    return [_hypothesis(decoder, sound) for sound in sounds]


def _hypothesis(decoder: Any, sound: bytes) -> Hypothesis:
    """The whole sound is given at once, so that its own mean is subtracted (batch CMN) instead of a running one."""
    decoder.start_utt()
    decoder.process_raw(sound, full_utt=True)
    decoder.end_utt()
    if decoder.hyp() is None:  # without a hypothesis there are no segments either
        return []
    found: Hypothesis = []
    for segment in decoder.seg():
        word = spoken(segment.word)
        if word:
            confidence = min(1.0, max(0.0, float(segment.prob)))
            start_s, end_s = segment.start_frame / FRAME_RATE_HZ, (segment.end_frame + 1) / FRAME_RATE_HZ
            found.append((word, start_s, end_s, confidence))
    return found


def spoken(token: str) -> str:
    """The word that a decoder token stands for; empty for silence, sentence marks and noises."""
    if token[:1] in "<[+":
        return ""
    word = _VARIANT.sub("", token)
    return "I" + word[1:] if word == "i" or word.startswith("i'") else word


def _serve(decoder: Any, ours: Connection, parent: int) -> None:
    """The forked process: answer sounds with hypotheses until the pipe closes or the parent dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() != parent:
        return
    while True:
        try:
            ours.send(hypotheses(decoder, ours.recv()))
        except (EOFError, OSError):
            return


class _DecoderProcess:
    """The parent's end of one forked decoder."""

    def __init__(self, decoder: Any) -> None:
        context = multiprocessing.get_context("fork")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(decoder, theirs, os.getpid()), daemon=True)
        with warnings.catch_warnings():
            # Python 3.12 warns of forking beside other threads, whose locks stay held in the child. This child runs
            # nothing but the decoder, which takes no lock, and glibc's allocator is safe to fork.
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        theirs.close()

    def decode(self, sounds: list[Samples]) -> list[Hypothesis]:
        import numpy as np

        try:
            self._pipe.send([np.rint(np.clip(s, -1.0, 1.0) * 32767).astype("<i2").tobytes() for s in sounds])
            found: list[Hypothesis] = self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(_STOP_S)
            raise Transient(
                f"the speech recogniser ended (status {self._process.exitcode}) in the middle of its work: "
                "memory may be short; it is tried again",
                "recogniser-died",
            ) from error
        return found

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.join(_STOP_S)
        self._process.close()
        self._pipe.close()
