"""Putting a backup back, into an empty data folder.

Everything is checked before anything is written. Then the files are laid out in `.restoring/` inside the folder, whole
and on disk, and only then moved to their places, the database last. A restore that is cut short leaves `.restoring`:
no box starts on such a folder, and the same restore run again goes on, or starts over when nothing was moved yet.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from appliance.backup.archive import Member, scan
from appliance.backup.manifest import DATABASE, MANIFEST, NOTES, Manifest
from appliance.errors import BackupDamaged, BackupError, BackupRefused, RestoreUnfinished
from appliance.storage.volume import taken
from appliance.store.schema import SCHEMA_VERSION
from appliance.supervisor.lock import RESTORING, try_lock
from stages.folder import fsync

SPARE_BYTES = 64 * 2**20
_LAID_OUT = "laid-out"
"""Says that everything is in `new/`, whole: from here the restore is finished, not begun again."""
_MAY_BE_THERE = frozenset({RESTORING, "models", "lost+found"})
_PRIVATE = frozenset({"database", "config", "state"})
Report = Callable[[int, int], None]


def verify(file: Path, report: Report = lambda done, total: None) -> Manifest:
    """Check every byte of the backup at `file`. Blocking. Raises `BackupDamaged`, `BackupError`."""
    done, total = 0, max(1, _size(file))

    def count(more: int) -> None:
        nonlocal done
        done += more
        report(min(done, total), total)

    return scan(file, lambda member: None, count)


def restore(file: Path, data_dir: Path, report: Report = lambda done, total: None) -> Manifest:
    """Make `data_dir`, which is empty or not there, the data folder of the backup at `file`. Blocking.

    Raises `BackupDamaged` before anything is touched; `BackupRefused` for a folder that is not empty, has no room or
    belongs to a running box, and for a backup of a newer program; OSError.
    """
    manifest = verify(file, report)
    if manifest.schema > SCHEMA_VERSION:
        raise BackupRefused(f"{file} is from a newer program ({manifest.program}): restore it with that one")
    data_dir = data_dir.absolute()
    _must_be_empty(data_dir)
    _must_have_room(data_dir, manifest.bytes + SPARE_BYTES)
    (data_dir / "run").mkdir(parents=True, exist_ok=True)
    lock = try_lock(data_dir / "run" / "supervisor.lock")
    if lock is None:
        raise BackupRefused(f"a box runs on {data_dir}: end it with `appliance down`, or name another folder")
    try:
        _restore(file, manifest, data_dir, report)
    finally:
        os.close(lock)
    return manifest


def _restore(file: Path, manifest: Manifest, data_dir: Path, report: Report) -> None:
    staging = data_dir / RESTORING
    new = staging / "new"
    if not (staging / _LAID_OUT).exists():
        if staging.exists():
            shutil.rmtree(staging)
        try:
            new.mkdir(parents=True)
            fsync(data_dir)
            _lay_out(file, manifest, new, report)
            (staging / _LAID_OUT).write_bytes(_name_of(manifest))
            fsync(staging / _LAID_OUT)
            fsync(staging)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    elif (staging / _LAID_OUT).read_bytes() != _name_of(manifest):
        raise RestoreUnfinished(
            f"{data_dir} holds a restore of another backup that was cut short: finish it with that file, "
            "or remove the folder"
        )
    _move(new, data_dir)
    shutil.rmtree(staging)
    fsync(data_dir)


def _lay_out(file: Path, manifest: Manifest, new: Path, report: Report) -> None:
    items = {item.path: item for item in manifest.items}
    folders = {new}
    done = 0

    def write(member: Member) -> None:
        nonlocal done
        item = items.get(member.path)
        if item is None:
            raise BackupDamaged(f"{member.path} was not there a moment ago")
        target = new / member.path
        target.parent.mkdir(parents=True, exist_ok=True)
        folders.update(parent for parent in target.parents if parent.is_relative_to(new))
        mode = 0o600 if item.kind in _PRIVATE else 0o644
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(descriptor, "wb") as out:
            for chunk in member.chunks():
                out.write(chunk)
                done += len(chunk)
                report(done, max(1, manifest.bytes))
            out.flush()
            os.utime(descriptor, ns=(item.mtime_ns, item.mtime_ns))
            os.fsync(descriptor)

    if scan(file, write) != manifest:
        raise BackupDamaged(f"{file} changed while it was read: run the restore again")
    notes = new / NOTES
    notes.mkdir(exist_ok=True)
    (notes / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    fsync(notes / MANIFEST)
    for folder in folders | {notes}:
        fsync(folder)


def _move(source: Path, target: Path) -> None:
    """Everything in `source` to its place in `target`, the database last. May be run again after a kill."""
    for item in sorted(source.iterdir(), key=lambda path: (path.name == DATABASE, path.name)):
        place = target / item.name
        if item.is_dir() and place.is_dir():
            _move(item, place)
            item.rmdir()
            continue
        if place.exists():
            raise BackupError(f"{place} appeared during the restore: move it away and run the restore again")
        item.replace(place)
        fsync(target)


def _must_be_empty(data_dir: Path) -> None:
    if (data_dir / RESTORING / _LAID_OUT).exists():
        return  # an earlier restore was nearly done: what lies there is its own
    try:
        there = sorted(os.listdir(data_dir))  # noqa: PTH208 - names
    except FileNotFoundError:
        return
    except NotADirectoryError:
        raise BackupRefused(f"{data_dir} is no folder: name one") from None
    strange = [name for name in there if name not in _MAY_BE_THERE and not _only_locks(data_dir / name)]
    if strange:
        more = f" and {len(strange) - 1} more" if len(strange) > 1 else ""
        raise BackupRefused(
            f"{data_dir} is not empty ({strange[0]}{more}): a restore never writes over anything; "
            "name an empty folder with --into"
        )


def _must_have_room(data_dir: Path, needed: int) -> None:
    """For laying everything out; what a restore that was cut short has left goes before that."""
    staging = data_dir / RESTORING
    if (staging / _LAID_OUT).exists():
        return  # it is there already and only has to be moved
    free = shutil.disk_usage(_existing(data_dir)).free + taken(staging)
    if free < needed:
        raise BackupRefused(f"{data_dir} has {free / 1e9:.2f} GB free, {needed / 1e9:.2f} GB are needed")


def _only_locks(path: Path) -> bool:
    """The folder that taking the box's lock has made."""
    return path.name == "run" and all(item.suffix == ".lock" for item in path.iterdir())


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _size(file: Path) -> int:
    with suppress(OSError):
        return file.stat().st_size
    return 0


def _name_of(manifest: Manifest) -> bytes:
    return f"{manifest.created_at.isoformat()} {manifest.epoch} {manifest.seq}\n".encode()
