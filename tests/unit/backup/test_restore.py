"""A backup is believed only when every byte is as it was written, and never leads out of the folder."""

from __future__ import annotations

import gzip
import io
import os
import random
import shutil
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from appliance.backup import restore as restoring
from appliance.backup.archive import SEAL_BYTES, _Hashing, _seal, scan
from appliance.backup.create import create
from appliance.backup.manifest import Item, Manifest, check_path
from appliance.backup.restore import restore, verify
from appliance.errors import BackupDamaged, BackupError, BackupRefused, RestoreUnfinished
from appliance.supervisor.lock import lock_box
from tests.unit.backup.box import Box


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backup")
    box = Box(folder / "box")
    file = folder / "b.tar.gz"
    create(box.config, file, clips=True, sources=True, config_file=box.config_file)
    return file


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_any_flipped_byte_is_found_and_nothing_is_touched(backup: Path, tmp_path: Path) -> None:
    data, file, new = backup.read_bytes(), tmp_path / "b.tar.gz", tmp_path / "new"
    random.seed(4)
    ends = [*range(12), *range(len(data) - SEAL_BYTES - 8, len(data))]
    for at in [*ends, *random.sample(range(len(data)), 60)]:
        file.write_bytes(data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :])
        with pytest.raises(BackupDamaged):
            restore(file, new)
        assert not new.exists()
    file.write_bytes(data)
    assert verify(file).items


