"""A box without processes: the product's own code for users, workers, supervisor and dispatcher on the model stream."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from appliance import lifecycle
from appliance.config import Config
from appliance.control.ledger import Ledger
from appliance.dispatcher.actions import Actions, Handler
from appliance.dispatcher.recovery import reconcile
from appliance.dispatcher.service import Dispatcher
from appliance.dispatcher.table import Action, row_of
from appliance.errors import IntakeRefused, JobNotFound
from appliance.lifecycle import MAX_CLAIMS, Attempt, Failure
from appliance.parent import Status, StatusPipe
from appliance.settings import Retry
from appliance.sqlite import sqlite3
from appliance.store.database import open_writer
from appliance.store.projection import Projection, StoredFact
from appliance.store.writer import Writer
from appliance.supervisor.box import Box
from appliance.supervisor.child import Death
from appliance.worker.loop import Worker, WorkerSettings
from bus.commit import Expect, Outgoing
from bus.connection import Bus
from bus.errors import BusUnavailable, Retryable, Stale
from bus.events import AnyEvent, Command, Event, StageName
from bus.subjects import item_filter
from stages.base import (
    CropResult,
    CutResult,
    DownloadResult,
    FacesResult,
    MomentsResult,
    PlannedClip,
    StageResult,
    TranscribeResult,
)
from tests.property.stream import Actor, Fate, ModelBus, ModelStream, Turn, finish, give_turn

T = TypeVar("T")
RETRY = Retry(attempts=3)
REFUSED = (IntakeRefused, JobNotFound)
Outcome = Callable[[Attempt], list[Event | Command]]


class InlineWriter(Writer):
    """The dispatcher's store without its thread."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        super().__init__(path, Projection(connection), cast("Any", None))

    async def _once(self, work: Callable[[], T]) -> T:
        return work()

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        return query(self._projection.connection)


PLAYED: set[Action] = {"queue_first", "complete_job", "forget_commands"}
"""The actions that change what the log or the queue says."""


