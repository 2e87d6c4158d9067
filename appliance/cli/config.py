"""`appliance config`: check and show the configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from appliance.cli import Session


@click.group()
def config() -> None:
    """Check or show the configuration.

    \b
    Example:
      appliance config check
      appliance config show --json
    """


@config.command()
@click.pass_obj
def check(session: Session) -> None:
    """Name every mistake in the configuration, with its place.

    Ends with 0 when there is none, else with 2.

    \b
    Example:
      appliance config check
      appliance -c box.yaml config check
    """
    from appliance.config import config_digest, config_file

    digest = config_digest(session.config)
    file = config_file(session.config_path, os.environ)
    click.echo(f"{file if file is not None else 'no file, defaults'}: no mistakes (configuration {digest})")


@config.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--docs", is_flag=True, help="The reference of all keys (Markdown) instead of the values.")
@click.option("--template", is_flag=True, help="A commented file with every key at its default.")
@click.pass_obj
def show(session: Session, as_json: bool, docs: bool, template: bool) -> None:
    """Show the values in force; passwords in addresses are masked.

    \b
    Example:
      appliance config show
      appliance config show --template > appliance.yaml
    """
    from appliance import config_reference

    if docs or template:
        click.echo(config_reference.reference() if docs else config_reference.template(), nl=False)
        return
    import msgspec
    import yaml

    values = _masked(msgspec.to_builtins(session.config, enc_hook=_plain))
    # A notification address may be a secret as a whole: tokens stand in its host or path.
    values["notify"]["urls"] = [f"{url.partition('://')[0]}://***" for url in values["notify"]["urls"]]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(values)).decode())
    else:
        click.echo(yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120), nl=False)


def _plain(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} is not a settings type")


def _masked(values: Any) -> Any:
    """The same values that a person may write, with passwords inside addresses replaced by ***."""
    import re

    from appliance.config_fields import FILLED

    if isinstance(values, dict):
        return {name: _masked(value) for name, value in values.items() if name not in FILLED}
    if isinstance(values, list):
        return [_masked(value) for value in values]
    return re.sub(r"(://[^:/@\s]*:)[^@\s]+@", r"\1***@", values) if isinstance(values, str) else values
