"""Silero on a stream: the same whatever the blocks, in flat memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np

from stages.speech.vad import RATE_HZ, VadSettings, pieces
from tests.integration.speech.kit import Samples


def spans(sound: Samples, block: int) -> list[tuple[float, float]]:
    blocks = (sound[i : i + block] for i in range(0, len(sound), block))
    return [(p.start_s, p.end_s) for p in pieces(blocks, VadSettings())]


def test_speech_is_found_where_it_is_and_blocks_do_not_matter(speech_like: Samples) -> None:
    quiet = np.zeros(RATE_HZ, np.float32)
    sound = np.concatenate([quiet, speech_like, quiet])
    found = spans(sound, RATE_HZ)
    assert found == spans(sound, 777) == spans(sound, len(sound))
    loud = np.flatnonzero(np.abs(sound) > 0.02) / RATE_HZ
    inside = np.any([(loud >= a) & (loud < b) for a, b in found], axis=0)
    assert inside.mean() > 0.95
    assert sum(b - a for a, b in found) < 0.9 * len(sound) / RATE_HZ


def test_pieces_carry_exactly_the_sound_of_their_span(speech_like: Samples) -> None:
    for piece in pieces([speech_like], VadSettings()):
        first, last = round(piece.start_s * RATE_HZ), round(piece.end_s * RATE_HZ)
        np.testing.assert_array_equal(piece.samples, speech_like[first:last])


def test_memory_does_not_grow_with_length(speech_like: Samples) -> None:
    def blocks(times: int) -> Iterator[Samples]:
        for _ in range(times):
            for i in range(0, len(speech_like), RATE_HZ):
                yield speech_like[i : i + RATE_HZ]

    def peak(times: int) -> int:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        assert sum(1 for _ in pieces(blocks(times), VadSettings())) >= times
        return tracemalloc.get_traced_memory()[1] - before

    list(pieces(blocks(1), VadSettings()))  # loads the model
    tracemalloc.start()
    try:
        assert peak(24) < 1.5 * peak(6) + 500_000
    finally:
        tracemalloc.stop()
