"""Whisper through faster-whisper and CTranslate2, from files on the box: nothing here opens a connection.

On a CPU windows are done one after the other with Whisper's temperature fallback; on CUDA several at once (batched),
and a window whose text repeats itself is done again alone. Both align words with the model's cross-attention.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from stages.artifacts import Word
from stages.errors import Misconfigured
from stages.speech.recogniser import Heard
from stages.speech.vad import RATE_HZ, Piece, joined

FILES = ("config.json", "model.bin", "tokenizer.json")
"""What a model folder must hold; without its tokenizer faster-whisper would look for one on the network."""
_VOCABULARIES = ("vocabulary.json", "vocabulary.txt")
_LANGUAGE_PIECES = 3
"""The language is the one most likely over this many first pieces."""
_REPEATS = 2.4
"""Text that compresses better than this repeats itself (Whisper's own threshold)."""
_NO_SPEECH, _UNSURE = 0.6, -1.0
"""A segment likelier no speech than this, of a mean log probability below this, is dropped (Whisper's own figures)."""


@dataclass(frozen=True, slots=True)
class WhisperSettings:
    """How the model is run. `device`: cpu or cuda. `language` None: find out. `threads` 0: the library decides."""

    device: str
    compute_type: str
    beam_size: int = 5
    batch_size: int = 1
    threads: int = 0
    language: str | None = None
    cpu_instead: WhisperSettings | None = None
    """What to do where the card or its libraries do not work; None: raise."""


class WhisperRecogniser:
    """The model in `folder`. Loading happens on entering; raises `Misconfigured` when the files are no such model."""

    rough = False
    group_s = 28.0
    """Whisper hears 30 s at a time, at the same cost for less."""
    group_gap_s = 1.0

    def __init__(self, folder: Path, settings: WhisperSettings) -> None:
        self.model = folder.name.removeprefix("faster-")
        self.device = settings.device
        self.notes: list[str] = []
        self._folder = folder
        self.settings = settings
        self._whisper: Any = None
        self._language = settings.language

    def transcribe(self, groups: Iterable[list[Piece]]) -> Iterator[Heard]:
        """One `Heard` for each group, in order; reads at most three groups or one batch ahead."""
        source = map(joined, groups)
        head = list(itertools.islice(source, _LANGUAGE_PIECES)) if self._language is None else []
        if head:
            self._language = self._detect(head)
        stream = itertools.chain(head, source)
        while batch := list(itertools.islice(stream, self.settings.batch_size)):
            if len(batch) == 1:
                yield self._alone(batch[0])
            else:
                yield from self._together(batch)

    def __enter__(self) -> Self:
        complain_unless_complete(self._folder)
        settings = self.settings
        try:
            self._whisper = _load(self._folder, settings)
        except (RuntimeError, ValueError, OSError) as error:
            if settings.device != "cuda" or settings.cpu_instead is None:
                raise Misconfigured(
                    f"the speech model in {self._folder} cannot be loaded on {settings.device} "
                    f"as {settings.compute_type}: {error}",
                    "model-unusable",
                ) from error
            self.notes.append(f"the card cannot be used, words come from the CPU: {error}")
            self.settings, self.device = settings.cpu_instead, "cpu"
            return self.__enter__()
        if not self._whisper.model.is_multilingual:
            if self._language not in (None, "en"):
                self.notes.append(f"the model {self.model} knows only English; {self._language!r} was asked for")
            self._language = "en"
        elif self._language is not None and self._language not in self._whisper.supported_languages:
            raise Misconfigured(f"Whisper does not know the language {self._language!r}", "unknown-language")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._whisper = None

    def _detect(self, pieces: list[Piece]) -> str:
        chances: dict[str, float] = {}
        for piece in pieces:
            _, _, found = self._whisper.detect_language(audio=piece.samples)
            for language, chance in found:
                chances[language] = chances.get(language, 0.0) + chance
        return max(sorted(chances), key=chances.__getitem__)

    def _alone(self, piece: Piece) -> Heard:
        segments, _ = self._whisper.transcribe(piece.samples, **self._how(), condition_on_previous_text=False)
        return self._heard(piece, [(s, piece.start_s) for s in segments])

    def _together(self, batch: list[Piece]) -> Iterator[Heard]:
        """Decode one batch; its pieces lie end to end in one array, and each segment's `seek` says whose it is."""
        import numpy as np
        from faster_whisper import BatchedInferencePipeline

        starts = np.cumsum([0, *(len(p.samples) for p in batch)])
        clips = [
            {"start": first / RATE_HZ, "end": last / RATE_HZ} for first, last in itertools.pairwise(starts.tolist())
        ]
        segments, _ = BatchedInferencePipeline(self._whisper).transcribe(
            np.concatenate([p.samples for p in batch]),
            **self._how(),
            clip_timestamps=clips,
            batch_size=len(batch),
        )
        frame = RATE_HZ // self._whisper.frames_per_second
        seeks = [round(first) // frame for first in starts.tolist()[:-1]]
        found: list[list[tuple[Any, float]]] = [[] for _ in batch]
        for segment in segments:
            which = max(i for i, seek in enumerate(seeks) if seek <= segment.seek)
            found[which].append((segment, batch[which].start_s - seeks[which] / self._whisper.frames_per_second))
        for piece, its in zip(batch, found, strict=True):
            if any(segment.compression_ratio > _REPEATS for segment, _ in its):
                yield self._alone(piece)
            else:
                yield self._heard(piece, its)

    def _how(self) -> dict[str, Any]:
        return {
            "language": self._language,
            "beam_size": self.settings.beam_size,
            "word_timestamps": True,
            "vad_filter": False,  # the pieces are speech already
        }

    def _heard(self, piece: Piece, segments: list[tuple[Any, float]]) -> Heard:
        words = [
            Word(
                text=word.word.strip(),
                start_s=min(max(float(word.start) + offset, piece.start_s), piece.end_s),
                end_s=min(max(float(word.end) + offset, piece.start_s), piece.end_s),
                confidence=min(1.0, max(0.0, float(word.probability))),
            )
            for segment, offset in segments
            if not (segment.no_speech_prob > _NO_SPEECH and segment.avg_logprob < _UNSURE)
            for word in segment.words or ()
            if word.word.strip()
        ]
        return Heard(start_s=piece.start_s, end_s=piece.end_s, words=words, language=self._language)


def _load(folder: Path, settings: WhisperSettings) -> Any:
    """The model, proven by one window of silence: CUDA's libraries are looked for at the first use, not before."""
    import ctranslate2
    import faster_whisper
    import numpy as np

    ctranslate2.set_random_seed(0)  # the temperature fallback samples: the same source gives the same words
    model = faster_whisper.WhisperModel(
        str(folder),
        device=settings.device,
        compute_type=settings.compute_type,
        cpu_threads=settings.threads,
        local_files_only=True,
    )
    if settings.device == "cuda":
        model.encode(np.zeros((model.model.n_mels, 3000), np.float32))
    return model


def is_model(folder: Path) -> bool:
    """Whether `folder` holds a complete Whisper model in CTranslate2's format."""
    return not _missing(folder)


def complain_unless_complete(folder: Path) -> None:
    """Raise `Misconfigured` (`model-incomplete`) that names the missing files."""
    if missing := _missing(folder):
        raise Misconfigured(
            f"the speech model in {folder} is not complete, {' and '.join(missing)} missing: "
            "fetch it again with `appliance models pull`",
            "model-incomplete",
        )


def cuda_cards() -> int:
    """CUDA devices that CTranslate2 can use; 0 where its CUDA libraries are missing."""
    import ctranslate2

    try:
        return int(ctranslate2.get_cuda_device_count())
    except (RuntimeError, ValueError):
        return 0


def _missing(folder: Path) -> list[str]:
    missing = [name for name in FILES if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        missing.append(_VOCABULARIES[0])
    return missing
