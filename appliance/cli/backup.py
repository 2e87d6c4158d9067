"""`appliance backup` and `appliance restore`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from appliance.cli import Session

if TYPE_CHECKING:
    from appliance.backup.manifest import Manifest

FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("file", type=FILE)
@click.option("--clips", is_flag=True, help="Also the finished clips of every job.")
@click.option("--sources", is_flag=True, help="Also the videos of unfinished jobs, so that they can go on.")
@click.option("--force", is_flag=True, help="Replace FILE when it exists.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def backup(session: Session, file: Path, clips: bool, sources: bool, force: bool, as_json: bool) -> None:
    """Write a backup of the box to FILE (a .tar.gz), while it runs or not.

    It holds the databases as of one moment, the configuration, and what unfinished jobs have so far. FILE contains
    credentials and is readable by its owner only.

    \b
    Example:
      appliance backup /mnt/usb/appliance-2026-01-31.tar.gz
      appliance backup --clips --sources /mnt/usb/everything.tar.gz
    """
    import os

    from appliance.backup.create import create
    from appliance.config import config_file
    from appliance.storage.volume import size_text

    with _progress("backing up") as report:
        made = create(
            session.config,
            file,
            clips=clips,
            sources=sources,
            replace=force,
            config_file=config_file(session.config_path, os.environ),
            report=report,
        )
    if as_json:
        told = {"file": made.file, "size_bytes": made.size_bytes, **_told(made.manifest)}
        click.echo(_json({**told, "left_out_jobs": made.left_out_jobs, "left_out_bytes": made.left_out_bytes}))
        return
    click.echo(f"{made.file}: {size_text(made.size_bytes)}")
    _print(made.manifest)
    if made.left_out_jobs:
        click.echo(
            f"  {made.left_out_jobs} unfinished jobs are in it without their videos "
            f"({size_text(made.left_out_bytes)}): restored, they would have to be added again; "
            "--sources takes the videos along"
        )


@click.command()
@click.argument("file", type=FILE)
@click.option("--into", type=FOLDER, metavar="DIR", help="Data folder to make. Default: data_dir of the configuration.")
@click.option("--check", is_flag=True, help="Only check that FILE is whole; touch nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_obj
def restore(session: Session, file: Path, into: Path | None, check: bool, as_json: bool) -> None:
    """Put the backup FILE back into an empty data folder.

    Every byte is checked before anything is written. The next `appliance up` on that folder fills the bus from the
    database and goes on with the jobs that were open.

    \b
    Example:
      appliance restore --check /mnt/usb/everything.tar.gz
      appliance restore /mnt/usb/everything.tar.gz
      appliance restore /mnt/usb/everything.tar.gz --into /srv/appliance/data
    """
    from appliance.backup.restore import restore as put_back
    from appliance.backup.restore import verify

    if check:
        with _progress("checking") as report:
            manifest = verify(file, report)
        if as_json:
            click.echo(_json({"file": str(file), **_told(manifest)}))
        else:
            click.echo(f"{file} is whole")
            _print(manifest)
        return
    folder = (into or session.config.data_dir).absolute()
    with _progress("restoring") as report:
        manifest = put_back(file, folder, report)
    if as_json:
        click.echo(_json({"file": str(file), "data_dir": str(folder), **_told(manifest)}))
        return
    click.echo(f"{folder} is the data folder of this backup; start the box on it with `appliance up`")
    _print(manifest)
    click.echo(f"  the configuration of then is in {folder / 'restored'}")
    if manifest.models:
        click.echo(f"  fetch its models with `appliance models pull {' '.join(manifest.models)}`")


def _told(manifest: Manifest) -> dict[str, Any]:
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(manifest)
    del told["items"]
    return {**told, "files": len(manifest.items), "bytes": manifest.bytes}


def _print(manifest: Manifest) -> None:
    from appliance.storage.volume import size_text

    jobs = ", ".join(f"{count} {state}" for state, count in manifest.jobs.items()) or "no jobs"
    click.echo(f"  as of {manifest.created_at:%Y-%m-%d %H:%M:%S} UTC, event {manifest.seq}: {jobs}")
    clips = "with" if manifest.clips else "without"
    sources = "with" if manifest.sources else "without"
    click.echo(
        f"  {len(manifest.items)} files, {size_text(manifest.bytes)}; {clips} finished clips, {sources} videos of "
        "unfinished jobs"
    )
    if manifest.skipped:
        click.echo(f"  not in it, because they went away meanwhile: {', '.join(manifest.skipped[:5])}")


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error when somebody sits there."""
    with click.progressbar(length=1000, label=what, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def report(done: int, total: int) -> None:
            at = done * 1000 // max(1, total)
            if at != bar.pos:
                bar.update(at - bar.pos)

        yield report


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value)).decode()
