"""Face detectors behind one small protocol, and the choice between them.

YuNet through OpenCV where its model file lies on the box; OpenCV's bundled cascades otherwise; YOLO on a CUDA card
(`stages.vision.yolo`). Every detector takes an upright BGR picture and answers in that picture's pixels.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from msgspec import Struct

from stages.base import Device
from stages.errors import Misconfigured

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.uint8]

DetectorName = Literal["auto", "yunet", "cascade", "yolo"]

YUNET_FILE = "face_detection_yunet_2023mar.onnx"
YUNET_SHA256 = "8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4"
"""As the OpenCV model zoo states it (MIT licence)."""

YOLO_FILE = "yolov8n-face"
"""Name without suffix: `.engine` (TensorRT) is taken before `.pt`."""

FRONT_SIDE, PROFILE_SIDE = 480, 320
"""Long sides in pixels at which the cascades search: they are slow, and find no more in larger pictures."""

MAX_FACES = 12
"""Most faces kept per picture, best first: a crowd needs no camera that follows each of its members."""


class Detection(Struct, frozen=True, kw_only=True):
    """One face: forehead to chin, ear to ear, pixels of the picture it was found in; `score` 0 to 1."""

    x: float
    y: float
    w: float
    h: float
    score: float

    def scaled(self, factor: float) -> Detection:
        return Detection(x=self.x * factor, y=self.y * factor, w=self.w * factor, h=self.h * factor, score=self.score)


class Detector(Protocol):
    """What finds faces. Not thread-safe; one instance per running stage."""

    name: str
    device: str
    sample_fps: float
    """How often it is worth its cost when the configuration leaves the rate open."""
    least_face: float
    """Height in pixels of the smallest face it finds reliably."""

    def detect(self, image: Picture) -> list[Detection]:
        """Faces in `image` (h, w, 3) uint8 BGR, best first, at most MAX_FACES."""


class YuNet:
    """Wu, Peng and Yu, "YuNet: A Tiny Millisecond-level Face Detector", through `cv2.FaceDetectorYN`."""

    name = "yunet"
    device = "cpu"
    sample_fps = 10.0
    least_face = 20.0

    def __init__(self, model: Path, *, min_score: float) -> None:
        import cv2

        self._network: Any = cv2.FaceDetectorYN.create(
            str(model), "", (320, 320), score_threshold=min_score, nms_threshold=0.3, top_k=500
        )
        self._size = (320, 320)

    def detect(self, image: Picture) -> list[Detection]:
        size = (image.shape[1], image.shape[0])
        if size != self._size:
            self._network.setInputSize(size)
            self._size = size
        _, rows = self._network.detect(image)
        if rows is None:
            return []
        found = [
            Detection(x=float(r[0]), y=float(r[1]), w=float(r[2]), h=float(r[3]), score=float(r[14])) for r in rows
        ]
        return best_first(found)


class Cascade:
    """Viola-Jones cascades for frontal and profile faces, bundled with OpenCV 4. Finds upright, larger faces only."""

    name = "cascade"
    device = "cpu"
    sample_fps = 5.0
    least_face = 40.0

    def __init__(self) -> None:
        import cv2

        folder = Path(cv2.__file__).parent / "data"
        self._front: Any = cv2.CascadeClassifier(str(folder / "haarcascade_frontalface_alt2.xml"))
        self._side: Any = cv2.CascadeClassifier(str(folder / "haarcascade_profileface.xml"))
        if self._front.empty() or self._side.empty():
            raise Misconfigured(
                "OpenCV's bundled face cascades are missing (OpenCV 5 ships none): "
                "run `appliance models pull yunet`, or install opencv-python-headless below 5",
                "cascade-missing",
            )

    def detect(self, image: Picture) -> list[Detection]:
        found = self._search(self._front, image, FRONT_SIDE, mirrored=False)
        if not found:  # a turned head; the profile cascade knows left profiles only, hence the mirror
            found = self._search(self._side, image, PROFILE_SIDE, mirrored=False)
            found += self._search(self._side, image, PROFILE_SIDE, mirrored=True)
        return best_first(found)

    def _search(self, cascade: Any, image: Picture, long_side: int, *, mirrored: bool) -> list[Detection]:
        import cv2

        scale = min(1.0, long_side / max(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        # grey as it is: equalising the histogram first lost more than half of the faces in our measurements
        grey = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        if mirrored:
            grey = cv2.flip(grey, 1)
        least = max(20, min(grey.shape) // 12)
        boxes, _, weights = cascade.detectMultiScale3(
            grey, scaleFactor=1.15, minNeighbors=4, minSize=(least, least), outputRejectLevels=True
        )
        faces = []
        for (x, y, w, h), weight in zip(boxes, weights, strict=True):
            left = grey.shape[1] - x - w if mirrored else x
            faces.append(self._face((float(left), float(y), float(w), float(h)), float(weight)).scaled(1 / scale))
        return faces

    @staticmethod
    def _face(box: tuple[float, float, float, float], weight: float) -> Detection:
        # the cascade answers a square; a face is about 0.9 of it wide and 1.05 high, chin below the square's edge
        x, y, w, h = box
        score = min(0.95, 0.5 + max(0.0, weight) / 120)
        return Detection(x=x + 0.05 * w, y=y, w=0.9 * w, h=1.05 * h, score=score)


def best_first(found: list[Detection]) -> list[Detection]:
    """By score, ties by position so that the order never depends on the library, capped at MAX_FACES."""
    return sorted(found, key=lambda d: (-d.score, d.x, d.y))[:MAX_FACES]


def choose_detector(
    name: DetectorName, device: Device, models_dir: Path, *, min_score: float
) -> tuple[Detector, list[str]]:
    """The detector to use and a note for each fallback taken.

    Raises `Misconfigured` when what was asked for by name (`yunet`, `yolo`, device `cuda`) is not there.
    """
    notes: list[str] = []
    if name == "yolo" or device == "cuda" or (name == "auto" and device == "auto"):
        from stages.vision import yolo

        missing = yolo.missing(models_dir)
        if missing is None and device != "cpu":
            return yolo.Yolo(models_dir, min_score=min_score), notes
        if device == "cpu":
            missing = "the stage is set to device: cpu"
        if name == "yolo" or device == "cuda":
            raise Misconfigured(
                f"face detection on CUDA was asked for, but {missing}; install the `gpu` extra and run "
                "`appliance models add yolo-face FILE`, or set stages.faces.device: auto",
                "cuda-missing",
            )
        notes.append(f"faces are found on the CPU: {missing}")
    model = models_dir / YUNET_FILE
    if name in ("auto", "yunet"):
        fault = _fault(model)
        if fault is None:
            return YuNet(model, min_score=min_score), notes
        if name == "yunet":
            raise Misconfigured(
                f"detector yunet was asked for, but {fault}: run `appliance models pull yunet`", "yunet-missing"
            )
        notes.append(
            f"faces are found by OpenCV's bundled cascade, which misses small and turned faces, because {fault}: "
            "run `appliance models pull yunet` for the better detector"
        )
    return Cascade(), notes


def _fault(model: Path) -> str | None:
    """Why the YuNet file cannot be used, or None."""
    try:
        content = model.read_bytes()
    except FileNotFoundError:
        return f"the YuNet model is not on the box ({model})"
    except OSError as error:
        return f"the YuNet model cannot be read ({error})"
    if hashlib.sha256(content).hexdigest() != YUNET_SHA256:
        return f"the YuNet model {model} is damaged or of another version (its sha256 differs)"
    return None
