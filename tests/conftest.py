"""For all tests: a clean environment, and an event loop that nothing of ours may block."""

from __future__ import annotations

import importlib.util
import inspect
import os
import shutil
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

from tests import no_redis

WATCHED = [name for name in ("bus", "appliance", "web") if importlib.util.find_spec(name) is not None]
"""A blocking call that one of these packages makes on a running event loop fails the test."""

settings.register_profile("tests", max_examples=50, deadline=None)
settings.register_profile("fuzz", max_examples=5000, deadline=None)  # `make fuzz`
settings.load_profile("tests")


def pytest_configure(config: pytest.Config) -> None:
    """Hides Redis before any module is imported, when asked to."""
    if os.environ.get(no_redis.VARIABLE) and (links := no_redis.hide()) is not None:
        config.add_cleanup(lambda: shutil.rmtree(links))


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("APPLIANCE_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_blocking_calls(request: pytest.FixtureRequest) -> Iterator[None]:
    if inspect.iscoroutinefunction(getattr(request.node, "function", None)):
        with blockbuster_ctx(WATCHED):
            yield
    else:
        yield
