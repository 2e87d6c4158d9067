from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from stages.artifacts import Word
from stages.media.captions import CaptionRules, Cue, make_cues
from stages.media.captions_draw import CaptionPainter, CaptionStyle, line_room, text_width
from stages.media.fonts import choose_typeface
from stages.media.resample import planes_of

SIZE = (540, 960)
STYLE = CaptionStyle(size=0.074, side=0.08, bottom=0.24)
RATE = Fraction(30)
WORDS = [
    Word(text=t, start_s=0.5 + 0.4 * i, end_s=0.5 + 0.4 * i + 0.35, confidence=1.0)
    for i, t in enumerate(["This", "bridge", "will", "certainly", "bend", "gently", "tomorrow"])
]


def painter(words: list[Word] = WORDS, style: CaptionStyle = STYLE) -> CaptionPainter:
    face = choose_typeface("".join(w.text for w in words))
    rules = CaptionRules(line_room(style, SIZE[0]), 2, 4, 3, 3.0, 0.5)
    cues = make_cues(words, set(), lambda t: text_width(face, style, SIZE[0], t), rules)
    return CaptionPainter(SIZE, RATE, style, face, words, cues)


def grey(level: int = 120) -> VideoFrame:
    frame = VideoFrame(*SIZE, "yuv420p")
    for plane, value in zip(planes_of(frame), (level, 128, 128), strict=True):
        plane[:] = value
    frame.colorspace, frame.color_range = 1, 1
    return frame


def painted(p: CaptionPainter, k: int, level: int = 120) -> NDArray[np.int16]:
    frame = grey(level)
    p.paint(frame, k)
    return frame.to_ndarray(format="rgb24", src_colorspace=1).astype(np.int16)


def yellow(rgb: NDArray[np.int16]) -> NDArray[np.bool_]:
    return np.asarray((rgb[..., 0] > 200) & (rgb[..., 1] > 160) & (rgb[..., 2] < 110))


def white(rgb: NDArray[np.int16]) -> NDArray[np.bool_]:
    return np.asarray(rgb.min(axis=-1) > 220)


def test_nothing_is_drawn_before_the_first_word_and_after_the_last() -> None:
    p = painter()
    untouched = painted(p, 14)
    assert np.ptp(untouched) <= 2
    assert np.ptp(painted(p, 15)) > 100
    assert np.ptp(painted(p, 300)) <= 2


@pytest.mark.parametrize("word", range(len(WORDS)))
def test_a_word_lights_up_in_the_frame_nearest_to_its_start(word: int) -> None:
    p = painter()
    onset = round(WORDS[word].start_s * 30)
    columns = [np.flatnonzero(yellow(painted(p, k)).any(axis=0)) for k in (onset - 1, onset, onset + 1)]
    assert len(columns[1])
    assert not np.array_equal(columns[0], columns[1])
    assert np.array_equal(columns[1], columns[2])


def test_captions_stay_in_the_safe_area_and_fill_it_sensibly() -> None:
    p = painter()
    for k in range(15, 110, 5):
        frame = grey()
        assert p.paint(frame, k)
        touched = [np.flatnonzero((planes_of(frame)[0] != 120).any(axis=axis)) for axis in (0, 1)]
        assert touched[0].min() >= SIZE[0] * STYLE.side - 1
        assert touched[0].max() <= SIZE[0] * (1 - STYLE.side) + 1
        assert touched[1].max() <= SIZE[1] * (1 - STYLE.bottom)
        assert touched[1].min() >= SIZE[1] * 0.55


@pytest.mark.parametrize("level", [16, 120, 235])
def test_letters_are_readable_on_any_background(level: int) -> None:
    """White letters, a dark edge around them."""
    rgb = painted(painter(), 20, level)
    assert white(rgb).sum() > 500 or yellow(rgb).sum() > 500
    if level > 60:
        assert (rgb.max(axis=-1) < 40).sum() > 800


def test_a_word_too_wide_for_the_screen_is_made_smaller() -> None:
    words = [Word(text="Donaudampfschifffahrtsgesellschaftskapitän", start_s=0.0, end_s=1.0, confidence=1.0)]
    frame = grey()
    painter(words).paint(frame, 3)
    columns = np.flatnonzero((planes_of(frame)[0] != 120).any(axis=0))
    assert columns.min() >= SIZE[0] * STYLE.side - 1
    assert columns.max() <= SIZE[0] * (1 - STYLE.side) + 1
    assert np.ptp(columns) > SIZE[0] * 0.7


def test_right_to_left_words_run_from_the_right() -> None:
    words = [Word(text=t, start_s=0.5 * i, end_s=0.5 * i + 0.4, confidence=1.0) for i, t in enumerate(["שלום", "עולם"])]
    face = choose_typeface("DejaVu שלום עולם")
    if face.missing:
        pytest.skip("no font with Hebrew is installed here")
    p = CaptionPainter(SIZE, RATE, STYLE, face, words, [Cue(0, 2, ((0, 2),), 0.0, 2.0)])
    first, second = (np.flatnonzero(yellow(painted(p, k)).any(axis=0)).mean() for k in (2, 20))
    assert first > second


def test_the_middle_can_be_given() -> None:
    face = choose_typeface("seam")
    words = [Word(text="seam", start_s=0.0, end_s=1.0, confidence=1.0)]
    p = CaptionPainter(SIZE, RATE, STYLE, face, words, [Cue(0, 1, ((0, 1),), 0.0, 1.0)], lambda cue: 0.5)
    frame = grey()
    p.paint(frame, 3)
    rows = np.flatnonzero((planes_of(frame)[0] > 180).any(axis=1))
    assert abs(rows.mean() - 480) < 20
