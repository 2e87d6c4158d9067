"""How a source's pictures are to be read: matrix, range, and the way from HDR to SDR."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.artifacts import VideoInfo
from stages.folder import publish
from stages.media.tonemap import Transfer, write_cube

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

BT709 = 1
"""Code point of BT.709 for primaries, transfer and matrix (ITU-T H.273)."""
LIMITED = 1
"""libav's code for limited ("TV") range."""
_FULL = 2
_MATRICES = {1: "bt709", 4: "fcc", 5: "bt601", 6: "bt601", 7: "smpte240m", 9: "bt2020", 10: "bt2020"}
_TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}
_SD_HEIGHT = 576


@dataclass(frozen=True, slots=True)
class Colour:
    """Strings are libavfilter's names."""

    matrix: str
    full_range: bool
    cube: Path | None = None
    """HDR table of `stages.media.tonemap`; None for SDR."""


def transfer_of(frame: VideoFrame) -> Transfer | None:
    """`pq` or `hlg` when the picture says so, else None: SDR."""
    return _TRANSFERS.get(int(frame.color_trc))


def colour_of(frame: VideoFrame, video: VideoInfo, cube: Path) -> Colour:
    """Read `frame`'s own tags; what is not tagged is taken as players take it: BT.601 up to 576 lines, else BT.709.

    For HDR the table is written to `cube` (its name must end so), which must live as long as the result is used.
    """
    transfer = transfer_of(frame)
    guess = "bt2020" if transfer else "bt601" if min(video.width, video.height) <= _SD_HEIGHT else "bt709"
    full = int(frame.color_range) == _FULL or frame.format.name.startswith("yuvj")
    if transfer is not None:
        with publish(cube) as part:
            write_cube(part, transfer)
    return Colour(_MATRICES.get(int(frame.colorspace), guess), full, cube if transfer else None)
