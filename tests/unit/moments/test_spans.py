"""Candidates: lengths, room to breathe, and what is done where nothing fits."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.story import spans as spans_module
from stages.story.spans import Spans, candidates
from stages.story.units import Unit

units_lists = st.lists(st.tuples(st.floats(0.2, 12), st.floats(0, 6)), min_size=1, max_size=40)


def laid_out(shape: list[tuple[float, float]]) -> tuple[list[Unit], float]:
    units, at = [], 0.0
    for length, gap in shape:
        units.append(Unit(at + gap, at + gap + length))
        at += gap + length
    return units, at + 1.0


def rows(spans: Spans) -> list[tuple[int, int, float, float]]:
    return list(zip(*(a.tolist() for a in (spans.first, spans.last, spans.start_s, spans.end_s)), strict=True))


@given(units_lists, st.floats(5, 20), st.floats(20, 60), st.floats(0, 0.5))
def test_candidates_fit_and_touch_no_other_unit(
    shape: list[tuple[float, float]], min_s: float, max_s: float, pad_s: float
) -> None:
    units, duration_s = laid_out(shape)
    fitting, short = candidates(units, duration_s, min_s, max_s, pad_s)
    for first, last, start_s, end_s in rows(fitting) + rows(short):
        assert 0 <= start_s <= units[first].start_s + 1e-9
        assert units[last].end_s - 1e-9 <= end_s <= duration_s + 1e-9
        assert first == 0 or start_s >= units[first - 1].end_s - 1e-9
        assert last == len(units) - 1 or end_s <= units[last + 1].start_s + 1e-9
    assert all(min_s - 1e-6 <= e - s <= max_s + 1e-6 for _, _, s, e in rows(fitting))


@given(units_lists, st.floats(5, 20), st.floats(20, 60))
def test_every_run_that_fits_is_a_candidate(shape: list[tuple[float, float]], min_s: float, max_s: float) -> None:
    units, duration_s = laid_out(shape)
    fitting, _ = candidates(units, duration_s, min_s, max_s, 0.0)
    found = {(i, j) for i, j, _, _ in rows(fitting)}
    for i, j in itertools.combinations_with_replacement(range(len(units)), 2):
        length = units[j].end_s - units[i].start_s
        if min_s + 1e-6 < length < max_s - 1e-6:
            assert (i, j) in found


def test_neighbours_share_a_pause() -> None:
    units = [Unit(1, 11), Unit(11.2, 21.2)]
    fitting, _ = candidates(units, 30.0, 10, 12, 0.5)
    (one, two) = rows(fitting)
    assert one[3] == two[2] == 11.1


def test_a_lonely_sentence_is_drawn_out_into_the_silence_around_it() -> None:
    fitting, short = candidates([Unit(20, 25)], 60.0, 15, 60, 0.25)
    assert rows(short) == []
    ((_, _, start_s, end_s),) = rows(fitting)
    assert end_s - start_s == 15
    assert start_s <= 20
    assert end_s >= 25


def test_thinning_keeps_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    units, duration_s = laid_out([(1.0, 0.1)] * 200)
    full, _ = candidates(units, duration_s, 15, 60, 0.0)
    monkeypatch.setattr(spans_module, "MAX_CANDIDATES", 1000)
    thin, _ = candidates(units, duration_s, 15, 60, 0.0)
    assert len(thin) < 1500 < len(full)
    assert set(thin.first.tolist()) == set(full.first.tolist())
