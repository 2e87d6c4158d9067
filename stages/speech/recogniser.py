"""What every recogniser offers, whatever its model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Protocol, Self

from msgspec import Struct

from stages.artifacts import Word
from stages.speech.vad import Piece


class Heard(Struct, frozen=True, kw_only=True):
    """What was said in one group of pieces. Word times are source time; no words: nothing was understood."""

    start_s: float
    end_s: float
    words: list[Word]
    language: str | None = None


class Recogniser(Protocol):
    """Turns pieces of speech into words, group by group. A context manager: leaving it frees processes and memory."""

    model: str
    """Name for people and artifacts."""
    device: str
    rough: bool
    """Words and times are approximate: not fit for more than a first look."""
    notes: list[str]
    """Fallbacks taken while it was set up."""
    group_s: float
    """Longest group of pieces that it hears together, from first start to last end."""
    group_gap_s: float
    """Longest pause inside such a group."""

    def transcribe(self, groups: Iterable[list[Piece]]) -> Iterator[Heard]:
        """One `Heard` for each group, in order. What is heard in a group does not depend on other groups, but for the
        language. Reads a bounded number of groups ahead.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