class World:
    """`actors` wait for their turn; `pending` are facts whose actions are still to be carried out."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "appliance.db"
        self.connection = open_writer(self.database)
        self.connection.execute("PRAGMA synchronous=OFF")  # no power cut in this test
        self.projection = Projection(self.connection)
        self.store = InlineWriter(self.database, self.connection)
        self.epoch = 1
        self.stream = ModelStream("epoch 1")
        self.actors: list[Actor] = []
        self.pending: list[AnyEvent] = []
        self.advisories: list[Command] = []
        self.folder = folder
        self._held: dict[Actor, Status] = {}
        self._config = Config(data_dir=folder, retry=RETRY)
        finish(reconcile(self.bus, self.store))

    @property
    def bus(self) -> Bus:
        return cast("Bus", ModelBus(self.stream))

    def waiting(self, turn: Turn) -> list[Actor]:
        return [actor for actor in self.actors if actor.turn is turn]

    def begin(self, name: str, work: Coroutine[Any, Any, Any]) -> Actor:
        actor = Actor(name, work)
        self._keep(actor)
        return actor

    def go_on(self, actor: Actor, sent: object) -> None:
        actor.go_on(sent)
        if actor.done:
            self.actors.remove(actor)
            self._judge(actor)

    def _keep(self, actor: Actor) -> None:
        if actor.done:
            self._judge(actor)
        else:
            self.actors.append(actor)

    @staticmethod
    def _judge(actor: Actor) -> None:
        """People are told that the bus is away or that a request makes no sense; anything else is a defect."""
        if actor.error is not None and not isinstance(actor.error, (BusUnavailable, *REFUSED)):
            raise actor.error

    # -- workers ------------------------------------------------------------------------------------------------------

    def deliver(self, command: Command, seq: int | None) -> None:
        """Some worker gets a command: a queued one, or (`seq` None) one whose acknowledgement the server forgot."""
        worker = self._worker(command)
        actor = Actor(f"worker on {command.stage}", self._work(worker, command, seq))
        self._held[actor] = Status(worker=worker.id, stage=command.stage, job=command.job, clip=command.clip)
        self._keep(actor)

    def _worker(self, command: Command) -> Worker:
        settings = WorkerSettings(
            stage=command.stage,
            data_dir=self.folder,
            models_dir=self.folder,
            options=msgspec.Raw(b"{}"),
            retry=RETRY,
            timeout_s=1.0,
            timeout_factor=1.0,
            stall_timeout_s=1.0,
            max_memory_bytes=0,
            stop_grace_s=1.0,
        )
        return Worker(settings, self.bus, cast("StatusPipe", None), cast("Ledger", None))

    async def _work(self, worker: Worker, command: Command, seq: int | None) -> None:
        """What a worker does with a command, with the test in place of the stage's process."""
        claimed = await worker._claim(command)
        if claimed is not None:
            attempt, claim, fence = claimed
            if claim > MAX_CLAIMS:
                lost = Failure(error="lost", code="lost", final=True)
                messages = lifecycle.on_failed(attempt, lost, RETRY)
            else:
                outcome: Outcome = await give_turn(Turn.STAGE)
                messages = outcome(attempt)
            expect = Expect(item_filter(command.job, command.clip), fence)
            try:
                await patiently(lambda: self.bus.commit(messages, expect))
            except Stale:
                return
        if seq is not None:
            self.stream.acknowledge(seq)

    def kill_worker(self, actor: Actor, *, seen: bool) -> None:
        """It dies; when its supervisor sees that, it ends the attempt on the worker's behalf."""
        self.actors.remove(actor)
        actor.vanish()
        if not seen:
            return
        death = Death(name="worker", reason="killed by SIGKILL", status=self._held[actor], restarts=1)
        box = Box(self._config)
        self.begin("supervisor", patiently(lambda: box._end_attempt(self.bus, death)))

    def too_many_deliveries(self, seq: int) -> None:
        """The server gives a command up, and keeps an advisory of it until that is acknowledged."""
        self.stream.queued.remove(seq)
        self.advisories.append(self.stream.messages[seq].command)

    def advise(self, command: Command) -> None:
        """The dispatcher reads an advisory."""
        dispatcher = Dispatcher(self.bus, self.store, self.folder, self._config.dispatcher)

        async def run() -> None:
            await patiently(lambda: dispatcher._give_up(command, 25))
            if command in self.advisories:
                self.advisories.remove(command)

        self.begin("advisory", run())

    # -- dispatcher ---------------------------------------------------------------------------------------------------

    def project(self, most: int) -> None:
        """The next facts become rows, and their actions due."""
        facts = self.stream.facts(self.projection.cursor)[:most]
        for _, event in self.projection.apply([StoredFact(one.seq, one.subject, one.data) for one in facts]):
            if PLAYED & set(row_of(event).actions):
                self.pending.append(cast("AnyEvent", event))

    def project_again(self, first: int, most: int) -> None:
        """A batch that was applied already, and perhaps goes beyond: what a reader with an old position brings."""
        facts = [one for one in self.stream.facts(first)[:most] if one.seq <= self.projection.cursor]
        before = self.connection.total_changes
        assert self.projection.apply([StoredFact(one.seq, one.subject, one.data) for one in facts]) == []
        assert self.connection.total_changes - before <= 1, "only the cursor is written"

    def act(self, event: AnyEvent) -> None:
        """Carry out a fact's actions."""
        actions = Actions(self.bus, self.store, self.folder)
        handlers = [actions.handlers[name] for name in row_of(event).actions if name in PLAYED]

        async def run() -> None:
            for handler in handlers:
                await patiently(partial(_carry_out, handler, event))
            if event in self.pending:
                self.pending.remove(event)

        self.begin("actions", run())

    # -- trouble ------------------------------------------------------------------------------------------------------

    def power_cut(self) -> None:
        """Every process dies. Commands are delivered again, actions carried out again."""
        for actor in self.actors:
            actor.vanish()
        self.actors.clear()

    def lose_stream(self, kept: int, interrupted_after: int) -> None:
        """The stream's folder is lost or put back to an older state; the box puts the facts back at its start."""
        self.power_cut()
        self.advisories.clear()
        old, self.epoch = self.stream, self.epoch + 1
        self.stream = ModelStream(f"epoch {self.epoch}")
        for message in list(old.messages.values())[:kept]:
            self.stream.last_seq = message.seq - 1
            self.stream.store(Outgoing(message.subject, message.data, {"Nats-Msg-Id": message.message_id or ""}))
        broken = Actor("reconcile", reconcile(self.bus, self.store))
        for _ in range(interrupted_after):
            if not broken.done:
                broken.go_on(Fate.ANSWERED)
        if not broken.done:
            broken.go_on(Fate.NEVER_SENT)
            assert isinstance(broken.error, BusUnavailable)
        finish(reconcile(self.bus, self.store))
        facts = [fact.event for fact in self.stream.facts()]
        self.pending = [event for event in facts if PLAYED & set(row_of(event).actions)]


async def _carry_out(handler: Handler, event: AnyEvent) -> None:
    await handler(event)


async def patiently(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """As those do who wait for the bus."""
    while True:
        try:
            return await call()
        except Retryable:
            continue


def done(clips: int) -> Outcome:
    """The stage succeeds; `clips` is for the moments stage."""
    return lambda attempt: lifecycle.on_done(attempt, _result(attempt.stage, clips), 1.0, 60.0)


def failed(*, final: bool) -> Outcome:
    return lambda attempt: lifecycle.on_failed(attempt, Failure(error="it broke", code="crashed", final=final), RETRY)


def _result(stage: StageName, clips: int) -> StageResult:
    plans = [
        PlannedClip(n=n, start_s=10.0 * n, end_s=10.0 * n + 20, score=0.5, title="t", reasons=["r"])
        for n in range(1, clips + 1)
    ]
    picture = {"width": 1920, "height": 1080, "size_bytes": 5, "sha256": "0" * 64, "duration_s": 60.0}
    results: dict[StageName, Callable[[], StageResult]] = {
        "download": lambda: DownloadResult(
            path="source.mp4",
            fps=30.0,
            video_codec="h264",
            audio_codec=None,
            **picture,  # type: ignore[arg-type]
        ),
        "transcribe": lambda: TranscribeResult(model="m", language="en", words=1, rough=False),
        "moments": lambda: MomentsResult(planned=plans, candidates=9),
        "faces": lambda: FacesResult(detector="yunet", tracks=1, shots=1),
        "crop": lambda: CropResult(layouts=["still"]),
        "cut": lambda: CutResult(path="c.mp4", encoder="libx264", loudness_lufs=-14.0, **picture),  # type: ignore[arg-type]
    }
    return results[stage]()
