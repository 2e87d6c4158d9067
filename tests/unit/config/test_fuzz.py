"""Whatever is written as a configuration: it is taken as written, or refused with a list of places. Never a crash."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from hypothesis import given
from hypothesis import strategies as st

from appliance.config import Config, load
from appliance.config_fields import members, metas, optional, unwrap, walk
from appliance.config_reference import template
from appliance.errors import ConfigError

VALUES = [setting for setting in walk(Config) if setting.section is None]
LINES = template().splitlines()


def loaded(text: str, environ: dict[str, str] | None = None) -> Config | None:
    """The configuration, or None when it was refused as it must be."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "box.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        refused: ConfigError
        try:
            return load(path, environ or {})
        except ConfigError as error:
            refused = error
    assert refused.problems
    assert all(problem.where and problem.message for problem in refused.problems)
    return None


def fitting(kind: Any) -> st.SearchStrategy[Any]:
    """Values that a setting of this type must take, for numbers and choices; null where it may be."""
    one = unwrap(members(kind)[0])
    limits = [*metas(kind), *metas(members(kind)[0])]
    low = max((meta.ge for meta in limits if meta.ge is not None), default=0)
    high = min((meta.le for meta in limits if meta.le is not None), default=2**40)
    strategies: list[st.SearchStrategy[Any]] = [st.none()] if optional(kind) else []
    if get_origin(one) is Literal:
        strategies.append(st.sampled_from(get_args(one)))
    elif one is bool:
        strategies.append(st.booleans())
    elif one is int:
        step = next((meta.multiple_of for meta in limits if meta.multiple_of), 1)
        strategies.append(st.integers(math.ceil(low / step), math.floor(high / step)).map(lambda n: int(n * step)))
    elif one is float:
        strategies.append(st.floats(float(low), float(high), allow_nan=False))
    return st.one_of(strategies)


TAKEN = [setting for setting in VALUES if not fitting(setting.type).is_empty]


@given(st.text())
def test_any_text(text: str) -> None:
    loaded(text)


@given(st.lists(st.sampled_from(LINES), max_size=12), st.text(max_size=8), st.integers(0, 12))
def test_the_templates_lines_shuffled_and_spoilt(lines: list[str], junk: str, at: int) -> None:
    loaded("\n".join([*lines[:at], junk, *lines[at:]]))


@given(st.sampled_from(VALUES), st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_any_text_in_a_variable(setting: Any, text: str) -> None:
    loaded("", {"APPLIANCE_" + setting.key.upper().replace(".", "__"): text})


@given(st.data())
def test_a_value_within_its_limits_is_taken_as_written(data: st.DataObject) -> None:
    setting = data.draw(st.sampled_from(TAKEN))
    value = data.draw(fitting(setting.type))
    text = json.dumps(value)
    nested = text
    for name in reversed(setting.key.split(".")):
        nested = f"{{{name}: {nested}}}"
    by_file = loaded(nested)
    by_environment = loaded("", {"APPLIANCE_" + setting.key.upper().replace(".", "__"): text})
    assert (by_file is None) == (by_environment is None)
    for config in (by_file, by_environment):
        if config is not None:  # None: it contradicts another setting
            found: Any = config
            for name in setting.key.split("."):
                found = getattr(found, name)
            assert found == value
