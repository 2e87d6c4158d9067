"""Which parts of the source become clips: found in its words and its sound, chosen exactly, with reasons."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from stages.artifacts import Moments, Probe
from stages.base import MomentsResult, Report, Task
from stages.errors import Rejected
from stages.folder import JobFolder
from stages.story.choice import Choice, Wish, choose, whole
from stages.story.features import Evidence
from stages.story.picture import changes, cuts
from stages.story.rerank import Endpoint, check
from stages.story.sound import RATE_HZ, Sound, listen, reactions

if TYPE_CHECKING:
    from stages.story.sound import Samples

MIN_DURATION_S = 0.1
"""Shorter than this there is no moving picture to clip."""
_LISTENED = 0.7
"""Share of the stage's time after which the sound is heard."""


class Options(Struct, frozen=True, kw_only=True):
    """Settings of the moments stage."""

    clips: Annotated[int, Meta(description="Clips to make when the job does not say.", ge=1, le=50)] = 3
    min_length_s: Annotated[
        float, Meta(description="Shortest clip in seconds when the job does not say.", ge=1.0, le=600.0)
    ] = 15.0
    max_length_s: Annotated[
        float, Meta(description="Longest clip in seconds when the job does not say.", ge=1.0, le=600.0)
    ] = 60.0
    min_gap_s: Annotated[
        float, Meta(description="Seconds of the source between two clips at least.", ge=0.0, le=600.0)
    ] = 1.0
    pad_s: Annotated[
        float,
        Meta(description="Breathing room in seconds before the first and after the last word.", ge=0.0, le=1.0),
    ] = 0.25
    snap_to_cuts: Annotated[
        bool, Meta(description="Move borders to a hard cut within 1 s where no word is touched.")
    ] = True
    rerank_url: Annotated[
        str,
        Meta(
            description="Base URL of an OpenAI-compatible endpoint (http://127.0.0.1:8080/v1) that grades the best "
            "candidates. Empty: off. When it fails, the box's own order stands."
        ),
    ] = ""
    rerank_model: Annotated[str, Meta(description="Model name sent to that endpoint.")] = "default"
    rerank_timeout_s: Annotated[
        float, Meta(description="Seconds that the endpoint may take in all.", ge=1.0, le=300.0)
    ] = 30.0
    rerank_key_variable: Annotated[
        str, Meta(description="Name of the environment variable that holds the endpoint's API key. Empty: none.")
    ] = ""
    rerank_remote: Annotated[
        bool, Meta(description="Allow an endpoint on another machine: parts of the transcript leave the box.")
    ] = False

    @property
    def needs_network(self) -> bool:
        """Whether the stage opens a connection."""
        return bool(self.rerank_url)


def run(task: Task, folder: JobFolder, options: Options, report: Report) -> MomentsResult:
    """Write `moments.json`: up to the number of clips asked for, best first.

    Clips are disjoint, between the length limits (but for a source that is shorter, and as the notes say), begin and
    end outside words, and are the same for the same input. Raises `Rejected` (`too-short`, `bad-length`) when no clip
    can be made at all.
    """
    probe, transcript = folder.probe(), folder.transcript()
    wish = _wish(task, options)
    endpoint = _endpoint(options)
    if probe.duration_s < MIN_DURATION_S:
        raise Rejected(f"the video is {probe.duration_s:.2f} s long: too short for a clip", "too-short")
    if probe.duration_s <= wish.min_s:
        clip = whole(probe.duration_s, transcript)
        note = f"the video is no longer than the shortest clip ({wish.min_s:g} s): it becomes one clip as a whole"
        choice = Choice([clip], [clip], 1, [note])
    else:
        source = folder.source()
        sound = _listen(source, probe, report)
        evidence = Evidence(
            transcript=transcript,
            sound=sound,
            speech=transcript.speech,
            reactions=reactions(sound, transcript.speech),
            changes=changes(source, probe) if not transcript.speech else [],
        )
        report(_LISTENED + 0.1)
        find_cuts = partial(cuts, source, probe) if options.snap_to_cuts else _no_cuts
        choice = choose(probe.duration_s, evidence, wish, find_cuts, endpoint)
    moments = Moments(clips=choice.clips, considered=choice.considered, notes=choice.notes)
    folder.save(folder.root / "moments.json", moments)
    report(1.0)
    return MomentsResult(planned=choice.clips, candidates=choice.candidates, notes=choice.notes)


def _wish(task: Task, options: Options) -> Wish:
    """What the job asks for, else what the configuration says; one given length moves the other where it must."""
    asked = task.options
    min_s = options.min_length_s if asked.min_length_s is None else asked.min_length_s
    max_s = options.max_length_s if asked.max_length_s is None else asked.max_length_s
    if asked.max_length_s is not None and asked.min_length_s is None:
        min_s = min(min_s, max_s)
    if asked.min_length_s is not None and asked.max_length_s is None:
        max_s = max(min_s, max_s)
    clips = options.clips if asked.clips is None else asked.clips
    if not 0 < min_s <= max_s:
        raise Rejected(f"clips of {min_s:g} to {max_s:g} s are not possible: give shortest, then longest", "bad-length")
    if clips < 1:
        raise Rejected(f"{clips} clips are not possible: ask for at least 1", "bad-count")
    return Wish(clips, min_s, max_s, options.min_gap_s, options.pad_s)


def _endpoint(options: Options) -> Endpoint | None:
    if not options.rerank_url:
        return None
    endpoint = Endpoint(
        url=options.rerank_url,
        model=options.rerank_model,
        timeout_s=options.rerank_timeout_s,
        key_variable=options.rerank_key_variable,
        remote=options.rerank_remote,
    )
    check(endpoint)
    return endpoint


def _listen(source: Path, probe: Probe, report: Report) -> Sound:
    from stages.media.audio import read_audio

    if probe.audio is None:
        return listen([])

    def watched() -> Iterator[Samples]:
        heard = 0
        for block in read_audio(source, probe, 0.0, probe.duration_s, rate_hz=RATE_HZ):
            yield block
            heard += len(block)
            report(_LISTENED * min(1.0, heard / RATE_HZ / probe.duration_s))

    return listen(watched())


def _no_cuts(start_s: float, end_s: float) -> list[float]:
    return []
