"""The rules: the default table is sound and documented, a configuration may change it, mistakes are told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from appliance.alerts.rules import DEFAULT_RULES, Rule, Threshold, problems, rules_with
from appliance.alerts.settings import RuleChange
from appliance.alerts.signals import SIGNALS
from appliance.config import load
from appliance.errors import ConfigError

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "HARDWARE.md").read_text()


def table(heading: str) -> list[list[str]]:
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    assert len(rows) > 2, f"no table under {heading}"
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def limit(threshold: Threshold | None) -> str:
    return "–" if threshold is None else f"{threshold.at:g} / {threshold.clear:g}"


def seconds(value: float) -> str:
    return "0" if value == 0 else f"{value / 60:g} min" if value % 60 == 0 else f"{value:g} s"


def test_the_page_shows_the_table_of_the_code() -> None:
    rows = []
    for rule in DEFAULT_RULES:
        ending = " latched" if rule.latched else ""
        warning = limit(rule.warning) + (" (info)" if rule.severity == "info" else "")
        wait = f"{seconds(rule.for_s)} / {seconds(rule.hold_s)}{ending}"
        rows.append([f"`{rule.id}`", rule.says, SIGNALS[rule.signal].unit, warning, limit(rule.critical), wait])
    assert table("Rules") == rows


def test_the_page_shows_every_signal() -> None:
    assert table("Signals") == [
        [f"`{name}`", signal.device, signal.unit, signal.meaning] for name, signal in SIGNALS.items()
    ]


@pytest.mark.parametrize("rule", DEFAULT_RULES, ids=lambda rule: rule.id)
def test_a_default_rule_is_sound(rule: Rule) -> None:
    assert rule.signal in SIGNALS
    assert rule.warning or rule.critical
    assert problems({rule.id: RuleChange()}) == []
    assert all(target in {other.id for other in DEFAULT_RULES} for target in rule.inhibits)


def test_changes_of_a_configuration(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(
        """alerts:
  rules:
    disk.data.used: {warning: [70, 60]}
    gpu.enc: {enabled: false}
    swap: {signal: swap.used, says: swap fills up, warning: [50, 40], for_s: 30}
"""
    )
    rules = {rule.id: rule for rule in rules_with(load(path, {}).alerts.rules)}
    assert rules["disk.data.used"].warning == Threshold(70, 60)
    assert rules["disk.data.used"].hold_s == 600, "what is not written stays"
    assert "gpu.enc" not in rules
    assert rules["swap"] == Rule(
        id="swap", signal="swap.used", says="swap fills up", warning=Threshold(50, 40), for_s=30
    )
    assert len(rules) == len(DEFAULT_RULES)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("nope: {warning: [1, 0]}", "needs a signal"),
        ("mine: {signal: nope, warning: [1, 0]}", "no signal 'nope'"),
        ("mine: {signal: swap.used}", "needs warning or critical"),
        ("disk.data.used: {warning: [80, 80]}", "are equal"),
        ("disk.os.used: {warning: [99, 80]}", "critical is raised before warning"),
        ("disk.os.used: {warning: [70, 80]}", "different directions"),
        ("disk.os.used: {signal: temp}", "fixed"),
        ("Disk: {signal: temp, warning: [70, 60]}", "words of a-z"),
    ],
)
def test_a_mistake_is_told(rule: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"alerts:\n  rules:\n    {rule}\n")
    with pytest.raises(ConfigError, match=re.escape(said)):
        load(path, {})


def test_a_typing_error_in_a_rule_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("alerts:\n  rules:\n    disk.os.used: {warnign: [70, 60]}\n")
    with pytest.raises(ConfigError, match="warnign"):
        load(path, {})
