"""The environment of a normal installation, for measuring what a process costs there.

The bus's client imports aiohttp when it finds it, for websockets that the box does not use: 9 MiB and 0.2 s in each
process. Only an upload client of the tests brings it.
"""

from __future__ import annotations

import os
from pathlib import Path

HIDDEN = ("aiohttp",)


def lean_environment(folder: Path) -> dict[str, str]:
    """This process's environment, in which Python finds none of `HIDDEN`; makes `folder/hidden` for it."""
    hidden = folder / "hidden"
    hidden.mkdir()
    for name in HIDDEN:
        (hidden / f"{name}.py").write_text("raise ImportError('a normal installation has none')\n")
    path = os.pathsep.join(filter(None, (str(hidden), str(Path.cwd()), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}
