"""Which typeface captions are set in: one that has every character of the clip, or the best there is and a warning."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from stages.errors import Misconfigured

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

_PACKAGED = (("Montserrat", 800), ("Noto Sans", 800))
"""Families that come as Python packages (OFL), and the weight taken: the look first, then the wider coverage."""
_FOLDERS = (
    "/usr/share/fonts",
    "/usr/local/share/fonts",
    "~/.local/share/fonts",
    "/System/Library/Fonts",
    "/Library/Fonts",
)
_SYSTEM = (
    "NotoSans-ExtraBold.ttf", "NotoSans-Bold.ttf", "DejaVuSans-Bold.ttf", "LiberationSans-Bold.ttf",
    "NotoSansCJK-Bold.ttc", "NotoSansCJK-Black.ttc", "NotoSansArabic-Bold.ttf", "NotoSansHebrew-Bold.ttf",
    "NotoSansDevanagari-Bold.ttf", "NotoSansBengali-Bold.ttf", "NotoSansTamil-Bold.ttf", "NotoSansThai-Bold.ttf",
    "wqy-zenhei.ttc", "FreeSansBold.ttf", "Arial Unicode.ttf",
)  # fmt: skip
_MAX_FILES = 20_000
_TEST_SIZE_PX = 24
_NOWHERE = "\U0010fffd"
"""A private code point that no font has: drawn as the font's sign for a missing character."""


@dataclass(frozen=True, slots=True)
class Typeface:
    """A font file at a weight; `path` None is the small Latin face inside Pillow."""

    name: str
    path: Path | None
    weight: int | None = None
    missing: str = field(default="", compare=False)
    """Characters of the text it was chosen for that it lacks."""

    def at(self, size_px: float) -> FreeTypeFont:
        """The font at an em size in pixels."""
        return _load(self.path, self.weight, size_px)


def choose_typeface(text: str, configured: Path | None = None) -> Typeface:
    """The first face, in order configured, packaged, system, built-in, that has every character of `text`; else the
    one that lacks fewest. Raises `Misconfigured` (`font-unreadable`) when the configured file is not a font.
    """
    characters = "".join(sorted({c for c in text if unicodedata.category(c)[0] not in "ZCM"}))
    best: Typeface | None = None
    for face in _candidates(configured):
        lacking = _missing(face, characters)
        found = Typeface(face.name, face.path, face.weight, lacking)
        if not lacking:
            return found
        if best is None or len(lacking) < len(best.missing):
            best = found
    assert best is not None  # the built-in face is always a candidate
    return best


@lru_cache(maxsize=8)
def _load(path: Path | None, weight: int | None, size_px: float) -> FreeTypeFont:
    from PIL import ImageFont

    if path is None:
        built_in = ImageFont.load_default(size_px)
        if not isinstance(built_in, ImageFont.FreeTypeFont):
            raise Misconfigured("this Pillow has no FreeType: reinstall Pillow from its wheel", "no-freetype")
        return built_in
    font = ImageFont.truetype(str(path), size_px)
    if weight is not None:
        font.set_variation_by_axes(
            [weight if axis["name"] == b"Weight" else axis["default"] or 0 for axis in font.get_variation_axes()]
        )
    return font


def _candidates(configured: Path | None) -> Iterator[Typeface]:
    if configured is not None:
        face = Typeface(configured.stem, configured)
        try:
            face.at(_TEST_SIZE_PX)
        except OSError as error:
            raise Misconfigured(
                f"stages.cut.font: {configured} is not a readable font file ({error})", "font-unreadable"
            ) from error
        yield face
    yield from _packaged()
    yield from (Typeface(path.stem, path) for path in _system())
    yield Typeface("Pillow's built-in face", None)


def _packaged() -> Iterator[Typeface]:
    try:
        import fontpkg  # type: ignore[import-untyped]
    except ImportError:
        return
    for family, weight in _PACKAGED:
        try:
            yield Typeface(f"{family} ExtraBold", Path(fontpkg.path(family, weight=weight, nearest=True)), weight)
        except (fontpkg.FontpkgError, OSError):
            continue


@lru_cache(maxsize=1)
def _system() -> tuple[Path, ...]:
    found: dict[str, Path] = {}
    seen = 0
    for folder in _FOLDERS:
        for path in Path(folder).expanduser().rglob("*.tt?"):
            seen += 1
            if seen > _MAX_FILES:
                break
            if path.name in _SYSTEM:
                found.setdefault(path.name, path)
    return tuple(found[name] for name in _SYSTEM if name in found)


def _missing(face: Typeface, characters: str) -> str:
    try:
        font = face.at(_TEST_SIZE_PX)
    except OSError:
        return characters
    unknown = _picture(font, _NOWHERE)
    return "".join(c for c in characters if _picture(font, c) == unknown)


def _picture(font: FreeTypeFont, character: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(character)
    return mask.size, bytes(mask)
