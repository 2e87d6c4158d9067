"""The settings of the watch folder (`input` of `appliance.settings`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, Struct


class Input(Struct, frozen=True, kw_only=True):
    """The watch folder: each video that is put into it becomes a job."""

    enabled: Annotated[bool, Meta(description="Whether the folder is watched.")] = True
    dir: Annotated[
        Path | None,
        Meta(description="The folder, subfolders included; a network share will do. null: <data_dir>/input."),
    ] = None
    poll_s: Annotated[
        float,
        Meta(ge=0.2, le=3600, description="Seconds between two looks; more while the folder is very full."),
    ] = 2.0
    settle_s: Annotated[
        float,
        Meta(
            ge=0,
            le=86400,
            description="Seconds for which a file's size and time must stand still before it is taken; until then it "
            "counts as being copied.",
        ),
    ] = 10.0
    duplicates: Annotated[
        Literal["skip", "allow"],
        Meta(description="skip: content that is a job already is noted and left alone. allow: each copy is a job."),
    ] = "skip"
    max_per_minute: Annotated[
        int, Meta(ge=1, le=6000, description="Most files a minute that are taken or refused; the others wait.")
    ] = 60
    max_files: Annotated[
        int,
        Meta(
            ge=1,
            le=1_000_000,
            description="Most entries of the folder that are looked at; past them the rest is not seen, and an alert "
            "says so.",
        ),
    ] = 20_000
