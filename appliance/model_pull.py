"""Fetches models from their publishers: resumed after a break, bounded, checked before they are put in place.

A single file comes by HTTP into `.<name>.part`, which a later pull continues. A folder comes from the Hugging Face hub
through `huggingface_hub`, which resumes by itself; each file is then compared with the sum that the hub published.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from appliance.errors import ModelDamaged, ModelError, ModelUnreachable
from appliance.models import MIB, WHISPER_FILES, Model, check_published, install, sha256_of, write_manifest

if TYPE_CHECKING:
    import httpx

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and the bytes in all."""

TRIES = 4
"""Connections made for one file before giving up; each continues where the last one broke."""
TIMEOUT_S = 20.0
RETRY_DELAY_S = 0.5
"""Before the second connection; twice that before the third, and so on."""


def pull(model: Model, models_dir: Path, *, mirror: str | None = None, progress: Progress | None = None) -> Path:
    """Fetch `model` and return where it lies.

    `mirror` replaces the publisher: for a single file the address of a folder that holds it under its `target` name,
    for a folder the address of a hub. Raises `ModelUnreachable` when the publisher does not answer, `ModelDamaged`
    when what came is not what was published, `ModelError` when there is no publisher or no room.
    """
    if model.url is None and model.hub is None:
        raise ModelError(
            f"{model.name} has no publisher with a checksum: get the file yourself and run "
            f"`appliance models add {model.name} FILE`"
        )
    models_dir.mkdir(parents=True, exist_ok=True)
    _check_room(model, models_dir)
    with _alone(models_dir):
        if model.hub is not None:
            return _pull_folder(model, model.hub, models_dir, mirror)
        assert model.url is not None
        url = model.url if mirror is None else f"{mirror.rstrip('/')}/{model.target}"
        return _pull_file(model, url, models_dir, progress or _silent)


def _pull_file(model: Model, url: str, models_dir: Path, progress: Progress) -> Path:
    import httpx

    part = models_dir / f".{model.target}.part"
    if part.exists() and part.stat().st_size > model.size_bytes:
        part.unlink()
    with httpx.Client(follow_redirects=True, timeout=TIMEOUT_S) as client:
        for attempt in range(1, TRIES + 1):
            try:
                if not part.exists() or part.stat().st_size < model.size_bytes:
                    _receive(client, url, part, model, progress)
                break
            except httpx.TransportError as error:
                if attempt == TRIES:
                    raise _unreachable(model, url, str(error) or type(error).__name__) from error
                time.sleep(RETRY_DELAY_S * attempt)
    try:
        check_published(model, part)
    except ModelDamaged as error:
        part.unlink(missing_ok=True)
        raise ModelDamaged(f"{url} did not give the published file: {error}; try again, or use --from") from error
    return install(model, part, models_dir)


def _receive(client: httpx.Client, url: str, part: Path, model: Model, progress: Progress) -> None:
    """Append what is missing of `part`; never writes past the published size."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with client.stream("GET", url, headers=headers) as response:
        if response.status_code >= 400:
            raise _unreachable(model, url, f"it answers {response.status_code} {response.reason_phrase}")
        resumed = response.status_code == 206
        have = have if resumed else 0
        with part.open("ab" if resumed else "wb") as file:
            for chunk in response.iter_raw():
                have += len(chunk)
                if have > model.size_bytes:
                    part.unlink()
                    raise ModelDamaged(f"{url} gives more than the published {model.size_bytes} bytes")
                file.write(chunk)
                progress(have, model.size_bytes)


def _pull_folder(model: Model, hub: str, models_dir: Path, mirror: str | None) -> Path:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import snapshot_download

    part = models_dir / f".{model.target}.part"
    try:
        snapshot_download(
            hub,
            local_dir=part,
            endpoint=mirror,
            allow_patterns=["config.json", "preprocessor_config.json", "model.bin", "tokenizer.json", "vocabulary.*"],
            token=False,
            etag_timeout=TIMEOUT_S,
            max_workers=2,
        )
    except Exception as error:  # the hub's client lets through its HTTP library's errors, which differ by version
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT):
            raise ModelError(f"cannot write to {part}: {error.strerror}") from error
        raise _unreachable(model, mirror or "the Hugging Face hub", _first_line(error)) from error
    if missing := [name for name in WHISPER_FILES if not (part / name).is_file()]:
        raise _unreachable(model, mirror or "the Hugging Face hub", f"{', '.join(missing)} did not come")
    revision = _check_hub_sums(part)
    shutil.rmtree(part / ".cache")  # the hub client's notes
    write_manifest(model, part, origin=f"{hub}@{revision}")
    return install(model, part, models_dir)


def _check_hub_sums(folder: Path) -> str:
    """Compare each file with the sum the hub gave for it; returns the revision. A bad file is removed."""
    from huggingface_hub._local_folder import read_download_metadata

    revision = "unknown"
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and ".cache" not in p.parts):
        name = str(path.relative_to(folder))
        notes = read_download_metadata(folder, name)
        if notes is None:
            raise ModelDamaged(f"{path} was not fetched from the hub: remove {folder} and run it again")
        found = sha256_of(path) if len(notes.etag) == 64 else _git_blob_sha1(path)
        if found != notes.etag:
            path.unlink()
            raise ModelDamaged(f"{name} has checksum {found} instead of {notes.etag}: run it again")
        revision = notes.commit_hash
    return revision


def _git_blob_sha1(path: Path) -> str:
    """The sum by which the hub knows small files: git's blob id."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    digest.update(path.read_bytes())
    return digest.hexdigest()


def _check_room(model: Model, models_dir: Path) -> None:
    free = shutil.disk_usage(models_dir).free
    if free < model.size_bytes * 1.1:
        raise ModelError(
            f"{model.name} needs {model.size_bytes / MIB:.0f} MiB and {models_dir} has {free / MIB:.0f} MiB free: "
            "make room, or set models.dir to another disk"
        )


@contextmanager
def _alone(models_dir: Path) -> Iterator[None]:
    """Hold the folder's lock, so that two pulls never write one part file."""
    with (models_dir / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ModelError(f"another pull is filling {models_dir}: wait for it") from error
        yield


def _unreachable(model: Model, where: str, reason: str) -> ModelUnreachable:
    return ModelUnreachable(
        f"{model.name} cannot be fetched from {where}: {reason}. Check this machine's network or proxy; on a machine "
        f"without one, fetch it elsewhere and run `appliance models add {model.name} PATH`"
    )


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _silent(_have: int, _total: int) -> None:
    return None
