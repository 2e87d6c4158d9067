"""Tasks beside the work of a process: one that fails is never only silent."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

log = logging.getLogger(__name__)


def in_background(
    work: Coroutine[object, object, None], name: str, on_failure: Callable[[Exception], None] | None = None
) -> asyncio.Task[None]:
    """Run `work` beside the caller, who keeps the task and ends it by cancelling it.

    When it raises, that is logged at once with its reason, and `on_failure` is called with it: for an owner who is
    useless without it.
    """
    task = asyncio.create_task(work, name=name)

    def ended(task: asyncio.Task[None]) -> None:
        if task.cancelled() or (error := task.exception()) is None:
            return
        log.error("%s failed: %s", name, error, exc_info=error)
        if on_failure is not None and isinstance(error, Exception):
            on_failure(error)

    task.add_done_callback(ended)
    return task
