"""Loads the configuration: one file, then the environment over it, everything checked before anything starts.

The first of these is read: the file given with `-c`, `$APPLIANCE_CONFIG`, `./appliance.yaml`,
`/etc/appliance/appliance.yaml`; with none, the defaults hold. Any key can be set by the environment,
`APPLIANCE_BUS__PORT=4333`. Relative paths are below the file's folder; in the environment, and without a file, below
the working folder.

    python -m appliance.config --template > appliance.yaml
    python -m appliance.config --reference > docs/CONFIGURATION.md
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from appliance.errors import ConfigError, Problem
from appliance.settings import Config as Config
from appliance.settings import contradictions

if TYPE_CHECKING:
    from appliance.config_reader import SettingsReader

SYSTEM_FILE = Path("/etc/appliance/appliance.yaml")


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """The configuration with every path absolute.

    `path` is the file given on the command line, if one was. Raises `ConfigError` with all problems at once: an
    unreadable file, an unknown or doubled key, a value of the wrong type or out of range, settings that contradict.
    """
    from appliance.config_reader import SettingsReader  # YAML: not for children, who are handed their configuration

    reader = SettingsReader(Config)
    file = config_file(path, environ)
    base = Path.cwd() if file is None else file.parent
    if file is not None:
        try:
            reader.read_text(file.read_text(encoding="utf-8"), str(file), base)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(
                [Problem(where=str(file), key="", message=f"cannot be read ({reason}); name a readable file with -c")]
            ) from error
    reader.read_environment(environ, Path.cwd())
    config = reader.build(Config, base)
    if not reader.problems:
        for key, message in contradictions(config):
            reader.problems.append(Problem(where=_place(reader, key), key=key, message=message))
    if reader.problems:
        raise ConfigError(reader.problems)
    return _with_models_dir(config)


def config_file(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """Which file `load` reads, absolute, or None for the defaults. A file that was named must exist."""
    if path is not None:
        return path.absolute()
    if named := environ.get("APPLIANCE_CONFIG"):
        return Path(named).expanduser().absolute()
    return next((file.absolute() for file in (Path("appliance.yaml"), SYSTEM_FILE) if file.is_file()), None)


def config_digest(config: Config) -> str:
    """16 hex digits that are equal exactly for equal configurations."""
    encoded = msgspec.json.encode(config, enc_hook=str, order="deterministic")
    return hashlib.sha256(encoded).hexdigest()[:16]


def _with_models_dir(config: Config) -> Config:
    """The same configuration, its stages told where models lie."""
    told = {}
    for stage in config.stages.__struct_fields__:
        options = getattr(config.stages, stage)
        if "models_dir" in options.__struct_fields__:
            folder = config.models_dir if options.models_dir is None else str(config.models_dir)
            told[stage] = replace(options, models_dir=folder)
    return replace(config, stages=replace(config.stages, **told))


def _place(reader: SettingsReader, key: str) -> str:
    """Where `key`, or the closest section above it, was written."""
    while key:
        if key in reader.places:
            return reader.places[key]
        key = key.rpartition(".")[0]
    return "defaults"


if __name__ == "__main__":
    from appliance.config_reference import main

    main(sys.argv[1:])
