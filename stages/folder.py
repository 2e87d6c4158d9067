"""A job's files: where each artifact lives and how it is read and written.

    <data>/jobs/<job>/source.<ext> probe.json transcript.json moments.json clips/<n>/faces.json crop.json
    <data>/output/<job>/clip-01.mp4 .srt .vtt .jpg .json

Every write goes to `.<name>.<pid>.part` in the same folder, is fsynced, renamed over the final name and the folder
fsynced: a reader sees the old file, the new one, or none, and a crash leaves at most a `.part` that `sweep` removes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct

from stages.artifacts import CropPlan, Faces, Moments, Probe, Transcript
from stages.errors import SOURCE_MISSING, Transient

T = TypeVar("T", bound=Struct)
PART_SUFFIX = ".part"


class JobFolder:
    """Paths and typed access for one job. Creating it touches nothing on disk."""

    def __init__(self, root: Path, output: Path) -> None:
        self.root = root
        self.output = output

    @classmethod
    def of(cls, data_dir: Path, job: str) -> JobFolder:
        return cls(data_dir / "jobs" / job, data_dir / "output" / job)

    def source(self) -> Path:
        """The job's video. Raises `Transient` when it is not there."""
        found = sorted(p for p in self.root.glob("source.*") if not p.name.endswith(PART_SUFFIX))
        if not found:
            raise Transient(
                f"the job's video is not in {self.root}: was the box restored without it? A retry of the job fetches "
                "it again; if its original is gone, or clips were planned already, add the video again",
                SOURCE_MISSING,
            )
        return found[0]

    def clip_dir(self, clip: int) -> Path:
        return self.root / "clips" / str(clip)

    def output_file(self, clip: int, suffix: str) -> Path:
        """`clip-01<suffix>` in the output folder; `suffix` with its dot."""
        return self.output / f"clip-{clip:02d}{suffix}"

    def probe(self) -> Probe:
        return _load(self.root / "probe.json", Probe)

    def transcript(self) -> Transcript:
        return _load(self.root / "transcript.json", Transcript)

    def moments(self) -> Moments:
        return _load(self.root / "moments.json", Moments)

    def faces(self, clip: int) -> Faces:
        return _load(self.clip_dir(clip) / "faces.json", Faces)

    def crop(self, clip: int) -> CropPlan:
        return _load(self.clip_dir(clip) / "crop.json", CropPlan)

    def save(self, path: Path, artifact: Struct) -> None:
        """Write one JSON artifact atomically and durably."""
        with publish(path) as part:
            part.write_bytes(msgspec.json.format(msgspec.json.encode(artifact), indent=1))

    def sweep(self) -> list[Path]:
        """Remove the part files of processes that are no more; returns what was removed."""
        gone = []
        for folder in (self.root, self.output):
            for part in folder.rglob(f".*{PART_SUFFIX}"):
                pid = part.name.removesuffix(PART_SUFFIX).rpartition(".")[2]
                if pid.isdigit() and not Path("/proc", pid).exists():
                    part.unlink(missing_ok=True)
                    gone.append(part)
        return gone


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it is fsynced and renamed over `path`, else removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}{PART_SUFFIX}")
    try:
        yield part
        fsync(part)
        part.replace(path)
        fsync(path.parent)
    finally:
        part.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """Flush a file or folder to the disk. An error here is final: never retried, never ignored."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _load(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError as error:
        raise Transient(
            f"{path.name} is missing in {path.parent}: run the stage before again", "artifact-missing"
        ) from error
    except msgspec.DecodeError as error:
        raise Transient(f"{path} is damaged ({error}): delete it and retry the job", "artifact-damaged") from error
