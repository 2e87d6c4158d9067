"""The settings tree seen as data: one `Setting` a key, with what may be written there in words."""

from __future__ import annotations

import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo

FILLED = frozenset({"models_dir"})
"""Options of stages that are no settings of their own: `appliance.config.load` fills them in."""


class Setting(Struct, frozen=True, kw_only=True):
    """One field of a settings struct, with the default that holds where it stands."""

    key: str
    """Dotted, from the root."""
    type: Any
    default: Any

    @property
    def name(self) -> str:
        return self.key.rpartition(".")[2]

    @property
    def section(self) -> type[Struct] | None:
        """The settings struct below this key, or None for a value."""
        bare = unwrap(self.type)
        return bare if isinstance(bare, type) and issubclass(bare, Struct) else None

    @property
    def description(self) -> str:
        """The field's own `Meta` description; for a section, its docstring."""
        if (section := self.section) is not None:
            return (section.__doc__ or "").split("\n")[0]
        said = " ".join(meta.description for meta in metas(self.type) if meta.description)
        return said if said.endswith(".") or not said else f"{said}."

    @property
    def accepts(self) -> str:
        """What may be written, in words: `a whole number from 1 to 300`."""
        return accepts(self.type)

    @property
    def has_form(self) -> bool:
        """Whether its text must have a form that only the description explains."""
        return any(meta.pattern for meta in metas(self.type))


def settings_of(kind: type[Struct], prefix: str = "", instance: Struct | None = None) -> list[Setting]:
    """The fields of one settings struct. `instance` is the default that stands where the struct is used."""
    found = []
    for field in _fields(kind):
        if instance is not None:
            default = getattr(instance, field.name)
        elif field.default is not msgspec.NODEFAULT:
            default = field.default
        else:
            default = field.default_factory() if callable(field.default_factory) else None
        found.append(Setting(key=f"{prefix}{field.encode_name}", type=field.type, default=default))
    return found


@cache
def _fields(kind: type[Struct]) -> tuple[FieldInfo, ...]:
    """Reading a struct's types costs a millisecond, so it is done once."""
    return tuple(field for field in msgspec.structs.fields(kind) if field.name not in FILLED)


def walk(kind: type[Struct], prefix: str = "", instance: Struct | None = None) -> Iterator[Setting]:
    """Every setting below `kind`, sections before what they hold, in the order of declaration."""
    for setting in settings_of(kind, prefix, instance):
        yield setting
        if (section := setting.section) is not None:
            yield from walk(section, f"{setting.key}.", setting.default)


def unwrap(kind: Any) -> Any:
    """The type inside `Annotated`."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return kind


def members(kind: Any) -> tuple[Any, ...]:
    """The members of a union without None; a single type is its own only member."""
    bare = unwrap(kind)
    if get_origin(bare) in (Union, types.UnionType):
        return tuple(member for member in get_args(bare) if member is not type(None))
    return (kind,)


def optional(kind: Any) -> bool:
    """Whether null may be written."""
    bare = unwrap(kind)
    return get_origin(bare) in (Union, types.UnionType) and type(None) in get_args(bare)


def takes_text(kind: Any) -> bool:
    """Whether any text is of this type, so that an unquoted `8080` means the text."""
    return any(unwrap(member) in (str, Path) for member in members(kind))


def metas(kind: Any) -> list[Meta]:
    """The constraints and descriptions on a type and on the members of its union."""
    found = [meta for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, Meta)]
    if members(kind) != (kind,):
        for member in members(kind):
            found += metas(member)
    return found


def accepts(kind: Any) -> str:
    """What may be written for this type, in words."""
    outer = [meta for meta in getattr(kind, "__metadata__", ()) if isinstance(meta, Meta)]
    said = [_one(member, outer) for member in members(kind)]
    return " or ".join([*said, "null"] if optional(kind) else said)


def _one(kind: Any, outer: list[Meta]) -> str:
    bare, limits = unwrap(kind), [*outer, *metas(kind)]
    if get_origin(bare) is Literal:
        return "one of " + ", ".join(str(value) for value in get_args(bare))
    if get_origin(bare) in (list, tuple, set, frozenset):
        return f"a list, each {accepts(get_args(bare)[0])}"
    if get_origin(bare) is dict:
        return f"names, each with {accepts(get_args(bare)[1])}"
    noun = {bool: "true or false", int: "a whole number", float: "a number", str: "text", Path: "a path"}
    return noun.get(bare, getattr(bare, "__name__", str(bare))) + _range(limits)


def _range(limits: list[Meta]) -> str:
    def first(name: str) -> Any:
        return next((value for meta in limits if (value := getattr(meta, name)) is not None), None)

    least, most = first("ge"), first("le")
    step = f", a multiple of {number(first('multiple_of'))}" if first("multiple_of") is not None else ""
    if least is not None and most is not None:
        return f" from {number(least)} to {number(most)}{step}"
    words = (
        ("ge", "of at least"), ("gt", "more than"), ("le", "of at most"), ("lt", "less than"),
        ("min_length", "at least this long:"), ("max_length", "at most this long:"),
    )  # fmt: skip
    return "".join(f" {said} {number(first(name))}" for name, said in words if first(name) is not None) + step


def number(value: Any) -> str:
    """A limit or default as people write it: no `.0`, no exponent."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)
