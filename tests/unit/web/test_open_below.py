"""Opening files of the data folder: what is not there is told apart from what cannot be opened."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from web.media import open_below


def test_what_is_not_a_file_is_not_there(tmp_path: Path) -> None:
    folder = tmp_path / "output" / "job"
    folder.mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path)
    (folder / "file").write_bytes(b"x")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        for parts in (
            ("none",),
            ("output", "job", "link"),
            ("output", "job", "socket"),
            ("output", "job", "file", "x"),
        ):
            assert open_below(tmp_path, parts) is None, parts


def test_a_file_that_cannot_be_opened_is_not_taken_for_one_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    real = os.open

    def full(path: Any, flags: int, *more: Any, **options: Any) -> int:
        if path == "file":
            raise OSError(errno.EMFILE, "too many open files")
        return real(path, flags, *more, **options)

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OSError, match="too many"):
        open_below(tmp_path, ("file",))
