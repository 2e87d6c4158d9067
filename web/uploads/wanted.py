"""What a client wants of an upload: tus metadata or form fields, checked before the first byte is taken.

`filename`, `filetype`; `clips` (1 to 50), `length` (`15..60`, seconds), `language`, `captions` (`no`): the job's
options; `job` (`no`: none is made); `again` (`yes`: another job although there is one of the same content and options);
`sha256` (64 hex digits: what the whole file must hash to).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping

from msgspec import Struct

from appliance.errors import IntakeRefused
from appliance.intake import display_name
from bus.events import JobOptions
from web.jobs.asking import length_of
from web.problems import Problem

MAX_METADATA_BYTES = 8192
MAX_CLIPS = 50
LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,2}")
SHA256 = re.compile(r"[0-9a-fA-F]{64}")
KEY = re.compile(r"[!-+\--~]{1,64}")
YES = frozenset({"yes", "true", "1"})
NO = frozenset({"no", "false", "0"})


class Wanted(Struct, frozen=True, kw_only=True):
    """The wishes, checked."""

    name: str
    options: JobOptions = JobOptions()
    job: bool = True
    again: bool = False
    sha256: str | None = None


def parse_metadata(header: str) -> dict[str, str]:
    """An `Upload-Metadata` header as names and texts. Raises `Problem` 400."""
    if len(header) > MAX_METADATA_BYTES:
        raise _bad("Upload-Metadata", f"is longer than {MAX_METADATA_BYTES} bytes")
    found: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in header.split(","))):
        key, _, value = pair.partition(" ")
        if not KEY.fullmatch(key) or key in found:
            raise _bad("Upload-Metadata", "holds a key that is none or stands twice")
        try:
            found[key] = base64.b64decode(value.strip(), validate=True).decode("utf-8", "replace")
        except ValueError:
            raise _bad("Upload-Metadata", f"holds no base64 for {key}") from None
    return found


def wanted(fields: Mapping[str, str]) -> Wanted:
    """What the fields ask for; unknown ones are ignored. Raises `Problem` 400 naming the one that is wrong."""
    shortest, longest = parse_length(fields.get("length"))
    sha256 = fields.get("sha256") or None
    if sha256 is not None and not SHA256.fullmatch(sha256):
        raise _bad("sha256", "is not 64 hex digits")
    language = fields.get("language") or None
    if language is not None and not LANGUAGE.fullmatch(language):
        raise _bad("language", "is not a language such as en or pt-BR")
    options = JobOptions(
        clips=_clips(fields.get("clips")),
        min_length_s=shortest,
        max_length_s=longest,
        language=language,
        captions=_flag(fields, "captions", default=True),
    )
    return Wanted(
        name=file_name(fields.get("filename") or fields.get("name") or ""),
        options=options,
        job=_flag(fields, "job", default=True),
        again=_flag(fields, "again", default=False),
        sha256=None if sha256 is None else sha256.lower(),
    )


def file_name(text: str) -> str:
    """The last part of a name, as people may see it. It is never part of a path of ours."""
    return display_name(re.split(r"[/\\]", text)[-1].strip())


def parse_length(text: str | None) -> tuple[float | None, float | None]:
    """`15..60` as shortest and longest seconds of a clip. Raises `Problem` 400."""
    if not text:
        return None, None
    try:
        shortest, longest = length_of(text)
    except IntakeRefused as refused:
        raise _bad("length", str(refused)) from None
    if shortest > longest:
        raise _bad("length", f"must not be shorter at most than at least: {shortest:g} s, {longest:g} s")
    return shortest, longest


def _clips(text: str | None) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9 or not 1 <= int(text) <= MAX_CLIPS:
        raise _bad("clips", f"is not a whole number from 1 to {MAX_CLIPS}")
    return int(text)


def _flag(fields: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = fields.get(name, "").lower()
    if not text:
        return default
    if text in YES or text in NO:
        return text in YES
    raise _bad(name, "is neither yes nor no")


def _bad(where: str, what: str) -> Problem:
    return Problem(400, "bad-metadata", f"{where} {what}", field=where)
