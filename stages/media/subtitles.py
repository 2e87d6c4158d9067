"""SubRip (.srt) and WebVTT (.vtt) files of a clip's words."""

from __future__ import annotations

from collections.abc import Sequence

from stages.artifacts import Word
from stages.media.captions import CaptionRules, Cue, joined, make_cues, needs_space

READING = CaptionRules(line_width=42, max_lines=2, max_words=16, best_words=9, max_duration_s=6.0, hold_s=0.3)
"""For people who read beside the picture: two lines of 42 characters, six seconds (the field's usual limits)."""


def reading_cues(words: Sequence[Word], ends: set[float], duration_s: float) -> list[Cue]:
    """Cues for subtitle files, none past `duration_s`."""
    cues = make_cues(words, ends, len, READING)
    return [Cue(c.first, c.last, c.lines, c.start_s, min(c.end_s, duration_s)) for c in cues if c.start_s < duration_s]


def srt(cues: Sequence[Cue], words: Sequence[Word]) -> str:
    """SubRip; the empty string when there are no cues. The format has no escapes: text stands as it is."""
    blocks = []
    for number, cue in enumerate(cues, 1):
        text = "\n".join(joined(words, *line).replace("-->", "→") for line in cue.lines)
        blocks.append(f"{number}\n{_clock(cue.start_s, ',')} --> {_clock(_end(cue), ',')}\n{text}\n")
    return "\n".join(blocks)


def vtt(cues: Sequence[Cue], words: Sequence[Word]) -> str:
    """WebVTT with a timestamp in front of each word but a cue's first; only the header when there are no cues."""
    blocks = ["WEBVTT\n"]
    for number, cue in enumerate(cues, 1):
        text = "\n".join(_timed_line(words, cue, *line) for line in cue.lines)
        blocks.append(f"{number}\n{_clock(cue.start_s, '.')} --> {_clock(_end(cue), '.')}\n{text}\n")
    return "\n".join(blocks)


def _timed_line(words: Sequence[Word], cue: Cue, first: int, last: int) -> str:
    """Timestamps must lie strictly inside the cue and rise: others are left out, as the format demands."""
    parts = []
    for i in range(first, last):
        space = " " if i > first and needs_space(words[i - 1].text, words[i].text) else ""
        before = words[i - 1].start_s if i > cue.first else cue.start_s
        inside = i > cue.first and round(words[i].start_s, 3) > round(before, 3) and words[i].start_s < _end(cue)
        stamp = f"<{_clock(words[i].start_s, '.')}>" if inside else ""
        parts.append(f"{space}{stamp}{_escaped(words[i].text)}")
    return "".join(parts)


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _end(cue: Cue) -> float:
    """At least a millisecond after the start: players drop empty cues."""
    return max(cue.end_s, cue.start_s + 0.001)


def _clock(t_s: float, point: str) -> str:
    ms = round(max(t_s, 0.0) * 1000)
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}{point}{ms % 1000:03d}"
