"""The models that the stages can use, as data, and what of them lies on this box.

    <models>/face_detection_yunet_2023mar.onnx       a model of one file: checked against the sum in `REGISTRY`
    <models>/faster-whisper-small/{model.bin, …}     a model of several files: checked against its `manifest.json`,
                                                     written from the publisher's own sums when it was fetched

The box runs without any of them, less well (each stage says so). Nothing is fetched unless `appliance models pull` is
run; `appliance models add` takes files that were carried over by hand. Nothing here opens a connection: fetching is
`appliance.model_pull`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from appliance.errors import ModelDamaged, ModelError, UnknownModel
from stages.folder import fsync

MIB = 1024**2
MANIFEST = "manifest.json"
WHISPER_FILES = ("config.json", "model.bin", "tokenizer.json")
"""What every Whisper conversion must hold; its vocabulary's file name differs between them."""


class Model(Struct, frozen=True, kw_only=True):
    """One model that a stage knows."""

    name: str
    use: str
    """Which stage takes it, for what, and what happens without it."""
    license: str
    target: str
    """File or folder inside the models folder."""
    size_bytes: int
    """Exact for a single file, about for a folder."""
    sha256: str | None = None
    """Of a single file. None for a folder, or where the publisher gives none."""
    url: str | None = None
    """Where a single file is published."""
    hub: str | None = None
    """`owner/name` on the Hugging Face hub, for a folder."""
    recommended: bool = False
    """Fetched by `pull` without names."""

    @property
    def is_folder(self) -> bool:
        return self.hub is not None


def _whisper(size: str, megabytes: int, hub: str | None = None, *, recommended: bool = False) -> Model:
    return Model(
        name=f"whisper-{size}",
        use="transcribe: speech to words (without any Whisper model: PocketSphinx, rough, English only)",
        license="MIT",
        target=f"faster-whisper-{size}",
        size_bytes=megabytes * MIB,
        hub=hub or f"Systran/faster-whisper-{size}",
        recommended=recommended,
    )


REGISTRY: tuple[Model, ...] = (
    Model(
        name="yunet",
        use="faces: finds faces on the CPU (without it: OpenCV's cascade, which misses small and turned faces)",
        license="MIT",
        target="face_detection_yunet_2023mar.onnx",
        size_bytes=232_589,
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        url="https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
        "face_detection_yunet_2023mar.onnx",
        recommended=True,
    ),
    Model(
        name="lr-asd",
        use="faces: tells from lips and sound who speaks (without it: mouth motion against loudness)",
        license="MIT",
        target="lr_asd_finetuning_talkset.model",
        size_bytes=3_426_337,
        sha256="6b4ef53694e874e96cf630198dc479c78aebb3993bbf166aee3d926dfe7d9342",
        url="https://raw.githubusercontent.com/Junhua-Liao/LR-ASD/main/weight/finetuning_TalkSet.model",
        recommended=True,
    ),
    Model(
        name="yolo-face",
        use="faces: finds faces on a CUDA card, with the gpu extra (without it: yunet). Add one that you trust: "
        "a .pt file can run code when it is loaded",
        license="AGPL-3.0",
        target="yolov8n-face.pt",
        size_bytes=6 * MIB,
    ),
    _whisper("tiny", 75),
    _whisper("tiny.en", 75),
    _whisper("base", 141),
    _whisper("base.en", 141),
    _whisper("small", 464, recommended=True),
    _whisper("small.en", 464),
    _whisper("medium", 1460),
    _whisper("medium.en", 1460),
    _whisper("large-v3", 2950),
    _whisper("large-v3-turbo", 1550, "mobiuslabsgmbh/faster-whisper-large-v3-turbo"),
    _whisper("distil-small.en", 320, "Systran/faster-distil-whisper-small.en"),
    _whisper("distil-medium.en", 760, "Systran/faster-distil-whisper-medium.en"),
    _whisper("distil-large-v3", 1440, "Systran/faster-distil-whisper-large-v3"),
)


class ModelFile(Struct, frozen=True, kw_only=True):
    """One file of a model folder."""

    path: str
    size_bytes: int
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True):
    """What a model folder must hold, written when it was filled."""

    version: int = 1
    model: str
    origin: str
    """Hub repository and revision, or the path that it was added from."""
    files: list[ModelFile]


class ModelState(Struct, frozen=True, kw_only=True):
    """What lies on this box of one model."""

    name: str
    state: Literal["present", "absent", "damaged", "unchecked"]
    """`unchecked`: it is there, and there is no sum to compare it with."""
    path: str
    detail: str


def find(name: str) -> Model:
    """The model called `name`. Raises `UnknownModel` with the names that exist."""
    for model in REGISTRY:
        if model.name == name:
            return model
    raise UnknownModel(f"there is no model {name!r}; known are: {', '.join(m.name for m in REGISTRY)}")


