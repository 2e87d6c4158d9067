"""`appliance events`: the log of facts, live and past, what each type starts, and what of that has failed."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from appliance.cli import Session
from appliance.cli.person import length_s, who

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from appliance.store.failures import FailedAction

_REPLAY_WAIT_S = 15.0
_LOOK_S = 0.1


@click.group()
def events() -> None:
    """Watch and read events.

    \b
    Example:
      appliance events tap
      appliance events tap 'evt.job.failed.*' --since 24h
      appliance events table
      appliance events failed
    """


@events.command()
@click.argument("subject", default="evt.>")
@click.option("--since", metavar="AGE", help="Begin with what was stored since then: 90s, 10m, 1h, 7d.")
@click.option("--no-follow", is_flag=True, help="End after the past instead of waiting for more. Needs --since.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def tap(session: Session, subject: str, since: str | None, no_follow: bool, as_json: bool) -> None:
    """Print events as they are stored, each once and in order. Ctrl-C ends it.

    SUBJECT is a filter: evt.>, evt.clip.ready.>, evt.*.*.JOB. Any NATS client sees the same on live.SUBJECT.

    \b
    Example:
      appliance events tap
      appliance events tap 'evt.clip.>' --since 1h --json
    """
    age = None if since is None else _age(since)
    if no_follow and age is None:
        raise click.UsageError("--no-follow needs --since: from when on?")
    with contextlib.suppress(KeyboardInterrupt, BrokenPipeError):
        asyncio.run(_tap(session, subject, age, follow=not no_follow, as_json=as_json))


async def _tap(session: Session, subject: str, since: timedelta | None, *, follow: bool, as_json: bool) -> None:
    from appliance.boxlink import connect
    from bus import tap

    show = tap.json_line if as_json else tap.line
    async with await connect(session.config, "tap") as bus:
        source = tap.follow(bus, subject, since) if follow else tap.history(bus, subject, since)
        async for stored in source:
            click.echo(show(stored))


def _age(text: str) -> timedelta:
    return timedelta(seconds=length_s(text, "--since"))


@events.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def table(as_json: bool) -> None:
    """Print the event table: what each event type shows, invalidates, warms and starts.

    \b
    Example:
      appliance events table
      appliance events table --json
    """
    import msgspec

    from appliance.dispatcher.table import TABLE, lines

    if as_json:
        for name, row in TABLE.items():
            click.echo(msgspec.json.encode({"type": name, **msgspec.structs.asdict(row)}))
        return
    heading, *rows = lines()
    click.secho(heading, bold=True)
    click.echo("\n".join(rows))


@events.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.pass_obj
def failed(session: Session, as_json: bool) -> None:
    """List actions that failed: why, how often, when they are tried again. Works without a running box.

    \b
    Example:
      appliance events failed
    """
    import msgspec

    from appliance.store.failures import failed_actions

    rows = failed_actions(_database(session))
    if as_json:
        for row in rows:
            click.echo(msgspec.json.encode(row))
        return
    if not rows:
        click.echo("no action has failed")
        return
    click.secho(f"{'id':>5}  {'event':17}{'action':15}{'attempts':>8}  {'next try':21}  job", bold=True)
    for row in rows:
        item = (row.job or "-") + (f"/{row.clip}" if row.clip is not None else "")
        upcoming = "given up" if row.next_try_at is None else f"{row.next_try_at[:19]}Z"
        click.echo(f"{row.id:>5}  {row.type:17}{row.action:15}{row.attempts:>8}  {upcoming:21}  {item}")
        click.echo(f"       {row.reason}")


@events.command()
@click.argument("number", metavar="[ID]", type=int, required=False)
@click.option("--all", "everything", is_flag=True, help="Every failed action.")
@click.pass_obj
def replay(session: Session, number: int | None, everything: bool) -> None:
    """Run a failed action again, with all its attempts. ID is the number in `appliance events failed`.

    The request is an event: it is kept while the dispatcher is away. Exit code 1 when an action fails again.

    \b
    Example:
      appliance events replay 12
      appliance events replay --all
    """
    from appliance.dispatcher.actions import REPLAY

    rows = _chosen(session, number, everything)
    left = asyncio.run(_request(session, REPLAY, rows, everything=everything, over=_is_over))
    again = [row for row in left if row.attempts]
    click.echo(f"{len(rows) - len(left)} done, {len(again)} failed again, {len(left) - len(again)} still waiting")
    for row in again:
        click.echo(f"{row.id:>5}  {row.action}: {row.reason}")
    sys.exit(1 if left else 0)


@events.command()
@click.argument("number", metavar="[ID]", type=int, required=False)
@click.option("--all", "everything", is_flag=True, help="Every failed action.")
@click.pass_obj
def discard(session: Session, number: int | None, everything: bool) -> None:
    """Give a failed action up for good. ID is the number in `appliance events failed`.

    \b
    Example:
      appliance events discard 12
    """
    from appliance.dispatcher.actions import DISCARD

    rows = _chosen(session, number, everything)
    left = asyncio.run(_request(session, DISCARD, rows, everything=everything, over=lambda _before, now: now is None))
    click.echo(f"{len(rows) - len(left)} dropped")
    sys.exit(1 if left else 0)


def _database(session: Session) -> Path:
    return session.config.data_dir / "appliance.db"


def _chosen(session: Session, number: int | None, everything: bool) -> list[FailedAction]:
    from appliance.store.failures import failed_actions

    if (number is None) == (not everything):
        raise click.UsageError("give the ID of one failed action, or --all")
    rows = failed_actions(_database(session))
    chosen = rows if everything else [row for row in rows if row.id == number]
    if not chosen:
        raise click.ClickException(
            "no action has failed" if everything else f"no failed action {number}: see `appliance events failed`"
        )
    return chosen


def _is_over(before: FailedAction, now: FailedAction | None) -> bool:
    """Done, or failed once more since the request."""
    return now is None or (now.attempts > 0 and now.failed_at != before.failed_at)


async def _request(
    session: Session,
    action: str,
    rows: list[FailedAction],
    *,
    everything: bool,
    over: Callable[[FailedAction, FailedAction | None], bool],
) -> list[FailedAction]:
    """Ask the dispatcher, and wait a while for what becomes of it; the actions that are still there."""
    from appliance.boxlink import connect
    from appliance.store.failures import failed_actions
    from bus.events import UserAction

    target = "all" if everything else rows[0].target
    user = f"cli:{who()}"
    async with await connect(session.config) as bus:
        await bus.publish(UserAction(source="cli", user=user, action=action, target=target))
    deadline = asyncio.get_running_loop().time() + _REPLAY_WAIT_S
    while True:
        now = {row.target: row for row in await asyncio.to_thread(failed_actions, _database(session))}
        settled = all(over(row, now.get(row.target)) for row in rows)
        if settled or asyncio.get_running_loop().time() > deadline:
            return [now[row.target] for row in rows if row.target in now]
        await asyncio.sleep(_LOOK_S)
