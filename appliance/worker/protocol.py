"""What a worker and the child process that runs a stage say to each other.

The worker writes one `StageRequest` as a JSON line to the child's standard input. The child answers on its standard
output with JSON lines: any number of `Progress`, then exactly one `Done` or `Failed`. Everything else that the child or
its libraries print goes to standard error, which is the job's log.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct

from stages.base import Task

FailureKind = Literal["rejected", "misconfigured", "transient", "crashed"]
MAX_LINE_BYTES = 16 * 2**20
"""A longer answer is treated as a crashed child."""


class StageRequest(Struct, frozen=True, kw_only=True):
    """The work, where its files are, and what it may use."""

    task: Task
    root: str
    output: str
    options: msgspec.Raw
    """The stage's `Options` as JSON."""
    models_dir: str
    max_memory_bytes: int
    """Address-space limit of the child; 0 means none (CUDA reserves address space it never uses)."""


class Progress(Struct, frozen=True, kw_only=True, tag="progress"):
    done: float
    note: str | None = None


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    result: msgspec.Raw


class Failed(Struct, frozen=True, kw_only=True, tag="failed"):
    kind: FailureKind
    code: str
    message: str


Answer = Progress | Done | Failed
decoder: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Answer)
