"""What every recogniser offers, whatever its model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Protocol, Self

from msgspec import Struct, field

from stages.artifacts import Word
from stages.speech.vad import Piece


class Heard(Struct, frozen=True, kw_only=True):
    """What was said in one piece. Word times are source time; no words: nothing was understood."""

    index: int
    start_s: float
    end_s: float
    words: list[Word]
    language: str | None = None
    notes: list[str] = field(default_factory=list)


class Recogniser(Protocol):
    """Turns pieces of speech into words. A context manager: leaving it frees processes and memory."""

    model: str
    """Name for people and artifacts."""
    device: str
    rough: bool
    """Words and times are approximate: not fit for more than a first look."""
    notes: list[str]
    """Fallbacks taken while it was set up."""

    def transcribe(self, pieces: Iterable[Piece]) -> Iterator[Heard]:
        """One `Heard` for each piece, in order. Reads only a bounded number of pieces ahead."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
