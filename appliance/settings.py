"""Every setting of the appliance: name, type, limits, default and meaning, declared once.

`appliance.config` reads files and the environment into this tree; `appliance.yaml`, `docs/CONFIGURATION.md` and the
error messages are made from it, and tests hold them together. Names carry units. Each field's `Meta` description is
the sentence people read: what it does, what the limit does, what 0 or null means.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct

from appliance.alerts.rules import DEFAULT_RULES
from appliance.alerts.rules import problems as rule_problems
from appliance.alerts.settings import Alerts, Notify
from appliance.cache.settings import Cache, CacheTtl
from appliance.dispatcher.settings import Dispatcher
from appliance.face import Uploads, Web, WebSocket
from appliance.monitor.settings import Hardware
from appliance.storage.settings import Admission, Retention
from appliance.storage.settings import contradictions as storage_contradictions
from appliance.watch.settings import Input
from bus.events import CLIP_STAGES, STAGES, StageName
from stages import crop, cut, download, faces, moments, transcribe

GIB = 1024**3
DEFAULT_MAX_CLIP = 2
DEFAULT_MAX_JOB = 1


class Bus(Struct, frozen=True, kw_only=True):
    """The event bus: a NATS server with JetStream."""

    url: Annotated[
        str | None,
        Meta(description="NATS server to join, such as nats://user:password@host:4222. null: start the embedded one."),
    ] = None
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port of the embedded server on 127.0.0.1. 0: any free port.")
    ] = 4222
    binary: Annotated[
        Path | None,
        Meta(description="nats-server program for the embedded server. null: the one that was installed along."),
    ] = None
    ack_wait_s: Annotated[
        float,
        Meta(
            ge=1,
            le=300,
            description="Seconds without a sign of life after which a worker's task is given to another. Working "
            "workers give one three times as often, so this bounds recovery after a crash, not a task's length.",
        ),
    ] = 8.0
    max_bytes: Annotated[
        int,
        Meta(
            ge=64 * 1024**2,
            description="Bytes on disk for all events and commands. Past it the bus refuses new ones and says so.",
        ),
    ] = 1 * GIB
    max_age_days: Annotated[
        int, Meta(ge=1, le=3650, description="Days after which an event leaves the bus; the database keeps it.")
    ] = 90


class StageWorkers(Struct, frozen=True, kw_only=True):
    """The workers of one stage and the bounds of one attempt."""

    min: Annotated[int, Meta(ge=0, le=64, description="Workers kept running. 0: this box runs none of this stage.")] = 1
    max: Annotated[
        Annotated[int, Meta(ge=1, le=64)] | None,
        Meta(
            description="Most workers; started one by one while tasks wait and processors, memory and graphics memory "
            "allow, ended when they have nothing to do. null: 2 for faces, crop and cut, 1 for the others, and never "
            "fewer than min.",
        ),
    ] = None
    timeout_s: Annotated[
        float, Meta(ge=1, le=86400, description="Seconds an attempt may take, plus timeout_factor for its media.")
    ] = 120.0
    timeout_factor: Annotated[
        float,
        Meta(
            ge=0,
            le=1000,
            description="Seconds an attempt may take in addition for each second of media (of the clip, for the "
            "stages that work on clips). Past the sum it is stopped and counts as failed.",
        ),
    ] = 10.0
    stall_timeout_s: Annotated[
        float,
        Meta(ge=5, le=86400, description="Seconds without progress after which an attempt is stopped as failed."),
    ] = 120.0
    max_memory_bytes: Annotated[
        int,
        Meta(
            ge=0,
            description="Memory that an attempt's process may take; past it the attempt fails and the worker lives. "
            "0: no limit.",
        ),
    ] = 4 * GIB


class Workers(Struct, frozen=True, kw_only=True):
    """Workers by stage."""

    download: StageWorkers = StageWorkers(timeout_s=600.0, timeout_factor=4.0)
    transcribe: StageWorkers = StageWorkers(timeout_factor=20.0, max_memory_bytes=8 * GIB)
    moments: StageWorkers = StageWorkers(timeout_factor=2.0)
    faces: StageWorkers = StageWorkers(timeout_factor=40.0)
    crop: StageWorkers = StageWorkers(timeout_factor=20.0)
    cut: StageWorkers = StageWorkers(timeout_factor=60.0)

    def bounds(self, stage: StageName) -> tuple[int, int]:
        """Fewest and most workers of `stage`. None at all when `min` is 0."""
        wanted: StageWorkers = getattr(self, stage)
        usual = DEFAULT_MAX_CLIP if stage in CLIP_STAGES else DEFAULT_MAX_JOB
        most = usual if wanted.max is None else wanted.max
        return (wanted.min, max(wanted.min, most)) if wanted.min else (0, 0)


class Stages(Struct, frozen=True, kw_only=True):
    """What each stage does, by stage."""

    download: download.Options = download.Options()
    transcribe: transcribe.Options = transcribe.Options()
    moments: moments.Options = moments.Options()
    faces: faces.Options = faces.Options()
    crop: crop.Options = crop.Options()
    cut: cut.Options = cut.Options()


class Retry(Struct, frozen=True, kw_only=True):
    """What happens when an attempt of a stage fails."""

    attempts: Annotated[
        int, Meta(ge=1, le=20, description="Attempts of a stage before its job or clip fails and is dead-lettered.")
    ] = 3
    disk_full_attempts: Annotated[
        int,
        Meta(
            ge=1,
            le=10_000,
            description="The same for attempts that fail because the disk is full, which is no fault of theirs: with "
            "backoff_max_s between them the box waits so long for room.",
        ),
    ] = 100
    backoff_s: Annotated[
        float, Meta(ge=0.1, le=3600, description="Seconds to the second attempt; doubles with each further one.")
    ] = 2.0
    backoff_max_s: Annotated[float, Meta(ge=0.1, le=86400, description="Most seconds between two attempts.")] = 60.0


class Models(Struct, frozen=True, kw_only=True):
    """Where models lie."""

    dir: Annotated[
        Path | None, Meta(description="Folder of the models that `appliance models` manages. null: <data_dir>/models.")
    ] = None


class Supervisor(Struct, frozen=True, kw_only=True):
    """How the box's own programs are kept running."""

    restart_delay_s: Annotated[
        float,
        Meta(ge=0.05, le=3600, description="Seconds before a program that ended is started again; doubles each time."),
    ] = 1.0
    restart_delay_max_s: Annotated[
        float, Meta(ge=0.05, le=86400, description="Most seconds between two starts of a program.")
    ] = 60.0
    start_timeout_s: Annotated[
        float, Meta(ge=1, le=600, description="Seconds in which a program must become ready, else it is restarted.")
    ] = 30.0
    stop_grace_s: Annotated[
        float, Meta(ge=0, le=3600, description="Seconds that programs get to end by themselves before they are killed.")
    ] = 20.0
    frozen_after_s: Annotated[
        float,
        Meta(ge=5, le=3600, description="Seconds without a sign of life after which a program counts as frozen."),
    ] = 30.0


