"""`appliance alerts`: what is raised, and what people say to it."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from appliance.cli import Session
from appliance.cli.person import length_s, who

if TYPE_CHECKING:
    from appliance.monitor.latest import HostView


@click.group()
def alerts() -> None:
    """List, silence and acknowledge alerts; try the notifications.

    \b
    Example:
      appliance alerts list
    """


@alerts.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def list_alerts(session: Session, as_json: bool) -> None:
    """List the alerts that are raised now, and the silences.

    \b
    Example:
      appliance alerts list
    """
    import msgspec

    from appliance.alerts.orders import read

    views = asyncio.run(_views(session))
    raised = [alert for view in views for alert in view.alerts]
    silences = read(session.config.data_dir).silences
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode({"alerts": raised, "silences": silences})).decode())
        return
    if not raised:
        click.echo("no alert is raised")
    for alert in raised:
        muted = f"  [muted by {alert.muted_by}]" if alert.muted_by else ""
        since = f" since {alert.since:%Y-%m-%d %H:%M}" if alert.since else ""
        click.echo(f"{alert.severity:9} {alert.alert}{since}: {alert.message}{muted}")
    for silence in silences:
        until = datetime.fromtimestamp(silence.until_s, UTC)
        what = f"{silence.rule} on {silence.device}"
        click.echo(
            f"silence   {silence.id} {what} until {until:%Y-%m-%d %H:%M} UTC, {silence.author}: {silence.reason}"
        )


@alerts.command()
@click.argument("rule")
@click.option("--device", default="*", help="Only this device: data, a GPU's UUID. Default: all.")
@click.option("--for", "length", required=True, metavar="LENGTH", help="How long: 30m, 8h, 7d.")
@click.option("--reason", required=True, help="Why, for who comes later.")
@click.pass_obj
def silence(session: Session, rule: str, device: str, length: str, reason: str) -> None:
    """Tell nobody about RULE for a while. It is still raised, stored and shown.

    RULE is a rule id of docs/HARDWARE.md, with * and ? as wildcards.

    \b
    Example:
      appliance alerts silence 'gpu.*' --for 8h --reason "the fan is being changed"
    """
    from appliance.alerts import orders

    try:
        made = orders.silence(
            session.config.data_dir, rule, for_s=length_s(length, "--for"), author=who(), reason=reason, device=device
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    _audit(session, "alert.silence", f"{rule} {device}")
    click.echo(f"silenced: {made.id}")


@alerts.command()
@click.argument("silence_id", metavar="ID")
@click.pass_obj
def unsilence(session: Session, silence_id: str) -> None:
    """End the silence ID now.

    \b
    Example:
      appliance alerts unsilence 01m86k5q6r0v5v3h9w2n8c4xqk
    """
    from appliance.alerts import orders

    if not orders.end_silence(session.config.data_dir, silence_id):
        raise click.ClickException(f"no silence {silence_id}: `appliance alerts list` shows them")
    _audit(session, "alert.unsilence", silence_id)
    click.echo("ended")


@alerts.command()
@click.argument("alert")
@click.option("--note", default="", help="What is known or done about it.")
@click.pass_obj
def ack(session: Session, alert: str, note: str) -> None:
    """Say that somebody has seen ALERT: no more reminders, and what has happened once is cleared.

    \b
    Example:
      appliance alerts ack mem-oom --note "was the nightly import"
    """
    from appliance.alerts import orders

    raised = [one.alert for view in asyncio.run(_views(session)) for one in view.alerts]
    if alert not in raised:
        raise click.ClickException(f"{alert} is not raised; what is: {', '.join(raised) or 'nothing'}")
    orders.acknowledge(session.config.data_dir, alert, author=who(), note=note)
    _audit(session, "alert.ack", alert)
    click.echo("acknowledged")


@alerts.command()
@click.pass_obj
def test(session: Session) -> None:
    """Send a message to every address of notify.urls, now, and say what became of it.

    \b
    Example:
      appliance alerts test
    """
    import importlib.util

    from appliance.alerts.notifier import MISSING, send
    from appliance.alerts.send import Order
    from appliance.monitor.sample import host_id

    settings = session.config.notify
    if not settings.urls:
        raise click.ClickException("notify.urls is empty: nobody is told. Add an address to the configuration.")
    if importlib.util.find_spec("apprise") is None:
        raise click.ClickException(MISSING)
    order = Order(
        urls=settings.urls, title=f"{host_id()}: a test", body="This is a test of the notifications.", severity="info"
    )
    outcomes = asyncio.run(send(order, settings.timeout_s))
    for url, outcome in zip(settings.urls, outcomes, strict=True):
        click.echo(f"{url.partition('://')[0]}://…  {'sent' if outcome.ok else outcome.error}")
    if not all(outcome.ok for outcome in outcomes):
        raise click.ClickException("not every address was reached")


async def _views(session: Session) -> list[HostView]:
    from appliance.boxlink import connect
    from appliance.monitor.latest import latest

    async with await connect(session.config) as bus:
        return await latest(bus)


def _audit(session: Session, action: str, target: str) -> None:
    """To the audit trail, when the box runs."""
    from appliance.errors import BoxNotRunning
    from bus.errors import BusError

    with contextlib.suppress(BoxNotRunning, BusError):
        asyncio.run(_publish(session, action, target))


async def _publish(session: Session, action: str, target: str) -> None:
    from appliance.boxlink import connect
    from bus.events import UserAction

    async with await connect(session.config) as bus:
        await bus.publish(UserAction(source="cli", user=who(), action=action, target=target))
