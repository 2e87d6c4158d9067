"""The backup file: a tar in gzip members, the manifest last, and a seal over every byte before it.

Any `tar xzf` can read it. Files that do not shrink are stored, the others compressed. The seal is one more gzip member
of fixed length with the sha256 of everything before it, so a flipped byte is found wherever it is, and a file that was
cut short is none at all. Reading trusts nothing: only plain files, only paths that `manifest.check_path` lets pass,
bounded headers.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

import msgspec

from appliance.backup.manifest import MANIFEST, MAX_MANIFEST_BYTES, Item, Kind, Manifest, check_path, decode
from appliance.errors import BackupDamaged, BackupError

CHUNK_BYTES = 1024 * 1024
_HEADER_BYTES = 1024 * 1024
"""Most that the headers before one file may take."""
_STORED = frozenset({".mp4", ".jpg", ".mkv", ".mov", ".webm", ".m4v", ".avi", ".ts", ".m2ts", ".mts", ".3gp", ".m4a"})
_LEVEL = 4
Report = Callable[[int], None]
"""Told how many bytes more have been done."""


def _nothing(_bytes: int) -> None:
    return


class _Hashing:
    """Passes bytes on and keeps their sha256."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


class _Members:
    """What the tar is written to: gzip members, each with its own level."""

    def __init__(self, out: _Hashing) -> None:
        self._out = out
        self._member = self._open(_LEVEL)
        self._level = _LEVEL
        self._written = 0

    def level(self, level: int) -> None:
        if level != self._level:
            self._member.close()
            self._level = level
            self._member = self._open(level)

    def write(self, data: bytes) -> int:
        self._written += len(data)
        return self._member.write(data)

    def tell(self) -> int:
        return self._written

    def close(self) -> None:
        self._member.close()

    def _open(self, level: int) -> gzip.GzipFile:
        return gzip.GzipFile("", "wb", level, self._out, mtime=0)


class _Counted:
    """A file's bytes on their way into the tar: hashed, counted, and never more than were announced."""

    def __init__(self, file: IO[bytes], report: Report) -> None:
        self._file = file
        self._report = report
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data)
        self._report(len(data))
        return data


class ArchiveWriter:
    """Writes files one after the other into `out`, which is open for writing and empty; `finish` makes it a backup."""

    def __init__(self, out: IO[bytes], report: Report = _nothing) -> None:
        self._raw = _Hashing(out)
        self._members = _Members(self._raw)
        self._tar = tarfile.TarFile(fileobj=self._members, mode="w", format=tarfile.PAX_FORMAT)  # type: ignore[arg-type]
        self._report = report
        self.items: list[Item] = []

    def add(self, path: str, kind: Kind, file: IO[bytes], size_bytes: int, mtime_ns: int) -> None:
        """`size_bytes` bytes of `file` as `path`. Raises `BackupError` when it has fewer."""
        counted = _Counted(file, self._report)
        self._members.level(0 if Path(path).suffix.lower() in _STORED else _LEVEL)
        self._add(check_path(path), counted, size_bytes, mtime_ns)
        sha256 = counted.digest.hexdigest()
        self.items.append(Item(path=path, kind=kind, size_bytes=size_bytes, mtime_ns=mtime_ns, sha256=sha256))

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest and the seal. The caller syncs the file."""
        data = msgspec.json.encode(manifest)
        self._members.level(_LEVEL)
        self._add(MANIFEST, io.BytesIO(data), len(data), int(manifest.created_at.timestamp() * 10**9))
        self._tar.close()
        self._members.close()
        self._raw.write(_seal(self._raw.digest.hexdigest()))
        self._raw.flush()

    def _add(self, path: str, file: IO[bytes] | _Counted, size_bytes: int, mtime_ns: int) -> None:
        head = tarfile.TarInfo(path)
        head.size, head.mode, head.mtime = size_bytes, 0o600, mtime_ns // 10**9
        try:
            self._tar.addfile(head, file)
        except OSError as error:
            if error.errno is not None:
                raise
            raise BackupError(f"{path} became shorter while it was read: run the backup again") from error


def _seal(sha256: str) -> bytes:
    """A gzip member (RFC 1952) of one stored block (RFC 1951 §3.2.4) that holds one line: as long for every sum."""
    line = f"sha256 {sha256}\n".encode()
    block = struct.pack("<BHH", 1, len(line), len(line) ^ 0xFFFF) + line
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + block + struct.pack("<II", zlib.crc32(line), len(line))


SEAL_BYTES = len(_seal("0" * 64))


class _Bounded:
    """The raw file on its way into the reader: hashed up to the seal."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file = file
        self._left = size - SEAL_BYTES
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self.digest.update(data[: self._left])
        self._left = max(0, self._left - len(data))
        return data

    def seekable(self) -> bool:
        return False


