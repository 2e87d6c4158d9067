"""The workers of one stage: as many as are wanted, no running work ever ended for it.

Growing starts processes; shrinking retires some, the idle ones first: each finishes what it has, however long that
takes, and leaves. A retired one still counts against `most`, so that growing again soon never runs more processes at
once than the stage may have.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from appliance.errors import ProcessFailed
from appliance.supervisor.child import Child
from bus.events import StageName

log = logging.getLogger(__name__)


class Pool:
    """`want` says how many, at any time; `start` waits for the first ones, `stop` ends all.

    `hire(n)`: a child for worker `n` of the stage, from 1, not started. `on_left`: one has left for good, by name.
    """

    def __init__(
        self, stage: StageName, *, most: int, hire: Callable[[int], Child], on_left: Callable[[str, int], None]
    ) -> None:
        self.stage = stage
        self.wanted = 0
        self._most = most
        self._hire = hire
        self._on_left = on_left
        self._staff: dict[int, Child] = {}
        self._retired: dict[int, Child] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    @property
    def children(self) -> list[Child]:
        """Everybody who is there, the retired included."""
        return [*self._staff.values(), *self._retired.values()]

    def of_worker(self, worker: str) -> Child | None:
        """The child that is this worker at the moment."""
        return next((child for child in self.children if child.status.worker == worker), None)

    async def start(self, wanted: int) -> None:
        """As `want`, and wait until they are ready. Raises `ProcessFailed` when one is not in time."""
        self.wanted = wanted
        await asyncio.gather(*(child.start() for child in self._grow()))

    def want(self, wanted: int) -> None:
        """From now on there are to be `wanted` workers."""
        if wanted != self.wanted:
            log.info("%s workers: %d wanted", self.stage, wanted, extra={"before": self.wanted})
        self.wanted = wanted
        self._fit()

    async def stop(self, grace_s: float) -> None:
        """End all; what is still there after `grace_s` is killed."""
        self._stopped = True
        await asyncio.gather(*(child.stop(grace_s) for child in self.children))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def kill(self) -> None:
        for child in self.children:
            child.kill()

    def _fit(self) -> None:
        if self._stopped:
            return
        for child in self._grow():
            self._run(self._started(child))
        surplus = len(self._staff) - self.wanted
        if surplus > 0:
            # The idle ones first, of these the last that came.
            order = sorted(self._staff, key=lambda n: (self._staff[n].status.job is not None, -n))
            for number in order[:surplus]:
                self._retired[number] = self._staff.pop(number)
                self._retired[number].retire()
                self._run(self._until_gone(number))

    def _grow(self) -> list[Child]:
        """New members of the staff, as far as there is room."""
        hired = []
        while len(self._staff) < self.wanted and len(self._staff) + len(self._retired) < self._most:
            number = next(n for n in range(1, self._most + 1) if n not in self._staff and n not in self._retired)
            self._staff[number] = self._hire(number)
            hired.append(self._staff[number])
        return hired

    async def _started(self, child: Child) -> None:
        try:
            await child.start()
        except ProcessFailed as error:
            log.warning("%s; it is tried again", error)

    async def _until_gone(self, number: int) -> None:
        child = self._retired[number]
        await child.gone()
        self._retired.pop(number, None)
        if not self._stopped:
            self._on_left(child.spec.name, child.restarts)
        self._fit()

    def _run(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
