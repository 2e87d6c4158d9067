"""`appliance token`: API tokens for programs."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import click

from appliance.cli import Session

DAY_S = 86400.0


@click.group()
def token() -> None:
    """API tokens for programs: a name, a role, shown once. Works whether the box runs or not.

    A token is sent as `Authorization: Bearer TOKEN` and can never change users, passwords or tokens.

    \b
    Example:
      appliance token add backup --role viewer
    """


@token.command()
@click.argument("name")
@click.option("--role", type=click.Choice(("viewer", "operator", "admin")), required=True, help="What it may do.")
@click.option("--days", type=click.FloatRange(0, 36500, min_open=True), help="Days until it ends. Default: never.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def add(session: Session, name: str, role: str, days: float | None, as_json: bool) -> None:
    """Make a token and print it, this once.

    \b
    Example:
      appliance token add backup --role viewer --days 90
    """
    import msgspec

    from appliance.accounts import tokens, users
    from appliance.accounts.database import changed, path_of

    wanted = users.check_role(role)
    made, secret = changed(
        path_of(session.config.data_dir),
        lambda db: tokens.create(
            db,
            name=name,
            role=wanted,
            by="cli",
            now=time.time(),
            expires_s=None if days is None else days * DAY_S,
        ),
    )
    if as_json:
        click.echo(msgspec.json.encode({"id": made.id, "name": made.name, "role": made.role, "token": secret}).decode())
        return
    click.echo(secret)
    click.echo("Keep it now: it is not shown again.", err=True)


@token.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_obj
def list_(session: Session, as_json: bool) -> None:
    """List the tokens, without their secrets.

    \b
    Example:
      appliance token list
    """
    import msgspec

    from appliance.accounts import tokens
    from appliance.accounts.database import changed, path_of

    found = changed(path_of(session.config.data_dir), tokens.all_tokens)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    if not found:
        click.echo("no token yet: `appliance token add NAME --role ROLE`")
    for one in found:
        ends = "never ends" if one.expires_at is None else f"ends {_day(one.expires_at)}"
        used = "never used" if one.used_at is None else f"used {_day(one.used_at)}"
        click.echo(f"{one.id} {one.role:9} {ends:16} {used:16} {one.name}")


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


@token.command()
@click.argument("name")
@click.pass_obj
def revoke(session: Session, name: str) -> None:
    """End a token, by name or id, at once.

    \b
    Example:
      appliance token revoke backup
    """
    from appliance.accounts import tokens
    from appliance.accounts.database import changed, path_of
    from appliance.sqlite import sqlite3

    def change(db: sqlite3.Connection) -> None:
        tokens.revoke(db, tokens.by_name_or_id(db, name).id)

    changed(path_of(session.config.data_dir), change)
    click.echo(f"the token {name} is revoked")
