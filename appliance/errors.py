"""What can go wrong in the appliance itself, with the exit code its command ends with.

ApplianceError             1
├── ConfigError            2  the configuration has problems (`.problems` lists all of them)
├── BoxNotRunning          1  no running box of this configuration
├── BoxAlreadyRunning      1  a box of this data folder runs already
├── ProcessFailed          1  a supervised program did not become ready
├── JobNotFound            1  no job with this id
├── JobFailed              1  a job ended without clips
├── IntakeRefused          2  a video, URL or option cannot be taken
│   ├── IntakeClosed       2  the box takes no jobs at the moment
│   └── NoRoom             1  the disk has no room for the job
├── AccountUnknown         1  no user or token of this name
├── AccountRefused         2  a user, password, role or token cannot be made or changed so
├── StoreDamaged           1  a database cannot be read: rebuild it
├── SourceUnavailable      1  the database or the bus cannot be used now
├── BackupError            1  a backup cannot be written or put back
│   ├── BackupRefused      2  not there, or not from there
│   ├── BackupDamaged      1  a backup is not what was written
│   └── RestoreUnfinished  1  a restore was cut short: run it again
├── CacheUnavailable       1  the cache is away or off: compute instead
└── ModelError             1
    ├── UnknownModel       2  no such model name
    ├── ModelUnreachable   1  its publisher cannot be reached from here
    └── ModelDamaged       1  a file's checksum is not the published one

The bus and the stages have trees of their own (`bus.errors`, `stages.errors`).
"""

from __future__ import annotations

from msgspec import Struct


class ApplianceError(Exception):
    """Root. The message is for people: what happened and what to do next. Printed without a traceback."""

    exit_code = 1


class Problem(Struct, frozen=True, kw_only=True):
    """One thing wrong in the configuration."""

    where: str
    """`file:line:column`, or `environment NAME`."""
    key: str
    """Dotted key, empty for a problem of the whole file."""
    message: str
    """What is wrong; what to write instead."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.where, self.key, self.message) if part)


class ConfigError(ApplianceError):
    """The configuration cannot be used. All problems are collected before this is raised."""

    exit_code = 2

    def __init__(self, problems: list[Problem]) -> None:
        count = f"{len(problems)} mistakes" if len(problems) > 1 else "a mistake"
        super().__init__("\n".join([f"the configuration has {count}", *(str(problem) for problem in problems)]))
        self.problems = problems


class BoxNotRunning(ApplianceError):
    """No running box of this configuration answers."""


class BoxAlreadyRunning(ApplianceError):
    """Another box holds this data folder."""


class ProcessFailed(ApplianceError):
    """A supervised program did not become ready in time."""


class JobNotFound(ApplianceError):
    """There is no job with this id."""


class JobFailed(ApplianceError):
    """The job ended without a clip."""


class IntakeRefused(ApplianceError):
    """What was asked for cannot be taken as a job."""

    exit_code = 2


class IntakeClosed(IntakeRefused):
    """The box takes no jobs at the moment: the message says who closed it, why, and until when."""


class NoRoom(IntakeRefused):
    """The job's forecast does not fit on the disk. It names the bytes."""

    exit_code = 1


class AccountUnknown(ApplianceError):
    """There is no user or token of this name."""


class AccountRefused(ApplianceError):
    """A user, password, role or token cannot be made or changed as asked."""

    exit_code = 2


class StoreDamaged(ApplianceError):
    """A database file cannot be read. `appliance rebuild` makes it anew from the stream."""


class BackupError(ApplianceError):
    """A backup cannot be written or put back."""


class BackupRefused(BackupError):
    """A backup cannot be written to, or put back into, the place that was named."""

    exit_code = 2


class BackupDamaged(BackupError):
    """A backup file is not what was written: damaged, cut short, or none of ours."""


class RestoreUnfinished(BackupError):
    """A restore into this data folder was cut short; until it is run again the folder is no box."""


class ModelError(ApplianceError):
    """A model cannot be fetched, checked or removed."""


class UnknownModel(ModelError):
    """The registry has no model of this name."""

    exit_code = 2


class ModelUnreachable(ModelError):
    """The publisher of a model does not answer from this machine."""


class ModelDamaged(ModelError):
    """A model file is not what its publisher published."""


class SourceUnavailable(ApplianceError):
    """What a figure is read from, the database or the bus, did not answer in time."""


class CacheUnavailable(ApplianceError):
    """The cache is off, away, or did not answer in time. Compute instead: nothing lives only in the cache."""
