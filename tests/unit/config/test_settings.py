"""The settings tree: everything documented, written down and used."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import msgspec
import pytest

from appliance.config import Config, load
from appliance.config_fields import Setting, walk
from appliance.config_reference import main, reference, template

ROOT = Path(__file__).parents[3]
SETTINGS = list(walk(Config))
VALUES = [setting for setting in SETTINGS if setting.section is None]


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.key)
def test_every_setting_says_what_it_does(setting: Setting) -> None:
    assert len(setting.description) > 8, f"{setting.key} needs a description"
    if setting.name.endswith(("_s", "_bytes")) and not setting.section:
        assert re.search(r"[Ss]econds|[Bb]ytes|[Mm]emory|[Ll]ength", setting.description), (
            f"{setting.key}: name its unit"
        )


@pytest.mark.parametrize("setting", VALUES, ids=lambda setting: setting.key)
def test_every_setting_is_read_somewhere(setting: Setting) -> None:
    """A key without effect is a lie. Sections are read as a whole; values are read by their own name."""
    reader = re.compile(rf"\.{setting.name}\b")
    shortcut = re.compile(rf"self\.\w+\.{setting.name}\b")  # a property of Config itself
    assert reader.search(sources()) or shortcut.search((ROOT / "appliance/settings.py").read_text()), (
        f"nothing reads {setting.key}"
    )


@cache
def sources() -> str:
    """All code that may use a setting: everything but where settings are declared."""
    files = [path for folder in ("appliance", "stages", "bus", "web") for path in sorted((ROOT / folder).rglob("*.py"))]
    return "\n".join(path.read_text() for path in files if path.stem != "settings" and "config" not in path.stem)


def test_the_template_holds_every_default(tmp_path: Path) -> None:
    path = tmp_path / "appliance.yaml"
    template_text = template()
    path.write_text(template_text)
    (tmp_path / "empty.yaml").write_text("")
    assert load(path, {}) == load(tmp_path / "empty.yaml", {})
    for setting in VALUES:
        assert f" {setting.name}: " in f" {template_text}".replace("\n", " "), f"{setting.key} is not in the template"


@pytest.mark.parametrize(
    ("file", "option"), [("appliance.yaml", "--template"), ("docs/CONFIGURATION.md", "--reference")]
)
def test_written_pages_are_those_of_the_code(file: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([option])
    assert (ROOT / file).read_text() == capsys.readouterr().out, f"run `make docs` and commit {file}"


def test_the_reference_names_every_setting() -> None:
    page = reference()
    assert [setting.key for setting in VALUES if f"| `{setting.key}` |" not in page] == []


def test_settings_survive_being_handed_to_a_child(tmp_path: Path) -> None:
    config = load(None, {"APPLIANCE_DATA_DIR": str(tmp_path), "APPLIANCE_MODELS__DIR": str(tmp_path / "m")})
    text = msgspec.json.encode(config, enc_hook=str)
    assert msgspec.json.decode(text, type=Config, dec_hook=lambda kind, value: kind(value)) == config
