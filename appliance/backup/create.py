"""Making a backup of a box that runs or rests.

The database is copied first, as of one stream position; then the files that it speaks of. Files never change, they only
appear and go, so what comes later than the position is what a stage would make again, and what is gone by then is
named. The backup has a temporary name until it is complete and on disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from itertools import chain
from pathlib import Path

import msgspec
from msgspec import Struct

from appliance.backup.archive import SEAL_BYTES, ArchiveWriter
from appliance.backup.contents import Entry, Told, artifact_files, clip_files, source_files, state_files, told_by
from appliance.backup.manifest import DATABASE, NOTES, WEB_DATABASE, Manifest, check_path
from appliance.backup.snapshot import copy_database, settle_accounts
from appliance.config import Config
from appliance.errors import BackupDamaged, BackupRefused
from appliance.models import REGISTRY, state
from appliance.private import publish_private
from stages.folder import PART_SUFFIX

SPARE_BYTES = 16 * 2**20
"""For headers and rounding, on top of the forecast."""


class Made(Struct, frozen=True, kw_only=True):
    """A finished backup."""

    file: str
    size_bytes: int
    manifest: Manifest
    left_out_jobs: int
    """Unfinished jobs whose video is on the box and not in it."""
    left_out_bytes: int


def create(
    config: Config,
    file: Path,
    *,
    clips: bool = False,
    sources: bool = False,
    replace: bool = False,
    config_file: Path | None = None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Made:
    """Write a backup of the box of `config` to `file` (mode 0600), all or nothing. Blocking.

    `config_file` is kept in it for people. `report(done, total)` counts bytes. Raises `BackupRefused` for a place that
    cannot be, or has no room; `BackupError`, `StoreDamaged`, OSError.
    """
    data_dir = config.data_dir.resolve()
    file = _place(file, data_dir, replace=replace)
    _sweep(file)
    with _part(file, ".db") as database, _part(file, ".web") as web:
        originals = [path for name in (DATABASE, WEB_DATABASE) if (path := data_dir / name).exists()]
        _need_room(file, 2 * sum(path.stat().st_size for path in originals))
        copy_database(data_dir / DATABASE, database)
        copies = [Entry(DATABASE, "database", database)]
        uploads: list[str] = []
        if (data_dir / WEB_DATABASE).exists():
            copy_database(data_dir / WEB_DATABASE, web)
            uploads = settle_accounts(web, database)
            copies.append(Entry(WEB_DATABASE, "database", web))
        told = told_by(database)
        notes, videos = _notes(config, config_file), list(source_files(data_dir, told, uploads))
        entries = [*copies, *state_files(data_dir), *artifact_files(data_dir, told)]
        entries += chain(videos if sources else (), clip_files(data_dir, told) if clips else ())
        total = sum(_size(entry) for entry in entries) + sum(len(data) for _, data in notes)
        _need_room(file, total)
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            report(done, total)

        with publish_private(file) as out:
            archive = ArchiveWriter(out, count)
            skipped = _fill(archive, notes, entries)
            manifest = _manifest(config, told, archive, skipped, clips=clips, sources=sources)
            archive.finish(manifest)
    left = [] if sources else videos
    return Made(
        file=str(file),
        size_bytes=file.stat().st_size,
        manifest=manifest,
        left_out_jobs=len(left),
        left_out_bytes=sum(_size(entry) for entry in left),
    )


def _place(file: Path, data_dir: Path, *, replace: bool) -> Path:
    """Where the backup goes. Raises `BackupRefused`."""
    if not (data_dir / DATABASE).exists():
        raise BackupRefused(f"no box has run on {data_dir}: there is nothing to back up (name another one with -c)")
    if not file.name or not file.parent.is_dir():
        raise BackupRefused(f"{file.parent} is no folder: make it first")
    file = file.parent.resolve() / file.name
    if file.is_relative_to(data_dir):
        raise BackupRefused(f"{file} lies in the data folder, and would be lost with it: name a place outside")
    if file.is_dir():
        raise BackupRefused(f"{file} is a folder: name a file in it")
    if file.exists() and not replace:
        raise BackupRefused(f"{file} exists: name another file, or let --force replace it")
    return file


@contextmanager
def _part(file: Path, what: str) -> Iterator[Path]:
    """A temporary path beside `file`, gone at the end."""
    path = file.with_name(f".{file.name}{what}.{os.getpid()}{PART_SUFFIX}")
    path.unlink(missing_ok=True)
    try:
        yield path
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def _sweep(file: Path) -> None:
    """Remove what backups to the same file left behind when they were killed."""
    for part in file.parent.glob(f".{_literal(file.name)}.*{PART_SUFFIX}*"):
        pid = part.name.partition(PART_SUFFIX)[0].rpartition(".")[2]
        if pid.isdigit() and not Path("/proc", pid).exists():
            part.unlink(missing_ok=True)


def _literal(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _need_room(file: Path, size_bytes: int) -> None:
    needed, free = size_bytes + SPARE_BYTES + SEAL_BYTES, shutil.disk_usage(file.parent).free
    if free < needed:
        raise BackupRefused(
            f"{file.parent} has {free / 1e9:.2f} GB free; the backup may take {needed / 1e9:.2f} GB: "
            "name a place with more room"
        )


def _size(entry: Entry) -> int:
    try:
        return entry.at.stat().st_size
    except OSError:
        return 0


def _fill(archive: ArchiveWriter, notes: Iterable[tuple[str, bytes]], entries: Iterable[Entry]) -> list[str]:
    """Put everything in; returns the paths of what was gone when its turn came."""
    import io

    now = int(datetime.now(UTC).timestamp() * 10**9)
    for path, data in notes:
        archive.add(path, "config", io.BytesIO(data), len(data), now)
    skipped = []
    for entry in entries:
        try:
            check_path(entry.path)
            file = entry.at.open("rb")
        except (FileNotFoundError, BackupDamaged):  # deleted meanwhile; a name that no backup can hold
            skipped.append(entry.path.encode("utf-8", "replace").decode())
            continue
        with file:
            status = os.fstat(file.fileno())
            archive.add(entry.path, entry.kind, file, status.st_size, status.st_mtime_ns)
    return skipped


def _notes(config: Config, config_file: Path | None) -> list[tuple[str, bytes]]:
    settings = msgspec.json.format(msgspec.json.encode(config, enc_hook=str), indent=1)
    models = [msgspec.to_builtins(have) for model in REGISTRY if _is_here(have := state(model, config.models_dir))]
    notes = [
        (f"{NOTES}/settings.json", settings),
        (f"{NOTES}/models.json", msgspec.json.format(msgspec.json.encode(models), indent=1)),
    ]
    if config_file is not None:
        notes.append((f"{NOTES}/appliance.yaml", config_file.read_bytes()))
    return notes


def _is_here(have: object) -> bool:
    return getattr(have, "state", "absent") != "absent"


def _manifest(
    config: Config, told: Told, archive: ArchiveWriter, skipped: list[str], *, clips: bool, sources: bool
) -> Manifest:
    return Manifest(
        program=metadata.version("agentos-appliance"),
        schema=told.schema,
        created_at=datetime.now(UTC),
        epoch=told.epoch,
        seq=told.seq,
        facts=told.facts,
        jobs=told.states,
        clips=clips,
        sources=sources,
        models=[model.name for model in REGISTRY if _is_here(state(model, config.models_dir))],
        items=archive.items,
        skipped=skipped,
    )
