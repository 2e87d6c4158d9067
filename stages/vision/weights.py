"""Tensors of a PyTorch state file without PyTorch, and without the arbitrary code that a pickle may run."""

from __future__ import annotations

import io
import math
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_TENSOR_BYTES = 64 * 1024 * 1024
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


def read_state(path: Path) -> dict[str, NDArray[Any]]:
    """Names and arrays of a flat state dict as `torch.save` writes it (zip form, float32 and int64, contiguous).

    Raises ValueError for anything else; OSError when it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            index = next((n for n in archive.namelist() if n.endswith("/data.pkl")), None)
            if index is None or archive.getinfo(index).file_size > MAX_TENSOR_BYTES:
                raise ValueError("it has no index of tensors")
            state = _Reader(archive, index.removesuffix("data.pkl")).load()
    except (zipfile.BadZipFile, pickle.UnpicklingError, EOFError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"it is not a PyTorch state file: {error}") from error
    if not isinstance(state, dict) or not all(isinstance(v, np.ndarray) for v in state.values()):
        raise ValueError("it holds something other than named tensors")
    return dict(state)


class _Reader(pickle.Unpickler):
    """Knows three names and builds arrays; every other name is refused before anything runs."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}data.pkl")))
        self._archive = archive
        self._folder = folder

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} has no place in a state file")

    def persistent_load(self, pid: Any) -> NDArray[Any]:
        _, kind, key, _, count = pid
        entry = f"{self._folder}data/{key}"
        if not isinstance(kind, np.dtype) or self._archive.getinfo(entry).file_size > MAX_TENSOR_BYTES:
            raise pickle.UnpicklingError(f"tensor {key} is of an unknown type or too large")
        values = np.frombuffer(self._archive.read(entry), dtype=kind)
        if len(values) < count:
            raise pickle.UnpicklingError(f"tensor {key} is cut short")
        return values


def _rebuild(storage: NDArray[Any], offset: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> Any:
    size = math.prod(shape)
    expected = tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))
    if tuple(stride) != expected and size > 1:
        raise pickle.UnpicklingError("a tensor is not contiguous")
    return storage[offset : offset + size].reshape(shape)
