"""A data folder on a small disk of its own, and filling it up."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.storage.volume import measure

MB = 1_000_000


@contextlib.contextmanager
def small_disk(path: Path, size_bytes: int) -> Iterator[Path]:
    """A tmpfs of this size mounted at `path`; skips the test where this user may not mount one."""
    path.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(path)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount program")
    if mounted.returncode != 0:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


class Filler:
    """A file that takes what is left of a volume."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "filler"

    def leave(self, free_bytes: int) -> None:
        """Take all but so much. Blocking."""
        with self.path.open("ab") as file:
            more = measure(self.path.parent).free_bytes - free_bytes
            os.posix_fallocate(file.fileno(), file.tell(), more)

    def take_all(self) -> None:
        """Write until nothing more can be written. Blocking."""
        with self.path.open("ab", buffering=0) as file:
            for piece in (b"\0" * 2**20, b"\0" * 4096, b"\0"):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(piece)

    def remove(self) -> None:
        self.path.unlink()
