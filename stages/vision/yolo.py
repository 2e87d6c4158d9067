"""YOLO face detection on a CUDA card, as a TensorRT engine, through ultralytics.

ultralytics is AGPL-3.0 and comes only with the `gpu` extra; nothing here imports it before it is chosen.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.errors import Misconfigured
from stages.vision.detectors import YOLO_FILE, Detection, best_first

if TYPE_CHECKING:
    from stages.vision.detectors import Picture

INPUT_SIDE = 640
"""Long side of the network's input, pixels; the engine is built for it."""


def missing(models_dir: Path) -> str | None:
    """What keeps YOLO from running here, in words, or None. Cheap when the libraries are absent."""
    absent = [name for name in ("ultralytics", "tensorrt", "torch") if find_spec(name) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    import torch

    if not torch.cuda.is_available():
        return "no CUDA card is usable"
    if _weights(models_dir) is None:
        return f"no {YOLO_FILE}.engine or {YOLO_FILE}.pt in {models_dir}"
    return None


def _weights(models_dir: Path) -> Path | None:
    for suffix in (".engine", ".pt"):
        path = models_dir / f"{YOLO_FILE}{suffix}"
        if path.is_file():
            return path
    return None


class Yolo:
    """Builds the TensorRT engine beside the weights once (half precision, minutes), then only loads it."""

    name = "yolo"
    device = "cuda"
    sample_fps = 15.0
    least_face = 16.0

    def __init__(self, models_dir: Path, *, min_score: float) -> None:
        from ultralytics import YOLO

        weights = _weights(models_dir)
        if weights is None:
            raise Misconfigured(
                f"no {YOLO_FILE}.engine or {YOLO_FILE}.pt in {models_dir}: run `appliance models add yolo-face FILE`",
                "yolo-missing",
            )
        if weights.suffix == ".pt":
            built = YOLO(str(weights), task="detect").export(
                format="engine", half=True, imgsz=INPUT_SIDE, device=0, verbose=False
            )
            weights = Path(str(built))
        self._network: Any = YOLO(str(weights), task="detect")
        self._min_score = min_score

    def detect(self, image: Picture) -> list[Detection]:
        [result] = self._network.predict(
            image, imgsz=INPUT_SIDE, conf=self._min_score, device=0, half=True, verbose=False
        )
        boxes, scores = result.boxes.xyxy.cpu().numpy(), result.boxes.conf.cpu().numpy()
        return best_first(
            [
                Detection(x=float(x0), y=float(y0), w=float(x1 - x0), h=float(y1 - y0), score=float(score))
                for (x0, y0, x1, y1), score in zip(boxes, scores, strict=True)
            ]
        )
