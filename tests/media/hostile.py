"""Files that lie, bombs and impostors, made from nothing: what each pretends, and how it must be refused."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from tests.media.maker import Spec, make

CANARY = "canary-neighbour"
"""Name (without suffix) of a real video that lies beside the corpus and that nothing may open."""


@dataclass(frozen=True, slots=True)
class Hostile:
    """One file of the corpus: the codes with which it may be refused and words that the message must hold."""

    path: Path
    codes: frozenset[str]
    says: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.name


def corpus(folder: Path, port: int) -> list[Hostile]:
    """Write the corpus into `folder`. `port` is a local HTTP canary that playlists point at."""
    folder.mkdir(parents=True, exist_ok=True)
    good = make(_SMALL)[0].read_bytes()
    slow_start = _without_faststart(good)
    (folder / f"{CANARY}.mp4").write_bytes(good)
    random = np.random.default_rng(3).bytes(200_000)
    items: list[Hostile] = []

    def add(name: str, data: bytes, codes: str, *says: str) -> None:
        path = folder / name
        path.write_bytes(data)
        items.append(Hostile(path, frozenset(codes.split()), says))

    text = "not-a-video"
    add("zero.mp4", b"", "empty", "empty")
    add("nul.mp4", bytes(65536), text, "zero bytes")
    add("random.mp4", random, text, "not a video")
    add("random-after-ftyp.mp4", good[:32] + random, "broken", "damaged")
    add("cut-before-index.mp4", slow_start[: len(slow_start) // 2], "broken", "damaged")
    add("cut-in-index.mp4", good[:400], "broken", "damaged")
    add("one-byte.mp4", b"\x00", text, "not a video")
    add("picture.mp4", _png(64, 64), text, "PNG picture")
    add("photo.mp4", _jpeg(64, 64), text, "JPEG picture")
    add("archive.mp4", _zip(good), text, "ZIP archive")
    add("page.mp4", b"<!DOCTYPE html><html><body>Not found</body></html>", text, "HTML page")
    add("drawing.mp4", b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', text, "SVG picture")
    add("document.mp4", b"%PDF-1.7\n%\xe2\xe3", text, "PDF")
    add("program.mp4", b"\x7fELF" + random[:4000], text, "program")
    add("script.mp4", b"#!/bin/sh\nrm -rf /\n", text, "script")
    add("sound.mp4", b"RIFF\x24\x00\x00\x00WAVEfmt " + random[:100], text, "WAV")
    add("words.mp4", b"1\n00:00:01,000 --> 00:00:02,000\nHello\n", text, "subtitle")
    add("matroska.mp4", make(_MKV)[0].read_bytes(), "extension-mismatch", "Matroska", ".mkv")
    add("mp4.mkv", good, "extension-mismatch", "MP4", ".mp4")
    add("mp4.avi", good, "extension-mismatch", "MP4", ".mp4")

    segment = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n%s\n#EXT-X-ENDLIST\n"
    beside = f"{CANARY}.mp4"
    add("hls-http.mp4", (segment % f"http://127.0.0.1:{port}/s.ts").encode(), text, "HLS playlist")
    add("hls-file.mp4", (segment % (folder / beside)).encode(), text, "HLS playlist")
    add("hls-relative.mp4", (segment % beside).encode(), text, "HLS playlist")
    add("hls-bom.mp4", b"\xef\xbb\xbf\n" + (segment % beside).encode(), text, "HLS playlist")
    add("ffconcat.mp4", f"ffconcat version 1.0\nfile {beside}\n".encode(), text, "ffconcat")
    add("ffconcat-absolute.mp4", f"ffconcat version 1.0\nfile '{folder / beside}'\n".encode(), text, "ffconcat")
    add(
        "dash.mp4",
        f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{beside}</BaseURL></MPD>'.encode(),
        text,
        "DASH",
    )
    add("sdp.mp4", b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\nc=IN IP4 127.0.0.1\r\nm=video 5004 RTP/AVP 96\r\n", text, "SDP")

    add("frames-1e9.mp4", _claim_frames(good, 1_000_000_000), "too-many-frames broken too-much-memory")
    add("samples-1e9.mp4", _claim_samples(good, 1_000_000_000), "too-many-frames broken too-much-memory")
    add("deep.mp4", good[:32] + _nested(b"moov", 5000), "broken", "damaged")
    add(
        "huge-element.mkv",
        b"\x1a\x45\xdf\xa3\x84matr\x18\x53\x80\x67\x01" + b"\xff" * 7 + random[:3000],
        "broken",
        "damaged",
    )
    big = "picture-too-large too-much-memory broken codec-refused"
    add("png-16k.mov", _wrap("png", _gray_png(16384), 16384, 16384, "mov"), big)
    add("png-16k-hidden.mov", _wrap("png", _gray_png(16384), 64, 64, "mov"), big)
    add("mjpeg-16k.mkv", _wrap("mjpeg", _jpeg_claiming(16000, 16000), 64, 64), "picture-too-large broken")
    add("vp8-16k.webm", _wrap("libvpx", _vp8_claiming(16383, 16383), 64, 64, "webm"), "picture-too-large broken")
    add("h264-12k.ts", _wrap("libx264", _h264_claiming(750, 750), 64, 64, "mpegts"), "picture-too-large broken")
    add(
        "streams.mkv",
        _many_streams(40),
        "too-many-streams broken",
    )
    add("still.mp4", _video(1), "still-picture", "still")
    add("sound-only.mp4", _sound_only("mp4"), "no-video", "only sound")
    add("sound-only.mkv", _sound_only("matroska"), "no-video", "only sound")
    return items


NAMES = (
    "../../../../etc/passwd.mp4",
    "/etc/shadow.mp4",
    "..\\..\\windows\\system32.mp4",
    "concat:a.mp4|b.mp4",
    "file:secret.mp4",
    "subfile,,start,0,end,9,,:x.mp4",
    "http://127.0.0.1/x.mp4",
    "-i.mp4",
    "nul\x00byte.mp4",
    "new\nline.mp4",
    "\u202egpj.4pm.mp4",
    "CON.mp4",
    "%2e%2e%2fx.mp4",
    "e\u0301.mp4",
    "ü" * 125 + ".mp4",
    ".mp4",
    "source.mp4",
    "probe.json",
    "",
)
"""Display names under which a good video must still land in `source.mp4` and nowhere else."""

_SMALL = Spec(seconds=2.0, scenes=("seated",), width=160, height=90)
_MKV = Spec(seconds=2.0, scenes=("seated",), width=160, height=90, suffix=".mkv")


def _without_faststart(data: bytes) -> bytes:
    """The same file with its index at the end."""
    out = io.BytesIO()
    with av.open(io.BytesIO(data), "r") as source, av.open(out, "w", format="mp4") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    return out.getvalue()


def _claim_frames(data: bytes, count: int) -> bytes:
    """The video's time-to-sample table says `count` pictures."""
    out = bytearray(data)
    at = out.index(b"stts")
    out[at + 12 : at + 16] = struct.pack(">I", count)
    return bytes(out)