class _Allowance(Protocol):
    def read(self, size: int) -> bytes: ...


class _Stream:
    """The unpacked bytes; headers may take no more than `allowance`, so that no header fills the memory."""

    def __init__(self, unpacked: _Allowance) -> None:
        self._unpacked = unpacked
        self.allowance: int | None = None

    def read(self, size: int) -> bytes:
        data = self._unpacked.read(size)
        if self.allowance is not None:
            self.allowance -= len(data)
            if self.allowance < 0:
                raise BackupDamaged("a header in it is too large: this is no backup of ours")
        return data


class Member:
    """One file while it is being read: `chunks` once, then `sha256`."""

    def __init__(self, path: str, size_bytes: int, file: IO[bytes]) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._file = file
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def chunks(self) -> Iterator[bytes]:
        while data := self._file.read(CHUNK_BYTES):
            self._digest.update(data)
            yield data


def scan(path: Path, visit: Callable[[Member], None], report: Report = _nothing) -> Manifest:
    """Read the backup at `path` from end to end, giving each file to `visit`; returns the manifest. Blocking.

    What `visit` leaves unread is read here, so that every file's sum is known. Raises `BackupDamaged` unless every byte
    is as it was written and the manifest names just what is there; `visit` must therefore not believe what it is given
    before this returns.
    """
    found: dict[str, Item] = {}
    manifest: bytes | None = None
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            raw = _Bounded(file, size)
            unpacked = gzip.GzipFile(fileobj=raw, mode="rb")  # type: ignore[call-overload]
            stream = _Stream(unpacked)
            stream.allowance = _HEADER_BYTES
            with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", errors="strict") as tar:  # type: ignore[call-overload]
                while (head := tar.next()) is not None:
                    stream.allowance = None
                    if manifest is not None:
                        raise BackupDamaged("something follows its manifest: this is no backup of ours")
                    if head.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                        raise BackupDamaged(f"{head.name[:200]!r} in it is no plain file: this is no backup of ours")
                    content = tar.extractfile(head)
                    assert content is not None
                    if head.name == MANIFEST:
                        if head.size > MAX_MANIFEST_BYTES:
                            raise BackupDamaged("its manifest is too large: this is no backup of ours")
                        manifest = content.read()
                    else:
                        _read(Member(check_path(head.name), head.size, content), found, visit, report)
                    stream.allowance = _HEADER_BYTES
            stream.allowance = None
            while stream.read(CHUNK_BYTES):
                pass
            file.seek(max(0, size - SEAL_BYTES))
            if file.read() != _seal(raw.digest.hexdigest()):
                raise BackupDamaged(f"{path} is damaged: its seal does not fit its content")
    except BackupDamaged as error:
        raise BackupDamaged(f"{path}: {error}") from error
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, UnicodeDecodeError, ValueError) as error:
        raise BackupDamaged(f"{path} is damaged or no backup: {error}") from error
    except FileNotFoundError as error:
        raise BackupError(f"there is no file {path}") from error
    return _agreed(path, manifest, found)


def _read(member: Member, found: dict[str, Item], visit: Callable[[Member], None], report: Report) -> None:
    if member.path in found:
        raise BackupDamaged(f"{member.path} is in it twice: this is no backup of ours")
    visit(member)
    for _ in member.chunks():
        pass
    found[member.path] = Item(
        path=member.path, kind="artifact", size_bytes=member.size_bytes, mtime_ns=0, sha256=member.sha256
    )
    report(member.size_bytes)


def _agreed(path: Path, data: bytes | None, found: dict[str, Item]) -> Manifest:
    if data is None:
        raise BackupDamaged(f"{path} has no manifest: it was cut short, or is no backup of ours")
    manifest = decode(data)
    listed = {item.path: item for item in manifest.items}
    wrong = [name for name in listed.keys() & found.keys() if listed[name].sha256 != found[name].sha256]
    missing, strange = listed.keys() - found.keys(), found.keys() - listed.keys()
    for names, what in ((wrong, "is not what was written"), (missing, "is missing"), (strange, "is not in its list")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise BackupDamaged(f"{path}: {min(names)}{more} {what}")
    return manifest
