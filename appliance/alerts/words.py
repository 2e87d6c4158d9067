"""Alerts in words: what people read in the dashboard, on the command line and in messages."""

from __future__ import annotations

from appliance.alerts.engine import Transition
from appliance.alerts.signals import SIGNALS


def message(transition: Transition, label: str) -> str:
    """One or two sentences: what, where, how much, what to do. `label` is how people call the device."""
    rule = transition.rule
    what = f"{_upper(rule.says)} ({label})"
    if transition.kind == "cleared":
        return f"Over: {rule.says} ({label}){': not reported any more' if transition.gone else _amount(transition)}."
    lead = {
        "flapping": "Keeps coming and going, held as raised until calm: ",
        "reminder": "Still: ",
        "unmuted": "Still: ",
        "worsened": "Worse: ",
        "improved": "Better, not over: ",
    }.get(transition.kind, "")
    said = f"{lead}{what[0].lower() + what[1:] if lead else what}{_amount(transition)}."
    return f"{said} {rule.do}".rstrip()


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _amount(transition: Transition) -> str:
    unit = SIGNALS[transition.rule.signal].unit
    if transition.value is None or not unit:
        return ""
    limit = "" if transition.threshold is None else f", limit {number(transition.threshold)}"
    return f": {number(transition.value)} {unit}{limit}"


def number(value: float) -> str:
    """A figure as people write it: no decimals from ten on, one below."""
    return f"{value:.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.1f}"
