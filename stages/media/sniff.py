"""What a file is by its first bytes: to name impostors, and to hold a name's extension against the content."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

Container = Literal["mp4", "mkv", "webm", "avi", "ts"]

HEAD_BYTES = 4096
EXTENSIONS: dict[Container, tuple[str, ...]] = {
    "mp4": (".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".m4a"),
    "mkv": (".mkv", ".mk3d", ".mka"),
    "webm": (".webm",),
    "avi": (".avi",),
    "ts": (".ts", ".mts", ".m2ts", ".tsv"),
}
"""Extensions under which a container is met; the first is the one that we give it."""
KNOWN_EXTENSIONS: dict[str, Container] = {ext: kind for kind, group in EXTENSIONS.items() for ext in group}

# ISO base media: a file may start with any of these boxes (ISO/IEC 14496-12 §6.2, QuickTime File Format).
_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof", b"uuid")
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"BM", "a BMP picture"),
    (b"II*\x00", "a TIFF picture"),
    (b"MM\x00*", "a TIFF picture"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"PK\x05\x06", "an empty ZIP archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\x00", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (b"%PDF-", "a PDF document"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a Windows program"),
    (b"ID3", "an MP3 sound file"),
    (b"fLaC", "a FLAC sound file"),
    (b"OggS", "an Ogg file"),
    (b"FLV\x01", "an FLV file"),
    (b"0&\xb2u\x8ef\xcf\x11", "a Windows Media (ASF) file"),
    (b"\x00\x00\x01\xba", "an MPEG program stream"),
)
# Text that FFmpeg would otherwise follow to other files or hosts.
_TEXTS: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"^#EXTM3U", re.I), "an HLS playlist (a text file that points at other files or addresses)"),
    (re.compile(rb"^ffconcat\s+version", re.I), "an ffconcat script (a text file that points at other files)"),
    (re.compile(rb"^v=0\r?\n(o|s)=", re.I), "an SDP session description (a text file that opens network ports)"),
    (re.compile(rb"<MPD[\s>]", re.I), "a DASH manifest (a text file that points at other files or addresses)"),
    (re.compile(rb"^(<!doctype html|<html|<head|<body)|<html[\s>]", re.I), "an HTML page"),
    (re.compile(rb"^<svg|<svg[\s>]", re.I), "an SVG picture"),
    (re.compile(rb"^<\?xml", re.I), "an XML document"),
    (re.compile(rb"^WEBVTT"), "a WebVTT subtitle file"),
    (re.compile(rb"^(\d+\r?\n)?\d\d:\d\d:\d\d[,.]\d{3} --> "), "a subtitle file"),
    (re.compile(rb"^\[Script Info\]", re.I), "an ASS subtitle file"),
    (re.compile(rb"^#!"), "a script"),
    (re.compile(rb"^[\[{]"), "a JSON document"),
)


def container_of(head: bytes) -> Container | None:
    """The supported container that `head` (the first `HEAD_BYTES` of a file) belongs to, or None."""
    if len(head) >= 12 and head[4:8] in _BOXES:
        return "mp4"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm" if b"webm" in head[:64] else "mkv"
    if head.startswith(b"RIFF") and head[8:11] == b"AVI":
        return "avi"
    if _is_transport_stream(head):
        return "ts"
    return None


def describe(head: bytes) -> str:
    """What `head` looks like, as the end of the sentence "the file is …". For what `container_of` does not know."""
    if not head:
        return "empty"
    if not head.strip(b"\x00"):
        return "nothing but zero bytes"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head.startswith(b"RIFF"):
        return {b"WAVE": "a WAV sound file", b"WEBP": "a WebP picture"}.get(head[8:12], "a RIFF file of unknown kind")
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    for pattern, name in _TEXTS:
        if pattern.search(text):
            return name
    printable = sum(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    return "a text file" if printable > 0.95 * len(head) else "data of no kind that a video starts with"


def read_head(path: Path) -> bytes:
    """The first `HEAD_BYTES` of `path`."""
    with path.open("rb") as file:
        return file.read(HEAD_BYTES)


def _is_transport_stream(head: bytes) -> bool:
    """Sync bytes at three packet borders; 192-byte packets carry a 4-byte time code first (Blu-ray, AVCHD)."""
    for first, size in ((0, 188), (4, 192)):
        if len(head) > first + 2 * size and all(head[first + i * size] == 0x47 for i in range(3)):
            return True
    return False
