"""A title for a clip, taken from what is said in it."""

from __future__ import annotations

from collections.abc import Sequence

from stages.artifacts import Word
from stages.speech.words import ends_sentence
from stages.story import lexicon

MAX_CHARS = 70
_SURE = 0.5
"""Mean confidence below which rough words are not put into a title."""
_LOOK = 40
"""Words at the start among which the title is looked for."""


def title(words: Sequence[Word], start_s: float, *, rough: bool) -> str:
    """At most 70 characters: the first question, else the first sentence that stands alone, else the first words.

    Where the words are few or unsure: `Moment at 3:12`.
    """
    sure = not rough or (bool(words) and sum(w.confidence for w in words) / len(words) >= _SURE)
    if len(words) < 3 or not sure:
        return f"Moment at {clock(start_s)}"
    opening = _sentences(words[:_LOOK])
    asking = [s for s in opening if s[-1].text.rstrip("\"'”’)").endswith(("?", "？"))]
    standing = [s for s in opening if len(s) >= 4 and lexicon.bare(s[0].text) not in lexicon.DANGLING]
    return shorten(" ".join(w.text for w in (asking or standing or [list(words)])[0]))


def clock(t_s: float) -> str:
    """3:12 or 1:03:12."""
    hours, rest = divmod(int(t_s), 3600)
    minutes, seconds = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def shorten(text: str) -> str:
    """At most 70 characters, cut between words with an ellipsis; fillers at the start dropped, a capital first."""
    words = text.split()
    while len(words) > 3 and lexicon.bare(words[0]) in lexicon.FILLERS:
        words = words[1:]
    kept = " ".join(words)
    if len(kept) > MAX_CHARS:
        while len(words) > 1 and len(" ".join(words)) > MAX_CHARS - 2:
            words.pop()
        kept = " ".join(words)[: MAX_CHARS - 2].rstrip(" ,;:-") + " …"
    kept = kept.rstrip(" ,;:") if kept.endswith((",", ";", ":")) else kept.removesuffix(".")
    return kept[:1].upper() + kept[1:]


def _sentences(words: Sequence[Word]) -> list[list[Word]]:
    found: list[list[Word]] = [[]]
    for word in words:
        found[-1].append(word)
        if ends_sentence(word.text):
            found.append([])
    return [s for s in found if s]
