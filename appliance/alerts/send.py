"""`python -m appliance.alerts.send`: sends one message and ends. An `Order` as JSON comes in, `Outcome`s go out.

Addresses hold secrets: they come by standard input, never as arguments, and are never printed.
"""

from __future__ import annotations

import sys

import msgspec
from msgspec import Struct

from appliance.alerts.rules import Severity


class Order(Struct, frozen=True, kw_only=True):
    """A message and where it goes."""

    urls: list[str]
    title: str
    body: str
    severity: Severity


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of one address."""

    ok: bool
    error: str = ""


def main() -> None:
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    outcomes = [_send(url, order) for url in order.urls]
    sys.stdout.buffer.write(msgspec.json.encode(outcomes))


def _send(url: str, order: Order) -> Outcome:
    import apprise

    kind = {
        "info": apprise.NotifyType.INFO,
        "warning": apprise.NotifyType.WARNING,
        "critical": apprise.NotifyType.FAILURE,
    }[order.severity]
    to = apprise.Apprise()
    scheme = url.partition("://")[0]
    if not to.add(url):
        return Outcome(ok=False, error=f"the {scheme}:// address is not one that Apprise knows")
    try:
        sent = to.notify(title=order.title, body=order.body, notify_type=kind)
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        return Outcome(ok=False, error=f"{scheme}: {type(error).__name__}")
    return Outcome(ok=bool(sent), error="" if sent else f"{scheme}: refused or unreachable")


if __name__ == "__main__":
    main()