def test_a_file_that_was_cut_short_or_added_to_is_none(backup: Path, tmp_path: Path) -> None:
    data, file = backup.read_bytes(), tmp_path / "b.tar.gz"
    for wrong in (b"", data[:10], data[: len(data) // 2], data[:-SEAL_BYTES], data[:-1], data + b"x", data + data):
        file.write_bytes(wrong)
        with pytest.raises(BackupDamaged):
            verify(file)
    with pytest.raises(BackupError, match="there is no file"):
        verify(tmp_path / "none")


def member(
    name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    head = tarfile.TarInfo(name)
    head.type, head.linkname, head.size = kind, link, len(data) if kind == tarfile.REGTYPE else 0
    return head, data


def sealed(path: Path, members: list[tuple[tarfile.TarInfo, bytes]]) -> Path:
    """An archive as somebody who knows the format would forge it: the seal fits."""
    with path.open("wb") as file:
        out = _Hashing(file)
        with gzip.GzipFile("", "wb", 1, out) as packed, tarfile.open(fileobj=packed, mode="w|") as tar:
            for head, data in members:
                tar.addfile(head, io.BytesIO(data))
        out.write(_seal(out.digest.hexdigest()))
    return path


def listing(*names: str, data: bytes = b"x") -> tuple[tarfile.TarInfo, bytes]:
    import hashlib

    sha256 = hashlib.sha256(data).hexdigest()
    items = [Item(path=name, kind="clip", size_bytes=len(data), mtime_ns=0, sha256=sha256) for name in names]
    manifest = Manifest(
        program="1",
        schema=1,
        created_at=datetime.now(UTC),
        epoch=None,
        seq=0,
        facts=0,
        jobs={},
        clips=True,
        sources=False,
        models=[],
        items=items,
    )
    return member("manifest.json", msgspec.json.encode(manifest))


EVIL = {
    "up": [member("../evil"), listing("../evil")],
    "inside-up": [member("output/../../evil"), listing("output/../../evil")],
    "absolute": [member("/tmp/evil"), listing("/tmp/evil")],
    "elsewhere": [member("nats/secrets.json"), listing("nats/secrets.json")],
    "dot": [member("output/./evil"), listing("output/./evil")],
    "control": [member("output/a\nb"), listing("output/a\nb")],
    "link": [
        member("output/l", kind=tarfile.SYMTYPE, link="/etc"),
        member("output/l/passwd"),
        listing("output/l/passwd"),
    ],
    "hard": [member("output/l", kind=tarfile.LNKTYPE, link="/etc/passwd"), listing("output/l")],
    "device": [member("output/d", kind=tarfile.CHRTYPE), listing("output/d")],
    "pipe": [member("output/p", kind=tarfile.FIFOTYPE), listing("output/p")],
    "folder": [member("output/d", kind=tarfile.DIRTYPE), listing("output/d")],
    "twice": [member("output/a"), member("output/a"), listing("output/a")],
    "unlisted": [member("output/a"), member("output/b"), listing("output/a")],
    "missing": [member("output/a"), listing("output/a", "output/b")],
    "other-content": [member("output/a", b"y"), listing("output/a")],
    "after": [member("output/a"), listing("output/a"), member("output/b")],
    "no-manifest": [member("output/a")],
    "bad-manifest": [member("output/a"), member("manifest.json", b"{}")],
    "newer": [member("output/a"), member("manifest.json", b'{"version": 99}')],
}


@pytest.mark.parametrize("what", EVIL)
def test_a_forged_archive_is_refused_before_anything_is_written(tmp_path: Path, what: str) -> None:
    file = sealed(tmp_path / "b.tar.gz", EVIL[what])
    with pytest.raises(BackupDamaged):
        restore(file, tmp_path / "in" / "new")
    assert below(tmp_path) == ["b.tar.gz"]


def test_the_forgery_itself_is_sound(tmp_path: Path) -> None:
    file = sealed(tmp_path / "b.tar.gz", [member("output/a"), listing("output/a")])
    restore(file, tmp_path / "new")
    assert (tmp_path / "new" / "output" / "a").read_bytes() == b"x"


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    head = tarfile.TarInfo("output/a")
    head.type, head.size = tarfile.XHDTYPE, 64 * 2**20
    packed = gzip.compress(head.tobuf(tarfile.USTAR_FORMAT) + bytes(64 * 2**20), 1)
    file = tmp_path / "b.tar.gz"
    file.write_bytes(packed)
    with pytest.raises(BackupDamaged, match="header in it is too large"):
        verify(file)


@pytest.mark.parametrize(
    "path", ["", "x", "output//a", "output/", "run/..", "jobs/a\\b", "jobs/\udcff", "jobs/" + "a" * 3000]
)
def test_paths_that_have_no_place(path: str) -> None:
    with pytest.raises(BackupDamaged):
        check_path(path)


def test_nothing_is_ever_written_over(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "new" / "output").mkdir(parents=True)
    with pytest.raises(BackupRefused, match=r"is not empty \(output\)"):
        restore(backup, tmp_path / "new")
    (tmp_path / "file").touch()
    with pytest.raises(BackupRefused, match="is no folder"):
        restore(backup, tmp_path / "file")
    assert below(tmp_path) == ["file", "new", "new/output"]


def test_models_may_lie_there_already(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "a.onnx").touch()
    restore(backup, tmp_path)
    assert (tmp_path / "models" / "a.onnx").exists()
    assert (tmp_path / "appliance.db").exists()


def test_without_room_it_says_how_much_is_needed(backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restoring, "SPARE_BYTES", 10**18)
    with pytest.raises(BackupRefused, match="GB are needed"):
        restore(backup, tmp_path / "new")
    assert below(tmp_path) == []


def test_what_a_restore_that_was_cut_short_has_laid_out_needs_no_room_again(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, free = tmp_path / "new", shutil.disk_usage(tmp_path).free

    def usage(_path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=free)

    def killed(_source: Path, _target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "disk_usage", usage)
    (new / ".restoring" / "new").mkdir(parents=True)
    (new / ".restoring" / "new" / "half").write_bytes(b"x" * 2_000_000)
    free = verify(backup).bytes + restoring.SPARE_BYTES - 1_000_000
    with monkeypatch.context() as cut:
        cut.setattr(restoring, "_move", killed)
        with pytest.raises(KeyboardInterrupt):
            restore(backup, new)
    assert not (new / ".restoring" / "new" / "half").exists()
    free = 0
    restore(backup, new)
    assert (new / "appliance.db").exists()


def test_a_restore_that_fails_half_way_leaves_an_empty_folder(
    backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def failing(path: Path, visit: object, report: object = None) -> Manifest:
        nonlocal calls
        calls += 1
        if calls == 1:
            return scan(path, lambda member: None)

        def broken(member: object) -> None:
            visit(member)  # type: ignore[operator]
            raise OSError(28, "No space left on device")

        return scan(path, broken)

    monkeypatch.setattr(restoring, "scan", failing)
    with pytest.raises(OSError, match="No space left"):
        restore(backup, tmp_path / "new")
    assert below(tmp_path / "new") == ["run", "run/supervisor.lock"]
    monkeypatch.undo()
    restore(backup, tmp_path / "new")


@pytest.mark.parametrize("moved", range(5))
def test_a_restore_that_was_cut_short_goes_on_and_no_box_starts_meanwhile(
    backup: Path, tmp_path: Path, moved: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after `moved` of the moves to their places."""
    new, real, count = tmp_path / "new", Path.replace, 0

    def replace(self: Path, target: Path) -> Path:
        nonlocal count
        if count == moved:
            raise KeyboardInterrupt
        count += 1
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt):
        restore(backup, new)
    monkeypatch.undo()
    assert not (new / "appliance.db").exists()
    with pytest.raises(RestoreUnfinished, match="run the same"):
        lock_box(new)
    other = sealed(tmp_path / "other.tar.gz", [member("output/a"), listing("output/a")])
    with pytest.raises(RestoreUnfinished, match="another backup"):
        restore(other, new)
    manifest = restore(backup, new)
    assert {item.path for item in manifest.items} <= set(below(new))
    assert not (new / ".restoring").exists()
    os.close(lock_box(new))