def state(model: Model, models_dir: Path, *, sums: bool = False) -> ModelState:
    """Whether `model` is there and whole: names and sizes, with `sums` every byte against its SHA-256."""
    path = models_dir / model.target

    def said(kind: Literal["present", "absent", "damaged", "unchecked"], detail: str) -> ModelState:
        return ModelState(name=model.name, state=kind, path=str(path), detail=detail)

    if not path.exists():
        return said("absent", f"not on this box; fetch it with `{_how_to_get(model)}`")
    try:
        if model.is_folder:
            if not (path / MANIFEST).is_file():
                missing = [name for name in WHISPER_FILES if not (path / name).is_file()]
                if missing:
                    return said("damaged", f"without {', '.join(missing)}; fetch it again with `{_how_to_get(model)}`")
                return said("unchecked", f"put there by hand; `appliance models add {model.name} {path}` records sums")
            return said("present", _checked_folder(path, sums=sums))
        if model.sha256 is None:
            return said("unchecked", "its publisher gives no checksum")
        _check_file(path, ModelFile(path=path.name, size_bytes=model.size_bytes, sha256=model.sha256), sums=sums)
    except ModelDamaged as error:
        return said("damaged", f"{error}; fetch it again with `{_how_to_get(model)}`")
    except OSError as error:
        return said("damaged", f"cannot be read: {error}")
    return said("present", "checksum matches" if sums else f"{path.stat().st_size / MIB:.1f} MiB")


def add(model: Model, source: Path, models_dir: Path) -> Path:
    """Copy a model from a file or folder into the models folder, atomically; returns where it lies.

    A file must have the published checksum, where there is one; a folder's sums are recorded as they are. Raises
    `ModelDamaged` or, for a source of the wrong kind, `ModelError`.
    """
    if model.is_folder != source.is_dir():
        wanted = "a folder" if model.is_folder else "a file"
        raise ModelError(f"{source} is not {wanted}; {model.name} is {wanted}, see `appliance models list`")
    models_dir.mkdir(parents=True, exist_ok=True)
    part = models_dir / f".{model.target}.{os.getpid()}.adding"
    try:
        if model.is_folder:
            missing = [name for name in WHISPER_FILES if not (source / name).is_file()]
            if missing:
                raise ModelError(f"{source} has no {', '.join(missing)}: it is not a CTranslate2 Whisper model")
            shutil.copytree(source, part, ignore=shutil.ignore_patterns(".*", MANIFEST))
            write_manifest(model, part, origin=str(source))
        else:
            shutil.copyfile(source, part)
            check_published(model, part)
        return install(model, part, models_dir)
    finally:
        _delete(part)


def remove(model: Model, models_dir: Path) -> bool:
    """Delete the model from this box; False when it was not there."""
    path = models_dir / model.target
    there = path.exists()
    _delete(path)
    return there


def check_published(model: Model, path: Path) -> None:
    """Raise `ModelDamaged` unless the file is the published one. Passes where nothing is published."""
    if model.sha256 is not None:
        _check_file(path, ModelFile(path=model.target, size_bytes=model.size_bytes, sha256=model.sha256), sums=True)


def write_manifest(model: Model, folder: Path, origin: str) -> None:
    """Record every file of `folder` with its sum."""
    files = [
        ModelFile(path=str(path.relative_to(folder)), size_bytes=path.stat().st_size, sha256=sha256_of(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    ]
    manifest = Manifest(model=model.name, origin=origin, files=files)
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))


def install(model: Model, part: Path, models_dir: Path) -> Path:
    """Move a complete, checked file or folder to its final name, durably, in place of what was there."""
    final = models_dir / model.target
    for path in [part, *part.rglob("*")] if part.is_dir() else [part]:
        fsync(path)
    if final.is_dir():
        old = final.with_name(f".{final.name}.old")
        _delete(old)
        final.rename(old)
        part.rename(final)
        _delete(old)
    else:
        part.replace(final)
    fsync(models_dir)
    return final


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked_folder(path: Path, *, sums: bool) -> str:
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
    except msgspec.DecodeError as error:
        raise ModelDamaged(f"its {MANIFEST} is damaged ({error})") from error
    for file in manifest.files:
        _check_file(path / file.path, file, sums=sums)
    size = sum(file.size_bytes for file in manifest.files) / MIB
    return f"{len(manifest.files)} files, {size:.0f} MiB{', checksums match' if sums else ''}, from {manifest.origin}"


def _check_file(path: Path, expected: ModelFile, *, sums: bool) -> None:
    if not path.is_file():
        raise ModelDamaged(f"{expected.path} is missing")
    if (size := path.stat().st_size) != expected.size_bytes:
        raise ModelDamaged(f"{expected.path} has {size} bytes instead of {expected.size_bytes}")
    if sums and (found := sha256_of(path)) != expected.sha256:
        raise ModelDamaged(f"{expected.path} has SHA-256 {found} instead of {expected.sha256}")


def _how_to_get(model: Model) -> str:
    """The command that brings the model."""
    fetched = model.url is not None or model.hub is not None
    return f"appliance models pull {model.name}" if fetched else f"appliance models add {model.name} FILE"


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
