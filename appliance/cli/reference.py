"""`docs/CLI.md`, made from the commands' own help: `python -m appliance.cli.reference > docs/CLI.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from appliance.cli import main

HEAD = """\
# Commands

Exit codes: 0 done, 1 failed, 2 bad usage or configuration. Made from the commands' own `--help` (`make docs`).
"""
WIDTH = 100


def every_command() -> Iterator[tuple[str, click.Command]]:
    """`appliance` and each command below it, with its full name, in the order of the help."""
    for context in _contexts(main, None):
        yield context.command_path, context.command


def reference() -> str:
    """The page."""
    commands = [f"## {c.command_path}\n\n```text\n{c.get_help()}\n```\n" for c in _contexts(main, None)]
    return "\n".join([HEAD, *commands])


def _contexts(command: click.Command, parent: click.Context | None, name: str = "appliance") -> Iterator[click.Context]:
    """The context in which each command would run, without running it."""
    context = command.make_context(name, [], parent, resilient_parsing=True, terminal_width=WIDTH)
    yield context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found is not None
            yield from _contexts(found, context, below)


if __name__ == "__main__":
    sys.stdout.write(reference())
