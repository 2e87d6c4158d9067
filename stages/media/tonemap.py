"""HDR to SDR as one 3-D table: BT.2020 PQ or HLG in, BT.709 for a BT.1886 display out.

The whole of the colour science is done once, in floats, on the table's nodes; each picture then costs one interpolated
look-up. Steps: to display light (ST 2084 for PQ; BT.2100 HLG with the 1000 cd/m² system gamma 1.2), relative to
203 cd/m² reference white (BT.2408), BT.2020 to BT.709 primaries, highlights rolled off by the knee spline of BT.2390
applied to the largest component so that hue stays, then the inverse of BT.1886 (gamma 2.4). Reference white comes out
at 85 % signal, mid-grey (26 cd/m²) at 42 %, 600 cd/m² at 99 %.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Transfer = Literal["pq", "hlg"]
SIZE = 33
"""Nodes per axis; tetrahedral interpolation between them stays under one 8-bit step on these smooth curves."""
_REFERENCE_WHITE_NITS = 203.0
_PEAK_NITS = 1000.0
"""Mastering peak that is assumed: the level most HDR video is graded to, and HLG's nominal peak."""
_2020_TO_709 = ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187))
_2020_LUMA = (0.2627, 0.6780, 0.0593)


def to_sdr(rgb: Floats, transfer: Transfer) -> Floats:
    """Full-range BT.709 RGB (…, 3) in 0..1 for full-range BT.2020 `rgb` in 0..1."""
    import numpy as np

    light = _pq_light(rgb) if transfer == "pq" else _hlg_light(rgb)
    relative = light / _REFERENCE_WHITE_NITS
    narrow = np.clip(relative @ np.array(_2020_TO_709).T, 0.0, None)
    largest = narrow.max(axis=-1, keepdims=True)
    rolled = _roll_off(largest, _PEAK_NITS / _REFERENCE_WHITE_NITS)
    scaled = narrow * np.divide(rolled, largest, out=np.ones_like(largest), where=largest > 1e-9)
    sdr: Floats = np.clip(scaled, 0.0, 1.0) ** (1.0 / 2.4)
    return sdr


def write_cube(path: Path, transfer: Transfer) -> None:
    """Write the table as a `.cube` file (red runs fastest), the form that libavfilter's lut3d reads."""
    import numpy as np

    axis = np.linspace(0.0, 1.0, SIZE)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")
    nodes = to_sdr(np.stack([red, green, blue], axis=-1).reshape(-1, 3), transfer)
    lines = "\n".join(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in nodes)
    path.write_text(f"LUT_3D_SIZE {SIZE}\n{lines}\n", encoding="ascii")


def _pq_light(signal: Floats) -> Floats:
    """ST 2084 EOTF, cd/m²."""
    import numpy as np

    m1, m2 = 2610 / 16384, 2523 / 4096 * 128
    c1, c2, c3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32
    power = np.clip(signal, 0.0, 1.0) ** (1 / m2)
    light: Floats = 10_000.0 * (np.clip(power - c1, 0.0, None) / (c2 - c3 * power)) ** (1 / m1)
    return light


def _hlg_light(signal: Floats) -> Floats:
    """BT.2100 HLG: inverse OETF, then the OOTF of a 1000 cd/m² display."""
    import numpy as np

    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3.0, (np.exp((signal - c) / a) + b) / 12.0)
    luma = (scene @ np.array(_2020_LUMA))[..., None]
    light: Floats = _PEAK_NITS * scene * np.clip(luma, 1e-9, None) ** 0.2
    return light


def _roll_off(light: Floats, peak: float) -> Floats:
    """BT.2390's Hermite knee from `peak` down to 1, in the square-root domain; below the knee nothing changes."""
    import numpy as np

    top = float(np.sqrt(peak))
    level = np.sqrt(np.clip(light, 0.0, peak)) / top
    ceiling = 1.0 / top
    knee = 1.5 * ceiling - 0.5
    if knee < 0.0:
        knee = 0.5 * ceiling
    t = np.clip((level - knee) / (1.0 - knee), 0.0, 1.0)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1.0 - knee) + (-2 * t**3 + 3 * t**2) * ceiling
    rolled: Floats = (np.where(level < knee, level, curve) * top) ** 2
    return rolled
