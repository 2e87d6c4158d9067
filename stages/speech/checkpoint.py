"""What a transcription has heard so far, kept in the job's folder so that a killed one goes on where it was.

Voice activity is cheap and found again from the start, so groups of pieces are the same in every run and a checkpoint
is only what was heard in the first of them: the finished transcript is the same, interrupted or not.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from stages.folder import publish
from stages.speech.recogniser import Heard

NAME = "transcript.partial.json"


class Partial(Struct, frozen=True, kw_only=True):
    """`key` names source, model and settings: another key's words are not ours."""

    version: int = 1
    key: str
    heard: list[Heard]


class Checkpoint:
    """Loads what there is and stores what is added, at most every `every_s` seconds of wall time."""

    def __init__(
        self, folder: Path, parts: Sequence[object], every_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._path = folder / NAME
        self._key = hashlib.sha256(repr(tuple(parts)).encode()).hexdigest()
        self._every_s = every_s
        self._clock = clock
        self._stored_at = clock()
        self.heard: list[Heard] = self._load()

    def add(self, heard: Heard) -> None:
        self.heard.append(heard)
        if self._clock() - self._stored_at >= self._every_s:
            with publish(self._path) as part:
                part.write_bytes(msgspec.json.encode(Partial(key=self._key, heard=self.heard)))
            self._stored_at = self._clock()

    @staticmethod
    def remove(folder: Path) -> None:
        (folder / NAME).unlink(missing_ok=True)

    def _load(self) -> list[Heard]:
        try:
            partial = msgspec.json.decode(self._path.read_bytes(), type=Partial)
        except (FileNotFoundError, msgspec.DecodeError):
            return []  # a damaged checkpoint costs only time
        return list(partial.heard) if partial.key == self._key else []
