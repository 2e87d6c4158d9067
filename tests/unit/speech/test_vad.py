"""Voice activity on a stream: the state machine on known probabilities, and grouping."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.speech.vad import RATE_HZ, WINDOW, Piece, SpeechSpans, VadSettings, grouped, joined

SECOND = RATE_HZ / WINDOW


def spans(probabilities: list[float], **options: float) -> list[tuple[int, int]]:
    machine = SpeechSpans(VadSettings(**{"pad_s": 0.0, **options}))
    return [*machine.feed(probabilities), *machine.finish()]


def test_speech_between_silences() -> None:
    assert spans([0.0] * 20 + [0.9] * 40 + [0.0] * 40) == [(20, 60)]


def test_a_short_pause_does_not_end_speech_and_a_long_one_does() -> None:
    assert spans([0.9] * 20 + [0.0] * 5 + [0.9] * 20 + [0.0] * 30) == [(0, 45)]
    assert spans([0.9] * 20 + [0.0] * 12 + [0.9] * 20 + [0.0] * 30) == [(0, 20), (32, 52)]


def test_a_click_is_not_speech() -> None:
    assert spans([0.0] * 20 + [0.9] * 2 + [0.0] * 30, min_speech_s=0.1) == []


def test_hysteresis_holds_speech_that_dips_a_little() -> None:
    assert spans([0.9] * 20 + [0.4] * 40 + [0.9] * 20) == [(0, 80)]


def test_a_long_stretch_is_cut_at_its_quietest_moment() -> None:
    probabilities = [0.9] * 400
    probabilities[250] = 0.5
    found = spans(probabilities, max_piece_s=300 / SECOND)
    assert found[0] == (0, 250)
    assert found[-1][1] == 400
    assert all(a[1] == b[0] for a, b in itertools.pairwise(found))


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), max_size=400), st.floats(5, 30), st.integers(1, 50))
def test_spans_do_not_depend_on_block_size_and_keep_their_limit(
    values: list[float], longest_s: float, step: int
) -> None:
    options = VadSettings(pad_s=0.0, max_piece_s=longest_s / 10)
    whole, parts = SpeechSpans(options), SpeechSpans(options)
    expected = [*whole.feed(values), *whole.finish()]
    found = [s for i in range(0, len(values), step) for s in parts.feed(values[i : i + step])] + [*parts.finish()]
    assert found == expected
    assert all(0 <= a < b <= len(values) for a, b in found)
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(found))
    assert all(b - a <= round(longest_s / 10 * SECOND) for a, b in found)


def piece(index: int, start_s: float, end_s: float) -> Piece:
    return Piece(index, start_s, end_s, np.full(round((end_s - start_s) * RATE_HZ), index + 1, np.float32))


def test_groups_keep_length_and_pause_limits() -> None:
    found = [piece(0, 0, 4), piece(1, 4.5, 9), piece(2, 9.5, 12), piece(3, 15, 16)]
    groups = list(grouped(found, 10.0, 1.0))
    assert [[p.index for p in g] for g in groups] == [[0, 1], [2], [3]]


def test_joined_pieces_keep_time() -> None:
    one = joined([piece(0, 1.0, 2.0), piece(1, 2.5, 3.0)])
    assert (one.start_s, one.end_s) == (1.0, 3.0)
    assert len(one.samples) == 2 * RATE_HZ
    assert one.samples[RATE_HZ - 1] == 1
    assert not one.samples[RATE_HZ : round(1.5 * RATE_HZ)].any()
    assert one.samples[-1] == 2
