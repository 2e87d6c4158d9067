from __future__ import annotations

from pathlib import Path

import pytest

from stages.errors import Misconfigured
from stages.media import fonts
from stages.media.fonts import Typeface, choose_typeface


def test_latin_and_cyrillic_get_the_packaged_display_face() -> None:
    face = choose_typeface("Grüße, Ærøskøbing: Привет!")
    assert (face.name, face.missing) == ("Montserrat ExtraBold", "")


def test_greek_falls_to_the_face_with_the_wider_coverage() -> None:
    face = choose_typeface("Γειά σου κόσμε")
    assert (face.name, face.missing) == ("Noto Sans ExtraBold", "")


def test_the_weight_is_applied() -> None:
    face = choose_typeface("weight")
    light = Typeface(face.name, face.path, 300)
    assert face.at(64).getlength("weight") > light.at(64).getlength("weight")


def test_what_no_face_has_is_named() -> None:
    face = choose_typeface("ok \U00012000")  # cuneiform
    assert face.missing == "\U00012000"


def test_without_packages_or_system_fonts_the_built_in_face_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "_packaged", lambda: iter(()))
    monkeypatch.setattr(fonts, "_system", lambda: ())
    face = choose_typeface("Hello")
    assert face.path is None
    assert face.missing == ""
    assert face.at(40).getlength("Hello") > 40
    assert choose_typeface("Привет").missing


def test_a_configured_font_comes_first_unless_it_lacks_characters() -> None:
    noto = next(face.path for face in fonts._packaged() if face.name.startswith("Noto"))
    assert noto is not None
    assert choose_typeface("Hello", noto).path == noto
    montserrat = next(face.path for face in fonts._packaged() if face.name.startswith("Montserrat"))
    assert choose_typeface("κόσμε", montserrat).path == noto


def test_a_configured_file_that_is_no_font_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.ttf"
    bad.write_bytes(b"not a font")
    with pytest.raises(Misconfigured, match=r"stages\.cut\.font") as caught:
        choose_typeface("Hello", bad)
    assert caught.value.code == "font-unreadable"
