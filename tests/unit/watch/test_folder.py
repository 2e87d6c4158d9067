"""What a look into the watch folder finds, and what it passes over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appliance.watch.folder import MAX_DEPTH, Entry, is_temporary, look


def paths(root: Path, max_files: int = 1000) -> dict[str, str]:
    return {entry.path: entry.kind for entry in look(root, max_files).entries}


def test_files_and_subfolders_are_found_the_oldest_first(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    for age, name in enumerate(("new.mp4", "a/old.mp4", "a/b/older.mp4")):
        (tmp_path / name).write_bytes(b"x" * (age + 1))
        os.utime(tmp_path / name, ns=(0, 10**18 - age))
    found = look(tmp_path, 1000)
    assert [(entry.path, entry.size_bytes) for entry in found.entries] == [
        ("a/b/older.mp4", 3),
        ("a/old.mp4", 2),
        ("new.mp4", 1),
    ]
    assert found.complete


@pytest.mark.parametrize(
    "name",
    [
        ".hidden.mp4",
        ".talk.mp4.Xy12ab",
        "~$talk.mp4",
        "talk.mp4~",
        "talk.mp4.part",
        "talk.MP4.CRDOWNLOAD",
        "talk.mp4.tmp",
        "talk.temp.mp4",
        "talk.f137.mp4.part",
        "talk.mp4.filepart",
        "Thumbs.db",
        "~syncthing~talk.mp4.tmp",
    ],
)
def test_names_of_unfinished_files_are_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / "talk 2.mp4").write_bytes(b"x")
    assert paths(tmp_path) == {"talk 2.mp4": "file"}
    (tmp_path / name).rename(tmp_path / "talk.mp4")
    assert paths(tmp_path) == {"talk 2.mp4": "file", "talk.mp4": "file"}


@pytest.mark.parametrize("name", ["talk.mp4", "a part.mp4", "template.mp4", "party.mkv", "x.tmpl", "déjà vu.mov", "-v"])
def test_ordinary_names_are_none_of_these(name: str) -> None:
    assert not is_temporary(name)


def test_a_name_that_is_only_reserved_waits(tmp_path: Path) -> None:
    (tmp_path / "talk.mp4").touch()
    (tmp_path / "talk.mp4.part").write_bytes(b"x")
    assert paths(tmp_path) == {}


def test_folders_of_the_system_are_passed_over(tmp_path: Path) -> None:
    for name in ("@eaDir", "#recycle", ".stfolder", "lost+found"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "talk.mp4").touch()
    assert paths(tmp_path) == {}


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "input"
    outside.mkdir()
    root.mkdir()
    (outside / "secret.mp4").touch()
    (root / "own.mp4").touch()
    (root / "inside.mp4").symlink_to(root / "own.mp4")
    (root / "out.mp4").symlink_to(outside / "secret.mp4")
    (root / "folder").symlink_to(outside)
    (root / "nowhere.mp4").symlink_to(root / "missing.mp4")
    (root / "loop.mp4").symlink_to(root / "loop.mp4")
    links = {"out.mp4", "folder", "nowhere.mp4", "loop.mp4"}
    assert paths(root) == {"own.mp4": "file"} | dict.fromkeys(links, "link")


def test_devices_and_pipes_are_told_apart(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert paths(tmp_path) == {"pipe.mp4": "other"}


def test_what_is_too_deep_is_an_entry_of_its_own(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * (MAX_DEPTH + 1))
    deep.mkdir(parents=True)
    (deep / "talk.mp4").touch()
    assert list(paths(tmp_path).values()) == ["folder"]


def test_a_folder_of_too_many_says_so(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.mp4").touch()
    assert look(tmp_path, 20).complete
    for limit in (19, 10, 1):
        found = look(tmp_path, limit)
        assert (found.complete, len(found.entries)) == (False, limit), "as many as the limit are seen"


def test_in_a_folder_of_too_many_a_reserved_name_waits_too(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.mp4").touch()
        (tmp_path / f"{number}.mp4.part").touch()
    for limit in range(1, 40):
        assert look(tmp_path, limit).entries == []


def test_a_name_that_is_not_text_is_found(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xff\xfe.mp4")).touch()
    (entry,) = look(tmp_path, 10).entries
    assert isinstance(entry, Entry)
    assert os.fsencode(entry.path) == b"\xff\xfe.mp4"


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        look(tmp_path / "none", 10)
