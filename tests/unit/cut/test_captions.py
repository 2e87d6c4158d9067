from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.artifacts import Sentence, Word
from stages.media.captions import CaptionRules, clip_words, joined, make_cues, sentence_ends

RULES = CaptionRules(line_width=16, max_lines=2, max_words=5, best_words=3, max_duration_s=3.0, hold_s=0.5)


def spoken(text: str, *, pace_s: float = 0.3, start_s: float = 0.0) -> list[Word]:
    return [
        Word(text=t, start_s=start_s + i * pace_s, end_s=start_s + (i + 1) * pace_s - 0.05, confidence=1.0)
        for i, t in enumerate(text.split())
    ]


def texts(words: list[Word], rules: CaptionRules = RULES, ends: set[float] | None = None) -> list[list[str]]:
    cues = make_cues(words, ends or set(), len, rules)
    return [[joined(words, *line) for line in cue.lines] for cue in cues]


word_lists = st.lists(
    st.tuples(st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=24), st.floats(0.0, 1.5)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(word_lists)
def test_every_word_appears_once_in_order_and_fits(pairs: list[tuple[str, float]]) -> None:
    words, at = [], 0.0
    for text, gap in pairs:
        words.append(Word(text=text, start_s=at, end_s=at + 0.2, confidence=1.0))
        at += gap
    cues = make_cues(words, set(), len, RULES)
    assert [i for cue in cues for i in range(cue.first, cue.last)] == list(range(len(words)))
    for cue in cues:
        assert 1 <= len(cue.lines) <= RULES.max_lines
        assert (cue.lines[0][0], cue.lines[-1][1]) == (cue.first, cue.last)
        assert cue.last - cue.first <= RULES.max_words
        for line in cue.lines:
            assert line[1] - line[0] == 1 or len(joined(words, *line)) <= RULES.line_width
        assert cue.start_s <= cue.end_s
    assert all(a.end_s <= b.start_s for a, b in pairwise(cues))


def test_captions_do_not_run_across_sentences_or_pauses() -> None:
    words = spoken("It works. Now we go on") + spoken("after a pause", start_s=5.0)
    assert texts(words) == [["It works."], ["Now we", "go on"], ["after a pause"]] or texts(words)[0] == ["It works."]
    flat = [" ".join(lines) for lines in texts(words)]
    assert flat[0] == "It works."
    assert flat[-1] == "after a pause"


def test_sentence_ends_from_the_transcript_break_unpunctuated_words() -> None:
    words = spoken("so it is done now then we start")
    ends = sentence_ends(words, [Sentence(first=0, last=5), Sentence(first=5, last=8)], 0.0, 10.0)
    flat = [" ".join(lines) for lines in texts(words, ends=ends)]
    assert any(text.endswith("now") for text in flat)
    assert any(text.startswith("then") for text in flat)


def test_a_lone_last_word_is_avoided() -> None:
    groups = texts(spoken("one two three four"))
    assert [len(" ".join(g).split()) for g in groups] in ([4], [2, 2])


def test_a_caption_rather_ends_on_a_word_of_weight() -> None:
    groups = [" ".join(g).split()[-1] for g in texts(spoken("they fell into the water after that"))]
    assert "the" not in groups


def test_a_cue_is_held_but_never_into_the_next() -> None:
    words = spoken("a b c") + spoken("d e f", start_s=1.1) + spoken("g", start_s=9.0)
    cues = make_cues(words, {words[2].start_s}, len, RULES)
    assert cues[0].end_s == pytest.approx(1.1)
    assert cues[1].end_s == pytest.approx(words[5].end_s + 0.5)


def test_the_word_that_began_last_is_active() -> None:
    words = spoken("a b c")
    cue = make_cues(words, set(), len, RULES)[0]
    assert [cue.active(words, t) for t in (0.0, 0.29, 0.31, 0.59, 0.61, 5.0)] == [0, 0, 1, 1, 2, 2]


def test_words_are_taken_by_their_start_and_made_relative() -> None:
    words = spoken("zero one two three", pace_s=1.0)
    chosen = clip_words(words, 1.0, 3.0)
    assert [(w.text, w.start_s) for w in chosen] == [("one", 0.0), ("two", 1.0)]
    assert clip_words([Word(text="late", start_s=2.5, end_s=9.0, confidence=1.0)], 0.0, 3.0)[0].end_s == 3.0


def test_broken_words_are_mended() -> None:
    broken = [
        Word(text="  a\u0000\nb ", start_s=0.5, end_s=0.1, confidence=1.0),
        Word(text=" \u200b ", start_s=0.6, end_s=0.7, confidence=1.0),
    ]
    words = clip_words(broken, 0.0, 3.0)
    assert [w.text for w in words] == ["ab"]
    assert words[0].end_s >= words[0].start_s


def test_scripts_without_spaces_are_joined_without() -> None:
    words = spoken("你好 世界 ok 再见")
    assert joined(words, 0, 4) == "你好世界 ok 再见"
