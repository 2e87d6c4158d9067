"""What a person asks for when they make a job, checked at the border."""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta, Struct

from appliance.errors import IntakeRefused
from bus.events import JobOptions

MAX_URL_CHARS = 4096
_LENGTH = re.compile(r"([0-9]{1,3})\.\.([0-9]{1,3})\Z")
_SHORTEST_S, _LONGEST_S = 1.0, 600.0

Url = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_URL_CHARS,
        description="http(s) address of a video.",
        examples=["https://example.org/talk.mp4"],
    ),
]
UploadId = Annotated[str, Meta(min_length=1, max_length=64, description="Id of a finished upload.")]
Count = Annotated[int, Meta(ge=1, le=50, description="How many clips.", examples=[3])]
Seconds = Annotated[
    float, Meta(ge=_SHORTEST_S, le=_LONGEST_S, description="Seconds of a clip, at least or at most.", examples=[30.0])
]
Length = Annotated[str, Meta(max_length=16, description="Both: MIN..MAX in seconds.", examples=["15..60"])]
Language = Annotated[
    str, Meta(pattern=r"^[a-z]{2,3}(-[A-Za-z]{2,8})?$", description="Of the speech; else it is heard.", examples=["en"])
]


class NewJob(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A video, by its URL or as a finished upload, and what to make of it. What is left out is the box's default."""

    url: Url | None = None
    upload: UploadId | None = None
    clips: Count | None = None
    min_length_s: Seconds | None = None
    max_length_s: Seconds | None = None
    length: Length | None = None
    language: Language | None = None
    captions: Annotated[bool, Meta(description="Whether words are drawn into the picture.")] = True


def options_of(asked: NewJob) -> JobOptions:
    """Raises `IntakeRefused` for lengths that contradict."""
    shortest, longest = asked.min_length_s, asked.max_length_s
    if asked.length is not None:
        if shortest is not None or longest is not None:
            raise IntakeRefused("give length, or min_length_s and max_length_s, not both")
        shortest, longest = length_of(asked.length)
    if shortest is not None and longest is not None and shortest > longest:
        raise IntakeRefused(f"the shortest clip ({shortest:g} s) is longer than the longest ({longest:g} s)")
    return JobOptions(
        clips=asked.clips,
        min_length_s=shortest,
        max_length_s=longest,
        language=asked.language,
        captions=asked.captions,
    )


def length_of(text: str) -> tuple[float, float]:
    """`15..60` in seconds. Raises `IntakeRefused`."""
    found = _LENGTH.match(text)
    if found is None or not all(_SHORTEST_S <= float(part) <= _LONGEST_S for part in found.groups()):
        limits = f"{_SHORTEST_S:g} to {_LONGEST_S:g}"
        raise IntakeRefused(f"length {text[:32]!r}: write MIN..MAX in seconds, each {limits}, for example 15..60")
    return float(found[1]), float(found[2])
