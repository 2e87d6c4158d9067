"""`appliance user`: who may log in to the pages."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from appliance.cli import Session

if TYPE_CHECKING:
    from appliance.config import Config

ROLE = click.Choice(("viewer", "operator", "admin"))


@click.group()
def user() -> None:
    """Who may log in, with which role. Works whether the box runs or not.

    A viewer sees jobs and clips, an operator also uploads, stops and retries, an admin also manages users and tokens.

    \b
    Example:
      appliance user add anna --role operator
    """


def _database(config: Config) -> Path:
    from appliance.accounts.database import path_of

    return path_of(config.data_dir)


def _password(user: str, from_stdin: bool) -> str:
    """The hash of a password that is typed twice, or read from standard input."""
    from appliance.accounts.secrets import hash_password

    if from_stdin:
        text = sys.stdin.readline().rstrip("\n")
    else:
        text = click.prompt(f"Password for {user}", hide_input=True, confirmation_prompt=True)
    return hash_password(str(text), user)


@user.command()
@click.argument("name")
@click.option("--role", type=ROLE, required=True, help="What the user may do.")
@click.option("--password-stdin", is_flag=True, help="Read the password from the first line of standard input.")
@click.pass_obj
def add(session: Session, name: str, role: str, password_stdin: bool) -> None:
    """Make a user; the password is asked for.

    \b
    Example:
      appliance user add anna --role operator
    """
    from appliance.accounts import users
    from appliance.accounts.database import changed

    users.check_name(name)
    kept = _password(name, password_stdin)
    wanted = users.check_role(role)
    changed(_database(session.config), lambda db: users.add(db, name, kept, wanted, time.time()))
    click.echo(f"{name} may log in as {role}")


@user.command()
@click.argument("name")
@click.option("--password-stdin", is_flag=True, help="Read the password from the first line of standard input.")
@click.pass_obj
def passwd(session: Session, name: str, password_stdin: bool) -> None:
    """Give a user a new password; ends the user's sessions.

    \b
    Example:
      appliance user passwd anna
    """
    from appliance.accounts import users
    from appliance.accounts.database import changed

    changed(_database(session.config), lambda db: users.find(db, name))
    kept = _password(name, password_stdin)
    changed(_database(session.config), lambda db: users.set_password(db, name, kept, time.time()))
    click.echo(f"{name} has a new password; sessions are ended")


@user.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_obj
def list_(session: Session, as_json: bool) -> None:
    """List the users.

    \b
    Example:
      appliance user list
    """
    import msgspec

    from appliance.accounts import users
    from appliance.accounts.database import changed

    found = changed(_database(session.config), users.all_users)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        return
    if not found:
        click.echo("no user yet: `appliance user add NAME --role admin`, or claim the box in a browser")
    for one in found:
        click.echo(f"{one.user:24} {one.role:9}{' disabled' if one.disabled else ''}")


@user.command()
@click.argument("name")
@click.option("--off", is_flag=True, help="Let the user log in again.")
@click.pass_obj
def disable(session: Session, name: str, off: bool) -> None:
    """Keep a user out; ends the user's sessions.

    \b
    Example:
      appliance user disable anna
      appliance user disable anna --off
    """
    from appliance.accounts import users
    from appliance.accounts.database import changed

    changed(_database(session.config), lambda db: users.set_disabled(db, name, not off, time.time()))
    click.echo(f"{name} may log in again" if off else f"{name} may not log in any more; sessions are ended")


@user.command()
@click.pass_obj
def claim(session: Session) -> None:
    """Print a new one-time address that makes the first administrator, good for 15 minutes.

    \b
    Example:
      appliance user claim
    """
    from appliance.accounts.database import changed
    from appliance.accounts.users import claimed
    from appliance.errors import AccountRefused

    if changed(_database(session.config), claimed):
        raise AccountRefused("this box has an administrator already: log in, or use `appliance user passwd`")
    click.echo(claim_url(session.config))


def claim_url(config: Config) -> str:
    """A new claim address. The token follows the `#`: browsers send that part to nobody, and no log holds it."""
    from appliance.accounts import claims
    from appliance.accounts.database import changed
    from appliance.face import read_web_file, shown_url

    found = read_web_file(config.data_dir)
    url = found.url if found is not None else shown_url(config.web, config.web.port)
    return f"{url}/claim#{changed(_database(config), lambda db: claims.issue(db, time.time()))}"