def _claim_samples(data: bytes, count: int) -> bytes:
    """The size table says `count` samples of one byte each, so that it needs no entries; the time table agrees."""
    out = bytearray(_claim_frames(data, count))
    at = out.index(b"stsz")
    out[at + 8 : at + 16] = struct.pack(">II", 1, count)
    chunks = out.index(b"stsc")
    out[chunks + 16 : chunks + 20] = struct.pack(">I", count)
    return bytes(out)


def _nested(kind: bytes, depth: int) -> bytes:
    data = b""
    for _ in range(depth):
        data = struct.pack(">I", len(data) + 8) + kind + data
    return data


def _png(width: int, height: int) -> bytes:
    rows = zlib.compress(b"".join(b"\x00" + bytes(3 * width) for _ in range(height)))
    return _png_of(width, height, 8, 2, rows)


def _gray_png(side: int) -> bytes:
    """Small file, side x side pixels of black."""
    packer = zlib.compressobj(1)
    row = bytes(1 + side)
    rows = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    return _png_of(side, side, 8, 0, rows)


def _png_of(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _jpeg(width: int, height: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (width, height), (90, 20, 200)).save(out, "JPEG")
    return out.getvalue()


def _jpeg_claiming(width: int, height: int) -> bytes:
    data = bytearray(_jpeg(64, 64))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def _vp8_claiming(width: int, height: int) -> bytes:
    """A key frame with another size in its header (RFC 6386 §9.1)."""
    data = bytearray(_encoded("libvpx"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def _h264_claiming(mbs_wide: int, mbs_high: int) -> bytes:
    """An Annex B access unit whose parameter set says mbs x 16 pixels, followed by a real slice."""
    units = [u for u in _encoded("libx264").split(b"\x00\x00\x01") if u]
    slices = [u for u in units if u[0] & 31 == 5]
    bits = "01100100" + "00000000" + "00111110"  # High, no constraints, level 6.2
    bits += _golomb(0) + _golomb(1) + _golomb(0) + _golomb(0) + "00"  # id, 4:2:0, 8 bits, no bypass, no matrix
    bits += _golomb(0) + _golomb(2) + _golomb(1) + "0"  # frame numbers, picture order 2, 1 reference
    bits += _golomb(mbs_wide - 1) + _golomb(mbs_high - 1) + "1" + "1" + "0" + "0" + "1"
    bits += "0" * (-len(bits) % 8)
    sps = b"\x67" + int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\x00\x00\x00", b"\x00\x00\x03\x00")
    pps = next(u for u in units if u[0] & 31 == 8)
    return b"".join(b"\x00\x00\x00\x01" + u for u in (sps, pps, *slices))


def _golomb(value: int) -> str:
    bits = f"{value + 1:b}"
    return "0" * (len(bits) - 1) + bits


def _encoded(codec: str) -> bytes:
    """One key frame of 64x64."""
    context: Any = av.CodecContext.create(codec, "w")
    context.width, context.height, context.pix_fmt = 64, 64, "yuv420p"
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame(64, 64, "yuv420p")
    for plane in frame.planes:
        plane.update(np.random.default_rng(1).bytes(plane.buffer_size))
    frame.pts = 0
    return b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])


def _wrap(codec: str, picture: bytes, width: int, height: int, container: str = "matroska") -> bytes:
    """Thirty copies of an encoded picture in a container that says `width` x `height`."""
    out = io.BytesIO()
    with av.open(out, "w", format=container) as target:
        stream: Any = target.add_mux_stream(codec, rate=30, width=width, height=height, time_base=Fraction(1, 1000))
        for n in range(30 if len(picture) < 50_000 else 2):
            packet = av.Packet(picture)
            packet.stream = stream
            packet.time_base = Fraction(1, 1000)
            packet.pts = packet.dts = n * 33
            packet.is_keyframe = True
            target.mux(packet)
    return out.getvalue()


def _many_streams(count: int) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as target:
        streams: list[Any] = [target.add_mux_stream("mjpeg", rate=25, width=64, height=64) for _ in range(count)]
        for n in range(3):
            for stream in streams:
                packet = av.Packet(_jpeg(64, 64))
                packet.stream, packet.time_base = stream, Fraction(1, 1000)
                packet.pts = packet.dts = 40 * n
                target.mux(packet)
    return out.getvalue()


def _video(frames: int) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as target:
        stream: Any = target.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for _ in range(frames):
            target.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        target.mux(stream.encode(None))
    return out.getvalue()


def _sound_only(container: str) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=container) as target:
        stream: Any = target.add_stream("aac", rate=48_000)
        stream.layout = "mono"
        for n in range(50):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, n * 1024
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return out.getvalue()


def _zip(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("video.mp4", data)
    return out.getvalue()
