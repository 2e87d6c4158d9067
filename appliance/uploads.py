"""Where uploads lie: unfinished ones by their id, finished ones by their content.

    data/uploads/<id>.part            what has come so far
    data/uploads/content/<sha256>     a finished upload, never changed again; jobs share it as a hard link

The web process writes there; workers and admission only read.
"""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from bus.events import JobSource


def uploads_dir(data_dir: Path) -> Path:
    return data_dir / "uploads"


def part_path(data_dir: Path, upload: str) -> Path:
    return uploads_dir(data_dir) / f"{upload}.part"


def content_path(data_dir: Path, sha256: str) -> Path:
    return uploads_dir(data_dir) / "content" / sha256


def upload_source(upload: str, name: str, sha256: str) -> JobSource:
    """A finished upload as a job's source."""
    return JobSource(kind="upload", location=upload, name=name, fingerprint=sha256)


def source_path(data_dir: Path, source: JobSource) -> Path | None:
    """The local file that a source is; None for a URL, and for an upload whose content nobody noted."""
    if source.kind == "file":
        return Path(source.location)
    if source.kind == "upload" and source.fingerprint is not None:
        return content_path(data_dir, source.fingerprint)
    return None


def located(data_dir: Path, source: JobSource) -> JobSource:
    """For a stage, which knows no uploads: the same source, an upload's `location` being the path of its content."""
    path = source_path(data_dir, source)
    return source if path is None else replace(source, location=str(path))
