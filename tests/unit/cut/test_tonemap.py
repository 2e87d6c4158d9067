from __future__ import annotations

import numpy as np
import pytest

from stages.media.tonemap import Transfer, to_sdr


def pq(nits: float) -> float:
    m1, m2 = 2610 / 16384, 2523 / 32
    c1, c2, c3 = 3424 / 4096, 2413 / 128, 2392 / 128
    power = (nits / 10_000) ** m1
    return float(((c1 + c2 * power) / (1 + c3 * power)) ** m2)


def grey(signal: float, transfer: Transfer) -> float:
    out = to_sdr(np.full((1, 3), signal), transfer)[0]
    assert np.ptp(out) < 0.01  # grey stays grey
    return float(out[1])


def test_pq_levels_land_where_sdr_expects_them() -> None:
    assert grey(pq(0.0), "pq") == 0.0
    assert grey(pq(26.0), "pq") == pytest.approx(0.42, abs=0.03)
    assert grey(pq(203.0), "pq") == pytest.approx(0.85, abs=0.02)
    assert grey(pq(1000.0), "pq") == pytest.approx(1.0, abs=0.001)
    assert grey(pq(4000.0), "pq") == pytest.approx(1.0, abs=0.001)


def test_hlg_levels_land_where_sdr_expects_them() -> None:
    assert grey(0.38, "hlg") == pytest.approx(0.42, abs=0.03)  # 18 % grey, BT.2408
    assert grey(0.75, "hlg") == pytest.approx(0.85, abs=0.02)  # reference white
    assert grey(1.0, "hlg") == pytest.approx(1.0, abs=0.001)


@pytest.mark.parametrize("transfer", ["pq", "hlg"])
def test_tone_rises_steadily_and_stays_in_range(transfer: Transfer) -> None:
    ramp = np.repeat(np.linspace(0, 1, 512)[:, None], 3, axis=1)
    out = to_sdr(ramp, transfer)
    assert np.all(np.diff(out[:, 1]) >= -1e-9)
    assert out.min() >= 0
    assert out.max() <= 1


def test_bright_colours_keep_their_hue() -> None:
    red = to_sdr(np.array([[pq(800), pq(300), pq(150)]]), "pq")[0]
    assert red[0] > red[1] > red[2]
    assert red[0] > 0.95
