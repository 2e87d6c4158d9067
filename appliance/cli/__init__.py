"""The `appliance` command: one group whose commands are imported only when they are run or listed.

Exit codes: 0 done, 1 failed, 2 bad usage or configuration. Errors of our own trees are printed as one plain message;
a traceback means a bug. To add a command, write its module and add a line to `COMMANDS`.
"""

from __future__ import annotations

import importlib
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from appliance.config import Config

COMMANDS = {
    "process": "appliance.cli.process:process",
    "up": "appliance.cli.up:up",
    "down": "appliance.cli.up:down",
    "status": "appliance.cli.up:status",
    "jobs": "appliance.cli.jobs:jobs",
    "events": "appliance.cli.events:events",
    "workers": "appliance.cli.workers:workers",
    "worker": "appliance.cli.workers:worker",
    "pause": "appliance.cli.control:pause",
    "resume": "appliance.cli.control:resume",
    "drain": "appliance.cli.control:drain",
    "ssot": "appliance.cli.ssot:ssot",
    "hardware": "appliance.cli.hardware:hardware",
    "storage": "appliance.cli.storage:storage",
    "alerts": "appliance.cli.alerts:alerts",
    "user": "appliance.cli.user:user",
    "token": "appliance.cli.token:token",
    "config": "appliance.cli.config:config",
    "models": "appliance.cli.models:models",
    "plan": "appliance.cli.plan:plan",
    "why": "appliance.cli.why:why",
    "doctor": "appliance.cli.doctor:doctor",
    "backup": "appliance.cli.backup:backup",
    "restore": "appliance.cli.backup:restore",
    "support": "appliance.cli.support:support",
    "rebuild": "appliance.cli.rebuild:rebuild",
}
"""Command name to `module:attribute`, in the order in which help lists them."""

FAILED = 1
BAD_USAGE = 2


class Session:
    """What every command gets (`click.pass_obj`): the configuration, read on first use."""

    def __init__(self, config_path: Path | None) -> None:
        self.config_path = config_path

    @cached_property
    def config(self) -> Config:
        """Raises `ConfigError` when it has problems."""
        from appliance.config import load

        return load(self.config_path, os.environ)


class Commands(click.Group):
    """Imports a command's module when the command is asked for, and prints our own errors plainly."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if (target := COMMANDS.get(cmd_name)) is None:
            return None
        module, attribute = target.split(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command), f"{target} is not a click command"
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            raise click.UsageError(f"No command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else ""), ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Exception as error:
            if (code := _exit_code(error)) is None:
                raise
            raise (_BadUsage if code == BAD_USAGE else click.ClickException)(str(error)) from error


class _BadUsage(click.ClickException):
    """Printed without the usage lines that a mistyped option gets."""

    exit_code = BAD_USAGE


def _exit_code(error: Exception) -> int | None:
    """The exit code of an error of ours, or None for anything else."""
    from appliance.errors import ApplianceError
    from bus.errors import BusError
    from stages.errors import StageError

    if isinstance(error, ApplianceError):
        return error.exit_code
    return FAILED if isinstance(error, BusError | StageError | PermissionError) else None


def _version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from importlib.metadata import version

        click.echo(f"appliance {version('agentos-appliance')}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "-c",
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Configuration. Default: $APPLIANCE_CONFIG, ./appliance.yaml, /etc/appliance/appliance.yaml.",
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.pass_context
def main(ctx: click.Context, config_path: Path | None) -> None:
    """Turn long videos into short, captioned, vertical clips.

    \b
    Example:
      appliance process talk.mp4 --clips 3 --out clips/
      appliance COMMAND --help
    """
    ctx.obj = Session(config_path)
