"""What speaks for a candidate: each signal on words made for it."""

from __future__ import annotations

import numpy as np
import pytest

from stages.artifacts import Sentence, Span, Transcript, Word
from stages.speech.words import ends_sentence
from stages.story import lexicon
from stages.story.features import Evidence, dangles, of_sound, of_words
from stages.story.judge import judge, reasons, robust_z
from stages.story.sound import HOP_S, Sound
from stages.story.spans import Spans
from stages.story.units import Unit, from_sound, from_words


def transcript(*sentences: str, rough: bool = False) -> Transcript:
    words: list[Word] = []
    cut: list[Sentence] = []
    at = 0.0
    for sentence in sentences:
        first = len(words)
        for token in sentence.split():
            words.append(Word(text=token, start_s=at, end_s=at + 0.35, confidence=0.9))
            at += 0.4
        cut.append(Sentence(first=first, last=len(words)))
        at += 0.6
    speech = [Span(start_s=words[s.first].start_s, end_s=words[s.last - 1].end_s) for s in cut]
    return Transcript(model="t", device="cpu", language="en", rough=rough, words=words, sentences=cut, speech=speech)


def each(units: list[Unit]) -> Spans:
    n = np.arange(len(units))
    return Spans(n, n, np.array([u.start_s for u in units]), np.array([u.end_s for u in units]))


def measured(*sentences: str, rough: bool = False) -> dict[str, list[float]]:
    said = transcript(*sentences, rough=rough)
    units = from_words(said, 30.0)
    return {name: values.tolist() for name, values in of_words(units, each(units), said).items()}


def test_signals_of_words() -> None:
    found = measured("Why do you walk?", "But he counted 40 cows.", "The best secret is out.", "We walked on slowly.")
    assert found["question"] == [1, 0, 0, 0]
    assert found["address"][0] > 0
    assert found["numbers"][1] > 0
    assert found["contrast"][1] > 0
    assert found["emphasis"][2] > 0
    assert found["standalone"] == [0, -1, 0, 0]
    assert found["finished"] == [1, 1, 1, 1]
    assert found["hook"] == [1, 1, 1, 0]


def test_rough_questions_are_told_by_their_first_word() -> None:
    found = measured("why do you fail so often", "we walked on slowly", rough=True)
    assert found["question"] == [1, 0]


def test_novelty_is_what_is_said_in_one_place_only() -> None:
    bland = ["The usual report covers the usual office matters again today."] * 40
    found = measured(*bland, "Marmalade betrayed the burglar through citrus fragrance.")
    assert found["novelty"][-1] > 3 * found["novelty"][0]


def test_a_change_of_subject_is_a_good_border() -> None:
    bridge = ["The bridge steel bends under wind and the bridge deck twists."] * 6
    bread = ["The dough needs warm flour and the oven bakes bread slowly."] * 6
    found = measured(*bridge, *bread)
    topic = np.array(found["topic"])
    assert topic[6] > topic[3] + 0.5
    assert topic[5] > topic[3] + 0.5


@pytest.mark.parametrize(
    ("sentence", "leans"),
    [("And then he left", True), ("He left", True), ("So that works", True), ("Well it works", True),
     ("Bridges bend", False), ("Why not", False), ("Well bridges bend", False), ("", False)],
)  # fmt: skip
def test_dangling_openings(sentence: str, leans: bool) -> None:
    assert dangles([lexicon.bare(w) for w in sentence.split()]) is leans


def test_loud_lively_and_reacted_to() -> None:
    said = transcript("One two three four five.", "Six seven eight nine ten.", "Six seven eight nine ten.")
    units = from_words(said, 30.0)
    level = np.full(int(10 / HOP_S), -60.0)
    for u, db in zip(units, (-30, -20, -30), strict=True):
        level[int(u.start_s / HOP_S) : int(u.end_s / HOP_S)] = db
    laughter = (Span(start_s=units[1].end_s + 0.1, end_s=units[1].end_s + 0.5), "laughter")
    evidence = Evidence(said, Sound(level, np.zeros(len(level))), said.speech, [laughter], [])
    found = of_sound(units, each(units), evidence)
    assert found["loud"].argmax() == 1
    assert found["peaks"].argmax() == 1 or found["peaks"].max() == 0
    assert found["reaction"].argmax() == 1
    assert found["coverage"].min() > 0.9
    verdict = judge(each(units), {}, found, rough=False, ideal_s=5.0)
    assert verdict.scores.argmax() == 1
    assert "people react: laughter, applause or the like" in reasons(verdict, {}, found, 1)


def test_the_picture_counts_where_it_is_known() -> None:
    units = from_sound(30.0, 5.0, Sound(np.zeros(0), np.zeros(0)))
    changes = [(float(t), 40.0 if 10 <= t < 15 else 1.0) for t in range(30)]
    empty = Transcript(model="t", device="cpu", language=None, rough=False, words=[], sentences=[], speech=[])
    found = of_sound(units, each(units), Evidence(empty, Sound(np.zeros(0), np.zeros(0)), [], [], changes))
    assert set(found) == {"picture"}
    assert 10 <= units[int(found["picture"].argmax())].start_s < 15


def test_robust_z() -> None:
    np.testing.assert_array_equal(robust_z(np.array([5.0, 5.0, 5.0])), [0, 0, 0])
    z = robust_z(np.array([0.0] * 9 + [1.0]))  # MAD 0: the mean deviation stands in
    assert z[:9].tolist() == [0.0] * 9
    assert 3.0 < z[9] < 5.0
    wild = robust_z(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 1e3, 1e6]))
    assert (np.diff(wild) > 0).all()
    assert wild[-1] < 20
    assert robust_z(np.array([])).size == 0


def test_units_of_words_keep_the_limit_and_all_words() -> None:
    said = transcript("one " * 60 + "end.", "Short one.")
    units = from_words(said, 6.0)
    assert [u.first for u in units] == [0, *(u.last for u in units[:-1])]
    assert units[-1].last == len(said.words)
    assert all(u.end_s - u.start_s <= 6.0 for u in units)
    assert ends_sentence(said.words[units[-1].last - 1].text)
