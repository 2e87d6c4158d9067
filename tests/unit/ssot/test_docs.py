"""docs/SSOT.md and the command name the sections and times that the code has."""

from __future__ import annotations

import re
from pathlib import Path

from appliance.cache.settings import CacheTtl
from appliance.cli.ssot import SECTION_NAMES
from appliance.services.manager import SECTIONS
from appliance.ssot.cache import LIVE, section_ttl_s

PAGE = (Path(__file__).parents[3] / "docs" / "SSOT.md").read_text()


def test_each_section_stands_in_the_table_with_its_time() -> None:
    told = {
        name: float(seconds) for name, seconds in re.findall(r"^\| `(\w+)` \|.*\| \w+, (\d+) s \|$", PAGE, re.MULTILINE)
    }
    assert told == section_ttl_s(CacheTtl())


def test_the_command_offers_every_section() -> None:
    assert (*SECTIONS, *LIVE) == SECTION_NAMES
