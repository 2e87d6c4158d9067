"""Hatchling's hook: a wheel ships the built pages. For an editable install `make ui` builds them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class PagesHook(BuildHookInterface[Any]):
    """Runs `web/pages.py` before the files of a wheel are gathered."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Raises `PagesNotBuilt` and `PagesWrong` of `web.pages` when the pages cannot be built."""
        if version == "editable":
            return
        spec = importlib.util.spec_from_file_location("pages", Path(self.root) / "web" / "pages.py")
        assert spec is not None
        assert spec.loader is not None
        pages = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(pages)
        pages.build()
        build_data["artifacts"].append("web/ui/dist/**")
