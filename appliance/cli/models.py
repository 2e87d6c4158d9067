"""`appliance models`: the models on this box."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from appliance.cli import Session


@click.group()
def models() -> None:
    """List, fetch, check and remove models.

    The box works without any; see `appliance models list` for what each one improves.

    \b
    Example:
      appliance models list
      appliance models pull yunet whisper-small
    """


@models.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_obj
def list_models(session: Session, as_json: bool) -> None:
    """Show every known model and whether it is here.

    \b
    Example:
      appliance models list
      appliance models list --json
    """
    import msgspec

    from appliance.models import MIB, REGISTRY, state

    folder = session.config.models_dir
    rows = [(model, state(model, folder)) for model in REGISTRY]
    if as_json:
        told = [
            {**msgspec.to_builtins(have), "use": m.use, "license": m.license, "size_bytes": m.size_bytes}
            for m, have in rows
        ]
        click.echo(msgspec.json.format(msgspec.json.encode(told)).decode())
        return
    click.echo(f"in {folder}:")
    for model, have in rows:
        size = model.size_bytes / MIB
        click.echo(f"  {model.name:24} {have.state:10} {size:7.1f} MiB  {model.license:9} {model.use}")


@models.command()
@click.argument("names", nargs=-1)
@click.option("--from", "mirror", metavar="URL", help="Fetch from this mirror (a folder of files, or a hub).")
@click.pass_obj
def pull(session: Session, names: tuple[str, ...], mirror: str | None) -> None:
    """Fetch models from their publishers; without NAMES the recommended ones.

    A broken fetch continues where it stopped. Each file is checked before it is put in place.

    \b
    Example:
      appliance models pull
      appliance models pull yunet whisper-small
      appliance models pull yunet --from http://mirror.lan/models
    """
    from appliance.model_pull import pull as fetch
    from appliance.models import REGISTRY, find, state

    folder = session.config.models_dir
    for model in [find(name) for name in names] or [model for model in REGISTRY if model.recommended]:
        if state(model, folder, sums=True).state == "present":
            click.echo(f"{model.name}: already here, checksum matches")
            continue
        click.echo(f"{model.name}: fetching {model.size_bytes / 1024**2:.1f} MiB ({model.license})")
        path = fetch(model, folder, mirror=mirror, progress=_bar if sys.stderr.isatty() else None)
        click.echo(f"{model.name}: {path}")


@models.command()
@click.argument("name")
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.pass_obj
def add(session: Session, name: str, path: Path) -> None:
    """Take a model from a file or folder that you brought along.

    \b
    Example:
      appliance models add yunet /media/stick/face_detection_yunet_2023mar.onnx
      appliance models add whisper-small /media/stick/faster-whisper-small
    """
    from appliance.models import add as take
    from appliance.models import find

    click.echo(f"{name}: {take(find(name), path, session.config.models_dir)}")


@models.command()
@click.argument("names", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.pass_obj
def verify(session: Session, names: tuple[str, ...], as_json: bool) -> None:
    """Compare models with their checksums; without NAMES all that are here.

    Ends with 1 when one is damaged, or when one that was named is absent.

    \b
    Example:
      appliance models verify
      appliance models verify yunet
    """
    import msgspec

    from appliance.models import REGISTRY, find, state

    wanted = [find(name) for name in names] or list(REGISTRY)
    states = [state(model, session.config.models_dir, sums=True) for model in wanted]
    states = states if names else [have for have in states if have.state != "absent"]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(states)).decode())
    else:
        for have in states:
            click.echo(f"{have.name:24} {have.state:10} {have.detail}")
        if not states:
            click.echo("no model is on this box; see `appliance models list`")
    if any(have.state in ("damaged", "absent") for have in states):
        raise SystemExit(1)


@models.command()
@click.argument("names", nargs=-1, required=True)
@click.pass_obj
def remove(session: Session, names: tuple[str, ...]) -> None:
    """Delete models from this box.

    \b
    Example:
      appliance models remove whisper-tiny
    """
    from appliance.models import find
    from appliance.models import remove as delete

    for model in [find(name) for name in names]:
        gone = delete(model, session.config.models_dir)
        click.echo(f"{model.name}: {'removed' if gone else 'was not here'}")


def _bar(have: int, total: int) -> None:
    click.echo(f"\r  {have * 100 // total:3d} %", nl=have >= total, err=True)
