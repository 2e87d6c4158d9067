from __future__ import annotations

import pytest

from stages.download import check_content
from stages.errors import Rejected
from stages.media.sniff import container_of, describe

MP4 = b"\x00\x00\x00\x20ftypisom" + bytes(20)
MKV = b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska" + bytes(20)
WEBM = b"\x1a\x45\xdf\xa3\x9f\x42\x82\x84webm" + bytes(20)
AVI = b"RIFF\x00\x10\x00\x00AVI LIST" + bytes(20)
TS = (b"\x47" + bytes(187)) * 4
M2TS = (b"\x00\x00\x00\x01\x47" + bytes(187)) * 4


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (MP4, "mp4"), (b"\x00\x00\x00\x08wide\x00\x00\x10\x00mdat", "mp4"), (MKV, "mkv"), (WEBM, "webm"), (AVI, "avi"),
        (TS, "ts"), (M2TS, "ts"), (b"", None), (b"\x47" * 3, None), (b"RIFF\x00\x00\x00\x00WAVEfmt ", None),
        (b"#EXTM3U\n", None), (bytes(4096), None),
    ],
)  # fmt: skip
def test_containers_are_told_by_content(head: bytes, kind: str | None) -> None:
    assert container_of(head) == kind


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"", "empty"), (bytes(100), "zero bytes"), (b"\x89PNG\r\n\x1a\n123", "PNG"), (b"\xff\xd8\xff\xe0", "JPEG"),
        (b"PK\x03\x04rest", "ZIP"), (b"  <!DOCTYPE HTML>", "HTML"), (b"\xef\xbb\xbf#EXTM3U", "HLS"),
        (b"ffconcat version 1.0\nfile a", "ffconcat"), (b"v=0\r\no=- 1 1 IN IP4 1.1.1.1", "SDP"),
        (b"<?xml version='1.0'?><MPD xmlns=''>", "DASH"), (b"WEBVTT\n\n", "WebVTT"), (b"hello there\n", "text file"),
        (b'{"a": 1}', "JSON"), (b"\x01\x80\xf0\x99" * 50, "no kind"), (b"OggS\x00", "Ogg"),
        (b"0&\xb2u\x8ef\xcf\x11", "ASF"),
    ],
)  # fmt: skip
def test_impostors_are_named(head: bytes, words: str) -> None:
    assert container_of(head) is None
    assert words in describe(head)


@pytest.mark.parametrize(
    ("head", "name"),
    [(MP4, "a.mp4"), (MP4, "a.MOV"), (MP4, "a"), (MP4, "a.txt"), (MP4, ""), (MKV, "a.mkv"), (WEBM, "a.mkv"),
     (MKV, "a.webm"), (AVI, "a.avi"), (TS, "a.mts"), (TS, "my.video.ts")],
)  # fmt: skip
def test_honest_names_pass(head: bytes, name: str) -> None:
    check_content(head, name)


@pytest.mark.parametrize(
    ("head", "name", "advice"),
    [
        (MKV, "a.mp4", ".mkv"),
        (MP4, "a.mkv", ".mp4"),
        (WEBM, "A.MP4", ".webm"),
        (TS, "a.mp4", ".ts"),
        (AVI, "a.mov", ".avi"),
    ],
)
def test_a_lying_extension_is_refused_with_advice(head: bytes, name: str, advice: str) -> None:
    with pytest.raises(Rejected, match=f"rename it to end in \\{advice}") as refusal:
        check_content(head, name)
    assert refusal.value.code == "extension-mismatch"
