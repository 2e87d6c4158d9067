"""Synthetic talks: bland sentences with planted moments, as transcript and sound curves, no media."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np

from stages.artifacts import Sentence, Span, Transcript, Word
from stages.story.sound import HOP_S, Sound

_SUBJECTS = ("the team", "our group", "the office", "a colleague", "the committee", "management", "our partner")
_VERBS = ("looked at", "went through", "wrote down", "continued with", "prepared", "discussed", "reviewed", "checked")
_OBJECTS = (
    "the usual list",
    "a table of items",
    "the next section",
    "some of the paperwork",
    "the regular schedule",
    "a draft of the plan",
    "the meeting notes",
    "the general outline",
    "the second part",
    "the remaining points",
)
_TAILS = ("as before", "in the same way", "during the week", "with the others", "step by step", "as it was agreed")
_LEADS = ("And then ", "So ", "After that ", "Also ", "In addition ", "And ", "")
PLANTS = (
    "Why do most people quit in the first 30 days? You think it is a lack of will. But that is wrong. In 1998 we asked "
    "400 smokers, and only 3 percent failed for that reason. The secret is something nobody measures. It is the "
    "kitchen table. If you change where you eat breakfast, you double your chance. Remember that one number.",
    "What would you do with a million dollars in cash? I asked my daughter and she never mentioned money. She wanted a "
    "dog. Instead of a fortune, the biggest dream of a child is a wet nose. You laugh, but 80 percent of all children "
    "say the same. That is the best lesson I ever learned about greed.",
    "Do you know how a bridge dies? It never dies in a storm. It dies on a quiet Tuesday, because of one bolt. In 2007 "
    "a bolt of 12 dollars killed 13 people in Minneapolis. Nobody had looked at it for 40 years. Everyone trusted the "
    "paint. The most dangerous thing you own is the thing you never check.",
    "How can a blind man catch a thief? You will not believe the answer. Instead of eyes he used the smell of oranges. "
    "The police failed for 6 months, but he needed 2 hours. The thief loved marmalade, nothing else. So the truth was "
    "on his fingers. Always ask what everybody else ignores.",
)


@dataclass
class Talk:
    """A talk in the making; `plants` are the spans that a person would clip."""

    rng: random.Random
    words: list[Word] = field(default_factory=list)
    sentences: list[Sentence] = field(default_factory=list)
    plants: list[Span] = field(default_factory=list)
    louder: list[tuple[Span, float]] = field(default_factory=list)
    at_s: float = 0.5

    def say(self, text: str, pace: float = 2.6) -> None:
        for sentence in _sentences(text):
            first = len(self.words)
            for token in sentence.split():
                length_s = max(0.12, self.rng.gauss(1 / pace, 0.06)) * 0.85
                self.words.append(Word(text=token, start_s=self.at_s, end_s=self.at_s + length_s, confidence=0.9))
                self.at_s += length_s / 0.85
            self.sentences.append(Sentence(first=first, last=len(self.words)))
            self.at_s += self.rng.uniform(0.25, 0.6)

    def bland(self, until_s: float) -> None:
        while self.at_s < until_s:
            pick = self.rng.choice
            text = f"{pick(_LEADS)}{pick(_SUBJECTS)} {pick(_VERBS)} {pick(_OBJECTS)} {pick(_TAILS)}."
            self.say(text[0].upper() + text[1:])

    def plant(self, text: str, gain_db: float) -> None:
        self.at_s += 0.9
        start_s = self.at_s
        self.say(text, pace=3.0)
        self.plants.append(Span(start_s=start_s, end_s=self.words[-1].end_s))
        self.louder.append((self.plants[-1], gain_db))
        self.at_s += 0.9

    def transcript(self, *, rough: bool = False) -> Transcript:
        words = self.words
        if rough:  # what PocketSphinx leaves: no case, no punctuation
            words = [
                Word(text=w.text.strip(".?,!").lower(), start_s=w.start_s, end_s=w.end_s, confidence=0.6) for w in words
            ]
        speech: list[Span] = []
        for w in words:
            if speech and w.start_s - speech[-1].end_s < 0.5:
                speech[-1] = Span(start_s=speech[-1].start_s, end_s=w.end_s)
            else:
                speech.append(Span(start_s=w.start_s, end_s=w.end_s))
        return Transcript(
            model="test", device="cpu", language="en", rough=rough, words=words, sentences=self.sentences, speech=speech
        )

    def sound(self, duration_s: float) -> Sound:
        noise = np.random.default_rng(len(self.words))
        level = noise.normal(-60, 1.5, int(duration_s / HOP_S))
        for w in self.words:
            level[int(w.start_s / HOP_S) : int(w.end_s / HOP_S)] = -26
        voiced = level == -26
        level[voiced] += noise.normal(0, 3, voiced.sum())
        for span, gain_db in self.louder:
            part = slice(int(span.start_s / HOP_S), int(span.end_s / HOP_S))
            level[part] = np.where(voiced[part], level[part] + gain_db, level[part])
        return Sound(level, np.full(len(level), 0.1))


def planted(
    seed: int, minutes: float, gains_db: tuple[float, ...] = (3.0, 3.0, 3.0), texts: bool = True
) -> tuple[Talk, float]:
    """A talk of about `minutes` with one plant for each gain at random places; without `texts` only the sound tells."""
    rng = random.Random(seed)
    talk = Talk(rng)
    slot_s = minutes * 60 / len(gains_db)
    for gain_db, text in zip(gains_db, rng.sample(PLANTS, len(gains_db)), strict=True):
        begin_s = talk.at_s
        talk.bland(begin_s + rng.uniform(0.1, 0.7) * (slot_s - 45))
        if texts:
            talk.plant(text, gain_db)
        else:
            start_s = talk.at_s + 0.9
            talk.at_s = start_s
            talk.bland(start_s + 30)
            talk.plants.append(Span(start_s=start_s, end_s=talk.words[-1].end_s))
            talk.louder.append((talk.plants[-1], gain_db))
            talk.at_s += 0.9
        talk.bland(begin_s + slot_s)
    return talk, talk.at_s + 1.0


def _sentences(text: str) -> list[str]:
    found, part = [], ""
    for token in text.split():
        part += token + " "
        if token[-1] in ".?!":
            found.append(part)
            part = ""
    return [*found, part] if part else found
