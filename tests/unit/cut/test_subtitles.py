from __future__ import annotations

import re

import pytest

from stages.artifacts import Word
from stages.media.subtitles import reading_cues, srt, vtt


def spoken(text: str, pace_s: float = 0.4) -> list[Word]:
    return [
        Word(text=t, start_s=i * pace_s, end_s=i * pace_s + 0.3, confidence=1.0) for i, t in enumerate(text.split())
    ]


def seconds(clock: str) -> float:
    h, m, s = re.split("[:]", clock.replace(",", "."))
    return int(h) * 3600 + int(m) * 60 + float(s)


LONG = "this is a rather long sentence, with many words in it, that certainly needs more than one subtitle to be read."


def test_srt_is_numbered_and_timed() -> None:
    words = spoken(LONG)
    text = srt(reading_cues(words, set(), 60.0), words)
    blocks = text.strip().split("\n\n")
    assert [b.split("\n")[0] for b in blocks] == [str(n) for n in range(1, len(blocks) + 1)]
    times = [re.fullmatch(r"(\S+) --> (\S+)", b.split("\n")[1]) for b in blocks]
    spans = [(seconds(t[1]), seconds(t[2])) for t in times if t]
    assert len(spans) == len(blocks) > 1
    assert all(a < b for a, b in spans)
    assert all(spans[i][1] <= spans[i + 1][0] for i in range(len(spans) - 1))
    assert all(len(line) <= 42 for b in blocks for line in b.split("\n")[2:])
    assert " ".join(" ".join(b.split("\n")[2:]) for b in blocks) == LONG


def test_vtt_carries_word_times_inside_each_cue() -> None:
    words = spoken(LONG)
    text = vtt(reading_cues(words, set(), 60.0), words)
    assert text.startswith("WEBVTT\n\n")
    for block in text.strip().split("\n\n")[1:]:
        begin, end = (seconds(t) for t in block.split("\n")[1].split(" --> "))
        stamps = [seconds(t) for t in re.findall(r"<([\d:.]+)>", block)]
        assert stamps == sorted(set(stamps))
        assert all(begin < t < end for t in stamps)
    plain = re.sub(r"<[\d:.]+>", "", text)
    assert " ".join(" ".join(b.split("\n")[2:]) for b in plain.strip().split("\n\n")[1:]) == LONG


def test_markup_in_words_is_escaped() -> None:
    words = spoken("if a<b & c --> <i>d</i>")
    cues = reading_cues(words, set(), 60.0)
    body = re.sub(r"<\d\d:\d\d:\d\d\.\d\d\d>", "", vtt(cues, words).split("\n\n", 1)[1])
    assert "a&lt;b &amp; c --&gt; &lt;i&gt;d&lt;/i&gt;" in body
    assert "<" not in body
    assert srt(cues, words).count("-->") == len(cues)


def test_no_words_give_well_formed_empty_files() -> None:
    assert srt([], []) == ""
    assert vtt([], []) == "WEBVTT\n"


def test_nothing_is_shown_past_the_end() -> None:
    words = spoken("a b c d e f")
    assert max(c.end_s for c in reading_cues(words, set(), 1.5)) <= 1.5


@pytest.mark.parametrize("at_s", [0.0, 59.9996, 3599.9999, 7325.25])
def test_clocks_never_show_sixty(at_s: float) -> None:
    words = [Word(text="x", start_s=at_s, end_s=at_s + 0.2, confidence=1.0)]
    text = srt(reading_cues(words, set(), at_s + 10), words)
    assert not re.search(r":60|,\d{4}", text)
    assert abs(seconds(text.split("\n")[1].split(" --> ")[0]) - at_s) <= 0.0006
