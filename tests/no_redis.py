"""`TESTS_WITHOUT_REDIS=1`: the tests as on a machine on which neither Redis nor Valkey is installed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

VARIABLE = "TESTS_WITHOUT_REDIS"
SERVERS = ("redis-server", "valkey-server")


def hide() -> Path | None:
    """Take the servers off this process's PATH, and so off that of its children.

    A folder of the PATH that holds one is replaced by one of links to everything else in it. Returns the folder of
    those, for the caller to remove; None when there is nothing to hide.
    """
    places = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if not any((Path(place) / name).exists() for place in places for name in SERVERS):
        return None
    links = Path(tempfile.mkdtemp(prefix="without-redis-"))
    shown = []
    for number, place in enumerate(places):
        folder = Path(place)
        if not any((folder / name).exists() for name in SERVERS):
            shown.append(place)
            continue
        other = links / str(number)
        other.mkdir()
        for program in folder.iterdir():
            if not program.name.startswith(("redis", "valkey")):
                (other / program.name).symlink_to(program)
        shown.append(str(other))
    os.environ["PATH"] = os.pathsep.join(shown)
    assert not any(shutil.which(name) for name in SERVERS)
    return links
