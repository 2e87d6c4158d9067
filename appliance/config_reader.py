"""Reads a YAML text and environment variables into a settings struct, collecting every problem with its place.

PyYAML composes the text into nodes that know their line and column; scalars follow YAML 1.2's core schema, so `off`
and `1:30` stay text. Each value is checked against its field's type and limits by msgspec. Nothing is raised on the
way: `problems` holds all that was found, in the order of the text.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml
from msgspec import Struct

from appliance.config_fields import Setting, members, settings_of, takes_text, unwrap, walk
from appliance.errors import Problem

MAX_TEXT_BYTES = 1024**2
PREFIX = "APPLIANCE_"
NOT_SETTINGS = frozenset({"APPLIANCE_CONFIG", "APPLIANCE_RESOLVED_CONFIG"})
"""Variables with the prefix that mean something else."""

S = TypeVar("S", bound=Struct)


class _Loader(yaml.SafeLoader):
    """YAML 1.2 core scalars: `true`, `null`, decimal numbers; anything else is text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's attribute


for _tag, _pattern, _first in (
    ("bool", r"true|false|True|False|TRUE|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?(0|[1-9][0-9]*)", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first))
    if _tag == "null":
        _Loader.add_implicit_resolver("tag:yaml.org,2002:null", re.compile(r"^$"), [""])


