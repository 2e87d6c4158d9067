"""The configuration in words, made from the settings tree: the commented `appliance.yaml` and the reference page."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any

from appliance.config_fields import Setting, number, settings_of, walk
from appliance.settings import Config

WIDTH = 110

TEMPLATE_HEAD = """\
# The appliance's configuration. Every key stands here with its default; delete what you don't change.
# Read from: -c FILE, else $APPLIANCE_CONFIG, else ./appliance.yaml, else /etc/appliance/appliance.yaml.
# Any key can be set by the environment: APPLIANCE_BUS__PORT=4333. `appliance config check` names every mistake.
# Relative paths are below the folder of this file.
"""

REFERENCE_HEAD = """\
# Configuration

Read from the first of: `-c FILE`, `$APPLIANCE_CONFIG`, `./appliance.yaml`, `/etc/appliance/appliance.yaml`; without one
the defaults hold. Any key can be set by the environment, sections joined by two underscores:
`APPLIANCE_BUS__PORT=4333`. Relative paths are below the file's folder; in the environment, below the working folder.
Values are YAML 1.2: `off` is text, `true` and `false` are the only booleans.

<!-- test -->
```console
appliance config check
appliance config show
appliance -c /etc/appliance/appliance.yaml config show --json
```

`config check` reads everything and lists every mistake at once, each as `file:line:column: key: what is wrong; what to
write instead`. A running box reads its configuration at start.

This page and `appliance.yaml` are made from `appliance/settings.py` and the stages' options (`make docs`).
"""


def template() -> str:
    """`appliance.yaml` with every key at its default."""
    return "\n".join([TEMPLATE_HEAD.rstrip(), *_yaml_lines(settings_of(Config), "", set())]) + "\n"


def reference() -> str:
    """`docs/CONFIGURATION.md`: a table for each section."""
    lines = [REFERENCE_HEAD.rstrip(), ""]
    sections: dict[str, list[Setting]] = {}
    titles: dict[str, str] = {"": "The box."}
    for setting in walk(Config):
        if setting.section is not None:
            titles[setting.key] = setting.description
        else:
            sections.setdefault(setting.key.rpartition(".")[0], []).append(setting)
    for section, settings in sections.items():
        lines += [f"## `{section}`" if section else "## Top level", "", titles[section], ""]
        lines += ["| key | default | may be | what it does |", "| --- | --- | --- | --- |"]
        lines += [
            f"| `{_cell(s.key)}` | `{_cell(_value(s.default))}` | {_cell(s.accepts)} | {_cell(s.description)} |"
            for s in settings
        ]
        lines.append("")
    return "\n".join(lines)


def _yaml_lines(settings: list[Setting], indent: str, explained: set[type]) -> list[str]:
    """Lines for one section. A struct that stands in several places is explained where it stands first."""
    lines: list[str] = []
    for setting in settings:
        if not indent:
            lines.append("")
        if (section := setting.section) is not None:
            first = section not in explained
            explained.add(section)
            lines += _comment(setting.description, indent) if first else []
            lines.append(f"{indent}{setting.name}:")
            below = settings_of(section, f"{setting.key}.", setting.default)
            lines += _yaml_lines(below, indent + "  ", explained) if first else _bare_lines(below, indent + "  ")
        else:
            lines += _comment(f"{setting.description} May be {setting.accepts}.", indent)
            lines += _bare_lines([setting], indent)
    return lines


def _bare_lines(settings: list[Setting], indent: str) -> list[str]:
    """Lines without explanations; settings structs that stand in several places hold values only."""
    return [f"{indent}{setting.name}: {_value(setting.default)}{_size(setting)}" for setting in settings]


def _size(setting: Setting) -> str:
    """A remark that says a number of bytes in words."""
    if not setting.name.endswith("_bytes") or not isinstance(setting.default, int) or setting.default < 1024**2:
        return ""
    gib = setting.default / 1024**3
    return f"  # {gib:g} GiB" if gib >= 1 else f"  # {setting.default / 1024**2:g} MiB"


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _value(default: Any) -> str:
    """A default as YAML on one line (JSON is YAML; plain words need no quotes)."""
    if isinstance(default, Path):
        default = str(default)
    if isinstance(default, str) and default.replace("-", "").replace("_", "").isalnum() and not default[0].isdigit():
        return default if default not in ("true", "false", "null") else json.dumps(default)
    if isinstance(default, int | float) and not isinstance(default, bool):
        return number(default)
    return json.dumps(list(default) if isinstance(default, tuple | set | frozenset) else default, ensure_ascii=False)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<") if not text.startswith("`") else text


def main(argv: list[str]) -> None:
    """Print the page that `argv` names."""
    pages = {"--template": template, "--reference": reference}
    if len(argv) != 1 or argv[0] not in pages:
        sys.stderr.write(f"usage: python -m appliance.config {'|'.join(pages)}\n")
        raise SystemExit(2)
    sys.stdout.write(pages[argv[0]]())