class Logging(Struct, frozen=True, kw_only=True):
    """What is logged and where."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least severe record that is written.")
    ] = "info"
    format: Annotated[Literal["text", "json"], Meta(description="text for people, json for one object a line.")] = (
        "text"
    )
    dir: Annotated[
        Path | None, Meta(description="Folder of the log files, one for each process. null: <data_dir>/logs.")
    ] = None
    max_file_bytes: Annotated[
        int,
        Meta(
            description="Bytes from which on a process's log file becomes <name>.log.1 and begins anew; seen to twice "
            "a minute.",
            ge=100_000,
            le=10_000_000_000,
        ),
    ] = 10_000_000
    keep_files: Annotated[int, Meta(description="How many older log files of each process are kept.", ge=0, le=100)] = 2


class Config(Struct, frozen=True, kw_only=True):
    """The whole configuration. `appliance.config.load` returns it with every path absolute."""

    data_dir: Annotated[
        Path, Meta(description="Folder of jobs, clips, databases and everything else the box keeps.")
    ] = Path("data")
    bus: Bus = Bus()
    cache: Cache = Cache()
    cache_ttl_s: CacheTtl = CacheTtl()
    workers: Workers = Workers()
    stages: Stages = Stages()
    retry: Retry = Retry()
    models: Models = Models()
    supervisor: Supervisor = Supervisor()
    dispatcher: Dispatcher = Dispatcher()
    input: Input = Input()
    hardware: Hardware = Hardware()
    alerts: Alerts = Alerts()
    notify: Notify = Notify()
    admission: Admission = Admission()
    retention: Retention = Retention()
    web: Web = Web()
    websocket: WebSocket = WebSocket()
    uploads: Uploads = Uploads()
    logging: Logging = Logging()

    @property
    def models_dir(self) -> Path:
        """Where models lie, after `models.dir` and its default."""
        return self.models.dir or self.data_dir / "models"

    @property
    def logs_dir(self) -> Path:
        """Where logs go, after `logging.dir` and its default."""
        return self.logging.dir or self.data_dir / "logs"


def contradictions(config: Config) -> list[tuple[str, str]]:
    """Settings that are each in range but do not fit together: dotted key, and what is wrong."""
    found: list[tuple[str, str]] = []
    for key, least, most in (
        ("retry.backoff_s", config.retry.backoff_s, config.retry.backoff_max_s),
        ("supervisor.restart_delay_s", config.supervisor.restart_delay_s, config.supervisor.restart_delay_max_s),
        ("dispatcher.retry_backoff_s", config.dispatcher.retry_backoff_s, config.dispatcher.retry_backoff_max_s),
    ):
        if least > most:
            section, name = key.split(".")
            longest = name.replace("_s", "_max_s")
            found.append((key, f"{least:g} is more than {section}.{longest}, {most:g}; write {most:g} or less"))
    queue = config.dispatcher
    for name, warning, critical in (
        ("queue_warning", queue.queue_warning, queue.queue_critical),
        ("queue_warning_age_s", queue.queue_warning_age_s, queue.queue_critical_age_s),
    ):
        if warning > critical:
            other = name.replace("warning", "critical")
            found.append((f"dispatcher.{name}", f"{warning:g} is more than dispatcher.{other}, {critical:g}"))
    found += storage_contradictions(config.admission)
    for stage in STAGES:
        workers: StageWorkers = getattr(config.workers, stage)
        if workers.max is not None and workers.max < workers.min:
            found.append((f"workers.{stage}.max", f"{workers.max} is less than workers.{stage}.min, {workers.min}"))
    known = {rule.id for rule in DEFAULT_RULES} | set(config.alerts.rules)
    found += [
        ("alerts.close_intake", f"no rule {rule!r}: known are those of docs/HARDWARE.md and of alerts.rules")
        for rule in config.alerts.close_intake
        if rule not in known
    ]
    found += [(f"alerts.rules.{rule}", wrong) for rule, wrong in rule_problems(config.alerts.rules)]
    return found