def _float(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> float:
    return float(str(loader.construct_scalar(node)))


_Loader.add_constructor("tag:yaml.org,2002:float", _float)

Place = Callable[[yaml.Node], str]


class SettingsReader:
    """Gathers values for one settings struct from any number of sources, later ones winning; then `build`s it."""

    def __init__(self, kind: type[Struct]) -> None:
        self.kind = kind
        self.problems: list[Problem] = []
        self.places: dict[str, str] = {}
        """Where each key was written last."""
        self._values: dict[str, Any] = {}

    def read_text(self, text: str, name: str, base: Path) -> None:
        """Take a YAML document. `name` is how it is called in messages; relative paths are below `base`."""
        if len(text.encode()) > MAX_TEXT_BYTES:
            self._wrong(name, "", f"larger than {MAX_TEXT_BYTES} bytes: this is not a configuration file")
            return
        try:
            node = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
            self._wrong(where, "", f"not YAML: {error.problem or error.context}; check indentation, colons and quotes")
        except yaml.YAMLError as error:
            self._wrong(name, "", f"not YAML: {str(error).splitlines()[0]}; save the file as UTF-8 text")
        except RecursionError:
            self._wrong(name, "", "nested too deeply; settings are at most three levels deep")
        else:
            if node is not None:
                self._mapping(
                    node, self.kind, "", self._values, base,
                    lambda n: f"{name}:{n.start_mark.line + 1}:{n.start_mark.column + 1}",
                )  # fmt: skip

    def read_environment(self, environ: Mapping[str, str], base: Path) -> None:
        """Take `APPLIANCE_SECTION__NAME=value`; values are YAML, relative paths are below `base`."""
        for variable in sorted(environ):
            if variable.startswith(PREFIX) and variable not in NOT_SETTINGS:
                self._variable(variable, environ[variable], base)

    def build(self, kind: type[S], base: Path) -> S:
        """The struct with everything read so far, its paths absolute (relative defaults are below `base`).

        Values with problems keep their default, so call it for a usable result only while `problems` is empty.
        """
        return self._build(kind, self._values, None, "", base)

    def _build(self, kind: type[S], values: dict[str, Any], default: S | None, key: str, base: Path) -> S:
        made: dict[str, Any] = {}
        for setting in settings_of(kind, key, default):
            if (section := setting.section) is not None:
                below = values.get(setting.name, {})
                made[setting.name] = self._build(section, below, setting.default, f"{setting.key}.", base)
            else:
                made[setting.name] = _absolute(values.get(setting.name, setting.default), base)
        try:
            return kind(**made)
        except (ValueError, TypeError) as error:  # a struct's own __post_init__
            name = key.rstrip(".")
            self._wrong(self.places.get(name, "defaults"), name, str(error))
            return default if default is not None else kind()

    def _variable(self, variable: str, text: str, base: Path) -> None:
        kind, values, path = self.kind, self._values, ""
        parts = variable.removeprefix(PREFIX).lower().split("__")
        for depth, part in enumerate(parts):
            setting = next((s for s in settings_of(kind, path) if s.name == part), None)
            if setting is None:
                self._unknown(f"environment {variable}", f"{path}{part}", kind, path, as_variable=True)
                return
            if depth + 1 < len(parts) and setting.section is not None:
                kind, path = setting.section, f"{setting.key}."
                values = values.setdefault(part, {})
            elif depth + 1 < len(parts):
                self._wrong(
                    f"environment {variable}", setting.key, f"a value, not a section; write {_env(setting.key)}"
                )
                return
        assert setting is not None
        node = _compose_value(text, setting)
        self._entry(node, setting, values, base, lambda _node: f"environment {variable}")

    def _mapping(
        self, node: yaml.Node, kind: type[Struct], path: str, into: dict[str, Any], base: Path, place: Place
    ) -> None:
        if _is_null(node):
            return  # a section whose every line is commented out
        if not isinstance(node, yaml.MappingNode):
            inside = f" below {path.rstrip('.')}" if path else ""
            known = ", ".join(s.name for s in settings_of(kind))
            self._wrong(place(node), path.rstrip("."), f"expected `name: value` lines{inside}; known names: {known}")
            return
        known_here = {setting.name: setting for setting in settings_of(kind, path)}
        seen: dict[str, str] = {}
        for key_node, value_node in node.value:
            name = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
            where = place(key_node)
            if name in seen:
                self._wrong(where, f"{path}{name}", f"written twice, first at {seen[name]}; keep one")
            elif name in known_here:
                self._entry(value_node, known_here[name], into, base, place, where)
            else:
                self._unknown(where, f"{path}{name}", kind, path)
            seen.setdefault(name, where)

    def _entry(
        self,
        node: yaml.Node,
        setting: Setting,
        into: dict[str, Any],
        base: Path,
        place: Place,
        where: str | None = None,
    ) -> None:
        self.places[setting.key] = where or place(node)
        if (section := setting.section) is not None:
            below = into.setdefault(setting.name, {})
            self._mapping(node, section, f"{setting.key}.", below, base, place)
            return
        try:
            into[setting.name] = _absolute(_convert(node, setting), base)
        except (msgspec.ValidationError, yaml.YAMLError, RecursionError, RuntimeError) as error:
            detail = "" if isinstance(node, yaml.ScalarNode) else f" ({str(error).splitlines()[0]})"
            hint = f" ({setting.description})" if setting.has_form else ""
            self._wrong(place(node), setting.key, f"found {_shown(node)}{detail}; write {setting.accepts}{hint}")

    def _unknown(self, where: str, key: str, kind: type[Struct], path: str, *, as_variable: bool = False) -> None:
        nearest = _nearest(key, kind, path, self.kind)
        said = _env(nearest) if as_variable and nearest else nearest
        known = ", ".join(setting.name for setting in settings_of(kind))
        self._wrong(where, key, f"no such setting; {f'did you mean {said}?' if said else f'known here: {known}'}")

    def _wrong(self, where: str, key: str, message: str) -> None:
        self.problems.append(Problem(where=where, key=key, message=message))


def _convert(node: yaml.Node, setting: Setting) -> Any:
    value = _Loader("").construct_document(node)
    try:
        return msgspec.convert(value, setting.type, dec_hook=_decode_path)
    except msgspec.ValidationError:
        if isinstance(node, yaml.ScalarNode) and takes_text(setting.type) and not _is_null(node):
            return msgspec.convert(node.value, setting.type, dec_hook=_decode_path)
        raise


def _decode_path(kind: type, value: object) -> Path:
    if kind is not Path or not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("expected a path")
    return Path(value)


def _absolute(value: Any, base: Path) -> Any:
    """`value`, made absolute when it is a path. Links stay as written."""
    return Path(os.path.abspath(base / value.expanduser())) if isinstance(value, Path) else value  # noqa: PTH100


def _compose_value(text: str, setting: Setting) -> yaml.Node:
    """A variable's value as a node. What is not YAML (a path with a colon, say) is plain text."""
    try:
        node = yaml.compose(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError):
        node = None
        if text.strip():
            return yaml.ScalarNode("tag:yaml.org,2002:str", text)
    if node is None:
        return yaml.ScalarNode("tag:yaml.org,2002:null", "")
    text_only = all(unwrap(member) in (str, Path) for member in members(setting.type))
    if text_only and not isinstance(node, yaml.ScalarNode):
        return yaml.ScalarNode("tag:yaml.org,2002:str", text)
    return node


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _shown(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return "nothing" if _is_null(node) and not node.value else repr(str(node.value)[:80])
    return "a list" if isinstance(node, yaml.SequenceNode) else "a section"


def _nearest(key: str, kind: type[Struct], path: str, root: type[Struct]) -> str | None:
    """The setting that was probably meant: a like name beside it, else the same name elsewhere, else a like key."""
    name = key.rpartition(".")[2]
    if beside := difflib.get_close_matches(name, [setting.name for setting in settings_of(kind)], n=1):
        return f"{path}{beside[0]}"
    everywhere = [setting.key for setting in walk(root)]
    if elsewhere := [other for other in everywhere if other.rpartition(".")[2] == name]:
        return elsewhere[0]
    return next(iter(difflib.get_close_matches(key, everywhere, n=1, cutoff=0.8)), None)


def _env(key: str) -> str:
    return PREFIX + key.upper().replace(".", "__")
