"""Words with times: what is said in the source, when, how surely, and by which model."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta, Struct

from stages.artifacts import Probe, Span, Transcript, Word
from stages.base import Device, Report, Task, TranscribeResult
from stages.folder import JobFolder
from stages.speech import vad
from stages.speech.checkpoint import Checkpoint
from stages.speech.choice import HOW_TO_GET, Wish, choose, models_dir
from stages.speech.recogniser import Recogniser
from stages.speech.words import sentences, tidy

if TYPE_CHECKING:
    from pathlib import Path

_TICK_S = 10.0
"""Between signs of life while a recogniser is busy."""
_UNSURE = 0.3
"""Median confidence below which a rough transcript is likely no English at all."""

ComputeType = Literal["auto", "int8", "int8_float16", "int8_bfloat16", "int8_float32", "float16", "bfloat16", "float32"]


class Options(Struct, frozen=True, kw_only=True):
    """Settings of the transcribe stage."""

    model: Annotated[
        str,
        Meta(
            description="auto: the best Whisper model on the box, else the bundled PocketSphinx; pocketsphinx; a "
            "model's name (whisper-small) in the models folder; or the path of a CTranslate2 Whisper folder. "
            "What is asked for by name must be there: nothing is fetched at run time."
        ),
    ] = "auto"
    device: Annotated[Device, Meta(description="auto takes a CUDA card when there is one.")] = "auto"
    language: Annotated[
        str | None,
        Meta(description="Spoken language (ISO 639-1) when the job does not say. null: heard from the first minute."),
    ] = None
    compute_type: Annotated[
        ComputeType, Meta(description="Number format of the Whisper model. auto: float16 on CUDA, int8 on the CPU.")
    ] = "auto"
    beam_size: Annotated[
        int, Meta(description="Hypotheses that Whisper keeps; more is slower and slightly better.", ge=1, le=20)
    ] = 5
    batch_size: Annotated[
        int,
        Meta(description="Windows of 30 s decoded at once; bounds memory. 0: 8 on CUDA, 1 on the CPU.", ge=0, le=64),
    ] = 0
    threads: Annotated[
        int,
        Meta(description="CPU threads (Whisper) or processes (PocketSphinx). 0: one a core, at most 8.", ge=0, le=64),
    ] = 0
    models_dir: Annotated[
        str,
        Meta(description="Folder of models. Empty: <data_dir>/models."),
    ] = ""
    vad_threshold: Annotated[
        float, Meta(description="Probability from which a 32 ms window counts as speech.", ge=0.05, le=0.95)
    ] = 0.5
    vad_min_speech_s: Annotated[
        float, Meta(description="Shorter bursts (seconds) are not taken for speech.", ge=0.0, le=2.0)
    ] = 0.1
    vad_min_silence_s: Annotated[
        float, Meta(description="Shorter pauses (seconds) do not end a stretch of speech.", ge=0.05, le=5.0)
    ] = 0.3
    vad_pad_s: Annotated[
        float, Meta(description="Seconds kept before and after each stretch of speech.", ge=0.0, le=1.0)
    ] = 0.2
    max_piece_s: Annotated[
        float,
        Meta(description="Longest piece (seconds) given to a recogniser at once; bounds memory.", ge=5.0, le=30.0),
    ] = 28.0
    group_timeout_s: Annotated[
        float,
        Meta(
            description="Seconds that one group of at most 30 s of speech may take; a slow model on a slow machine is "
            "shown to be alive so long.",
            ge=10.0,
            le=7200.0,
        ),
    ] = 900.0
    checkpoint_s: Annotated[
        float,
        Meta(description="Seconds between checkpoints: what a killed transcription loses at most.", ge=0.0, le=3600.0),
    ] = 15.0


def run(task: Task, folder: JobFolder, options: Options, report: Report) -> TranscribeResult:
    """Write `transcript.json` for the job's source.

    A source without sound or speech gets an empty transcript with a note. Memory does not grow with the length of the
    source but for the words themselves. Raises `Misconfigured` when a model or device that was asked for is not there.
    """
    probe = folder.probe()
    language = task.options.language or options.language
    if probe.audio is None:
        transcript = _silent(language, "the source has no sound: nothing to transcribe")
    else:
        recogniser = choose(_wish(folder, options, language))
        if recogniser.rough and language not in (None, "en"):
            transcript = _without_words(folder, probe, recogniser, options, language, report)
        else:
            transcript = _with_words(folder, probe, recogniser, options, language, report)
    folder.save(folder.root / "transcript.json", transcript)
    Checkpoint.remove(folder.root)
    report(1.0)
    return TranscribeResult(
        device=transcript.device,
        notes=transcript.notes,
        model=transcript.model,
        language=transcript.language,
        words=len(transcript.words),
        rough=transcript.rough,
    )


def _with_words(
    folder: JobFolder, probe: Probe, recogniser: Recogniser, options: Options, language: str | None, report: Report
) -> Transcript:
    progress = _Progress(report, probe.duration_s)
    parts = (probe.sha256, recogniser.model, recogniser.device, recogniser.rough, options, language)
    checkpoint = Checkpoint(folder.root, parts, options.checkpoint_s)
    speech: list[Span] = []
    # The recogniser first: PocketSphinx forks, which wants a process without threads.
    with recogniser, progress.ticking(options.group_timeout_s):
        pieces = _pieces(folder.source(), probe, options, speech, progress)
        groups = vad.grouped(pieces, recogniser.group_s, recogniser.group_gap_s)
        for heard in recogniser.transcribe(itertools.islice(groups, len(checkpoint.heard), None)):
            checkpoint.add(heard)
            progress.reach(heard.end_s)
    words = tidy((w for h in checkpoint.heard for w in h.words), speech, probe.duration_s)
    language_heard = next((h.language for h in checkpoint.heard if h.words), language)
    return Transcript(
        model=recogniser.model,
        device=recogniser.device,
        language=language_heard,
        rough=recogniser.rough,
        words=words,
        sentences=sentences(words, rough=recogniser.rough),
        speech=speech,
        notes=[*recogniser.notes, *_remarks(recogniser, words, speech)],
    )


def _without_words(
    folder: JobFolder, probe: Probe, recogniser: Recogniser, options: Options, language: str | None, report: Report
) -> Transcript:
    """Where English words for a talk in another language would be worse than none: only where somebody speaks."""
    speech: list[Span] = []
    progress = _Progress(report, probe.duration_s)
    for piece in _pieces(folder.source(), probe, options, speech, progress):
        progress.reach(piece.end_s)
    note = f"the bundled recogniser knows only English, the talk is in {language!r}: no words; {HOW_TO_GET}"
    return Transcript(
        model="none", device="cpu", language=language, rough=True, words=[], sentences=[], speech=speech, notes=[note]
    )


def _silent(language: str | None, note: str) -> Transcript:
    return Transcript(
        model="none", device="cpu", language=language, rough=False, words=[], sentences=[], speech=[], notes=[note]
    )


def _pieces(
    source: Path, probe: Probe, options: Options, speech: list[Span], progress: _Progress
) -> Iterator[vad.Piece]:
    """The source's pieces of speech; each one's span is added to `speech` as it is found."""
    from stages.media.audio import read_audio

    settings = vad.VadSettings(
        threshold=options.vad_threshold,
        min_speech_s=options.vad_min_speech_s,
        min_silence_s=options.vad_min_silence_s,
        pad_s=options.vad_pad_s,
        max_piece_s=options.max_piece_s,
    )
    blocks = progress.watch(read_audio(source, probe, 0.0, probe.duration_s, rate_hz=vad.RATE_HZ))
    for piece in vad.pieces(blocks, settings):
        speech.append(Span(start_s=round(piece.start_s, 3), end_s=round(piece.end_s, 3)))
        yield piece


def _remarks(recogniser: Recogniser, words: list[Word], speech: list[Span]) -> list[str]:
    if not speech:
        return ["no speech was heard"]
    if not words:
        return ["speech was heard, but no words were understood"]
    if recogniser.rough and statistics.median(w.confidence for w in words) < _UNSURE:
        return ["the words are unsure throughout: noise, music, a strong accent or a language other than English"]
    return []


def _wish(folder: JobFolder, options: Options, language: str | None) -> Wish:
    return Wish(
        model=options.model,
        device=options.device,
        compute_type=options.compute_type,
        beam_size=options.beam_size,
        batch_size=options.batch_size,
        threads=options.threads,
        language=language,
        models_dir=models_dir(options.models_dir, folder.root),
    )


class _Progress:
    """Share of the source's time that is done. Also says so again for each second read, as a sign of life."""

    def __init__(self, report: Report, duration_s: float) -> None:
        self._report = report
        self._duration_s = max(duration_s, 1e-3)
        self._done = 0.0
        self._moved_at = time.monotonic()

    def reach(self, t_s: float) -> None:
        self._done = max(self._done, min(1.0, t_s / self._duration_s))
        self._moved_at = time.monotonic()
        self._report(self._done)

    @contextmanager
    def ticking(self, limit_s: float, every_s: float = _TICK_S) -> Iterator[None]:
        """Report from a thread of its own while a recogniser is busy, for at most `limit_s` without a result."""
        ended = threading.Event()

        def tick() -> None:
            while not ended.wait(every_s) and time.monotonic() - self._moved_at < limit_s:
                self._report(self._done)

        thread = threading.Thread(target=tick, name="progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def watch(self, blocks: Iterator[vad.Samples]) -> Iterator[vad.Samples]:
        for block in blocks:
            yield block
            self._report(self._done)
