"""The cut stage: one clip from plan to finished files, with one decode of its range and one lossy generation.

    clip-01.mp4    H.264 High + AAC, index in front          clip-01.srt .vtt   words for players and editors
    clip-01.jpg    a good still, without captions            clip-01.json       `Sidecar`, written last

Pictures stream through decode → constant rate → crop plan → captions → encoder, a bounded few at a time; sound is made
beside them, in memory: it is small.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

from stages.artifacts import CropPlan, Probe, Sidecar, Transcript, Word
from stages.base import CutResult, Device, PlannedClip, Report, Task
from stages.errors import Transient
from stages.folder import JobFolder, publish
from stages.media.captions import CaptionRules, Cue, clip_words, make_cues, sentence_ends
from stages.media.captions_draw import CaptionPainter, CaptionStyle, line_room, text_width
from stages.media.colour import colour_of, transfer_of
from stages.media.deinterlace import deinterlaced
from stages.media.encode import ClipWriter, VideoEncoder, VideoSettings, choose_encoder
from stages.media.fonts import choose_typeface
from stages.media.framerate import conform, frame_count, output_rate
from stages.media.prefetch import prefetched
from stages.media.render import Renderer
from stages.media.soundtrack import LoudnessTarget, Soundtrack, make_soundtrack
from stages.media.subtitles import reading_cues, srt, vtt
from stages.media.thumbnail import ThumbnailPicker
from stages.media.verify import verify_clip
from stages.media.video import Frame, read_frames

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

_PICTURES_AHEAD = 4
_PICTURE_SHARE = 0.97
_RANGE_SLACK_S = 0.05
_HELD_NOTE_S = 0.25


class Options(Struct, frozen=True, kw_only=True):
    """Settings of the cut stage."""

    device: Annotated[
        Device, Meta(description="Encoder: `cuda` demands NVENC, `auto` takes it where a trial encode works, else CPU")
    ] = "auto"
    preset: Annotated[
        str,
        Meta(
            description="x264 preset: slower gives smaller files, not better pictures at the same crf",
            pattern="^(ultrafast|superfast|veryfast|faster|fast|medium|slow|slower|veryslow)$",
        ),
    ] = "fast"
    crf: Annotated[int, Meta(description="Quality, x264's CRF: lower is better, 18 is visually clean", ge=0, le=40)] = (
        19
    )
    max_bitrate_kbps: Annotated[
        int, Meta(description="Ceiling of the video bit rate in kbit/s, over about two seconds", ge=500, le=100_000)
    ] = 20_000
    encoder_threads: Annotated[
        int, Meta(description="Threads of the encoder; 0 takes its own choice for the machine", ge=0, le=64)
    ] = 0
    audio_kbps: Annotated[int, Meta(description="AAC bit rate in kbit/s", ge=64, le=320)] = 192
    loudness_lufs: Annotated[
        float, Meta(description="Integrated loudness (EBU R128) of every clip in LUFS", ge=-31.0, le=-8.0)
    ] = -14.0
    true_peak_dbtp: Annotated[
        float, Meta(description="True-peak ceiling before AAC in dBTP; AAC may add about 1 dB", ge=-9.0, le=-1.0)
    ] = -2.0
    fade_s: Annotated[
        float, Meta(description="Fade of the sound at both ends in seconds, against clicks", ge=0.0, le=1.0)
    ] = 0.01
    captions: Annotated[bool, Meta(description="Burn captions into the picture; .srt and .vtt are written anyway")] = (
        True
    )
    caption_words: Annotated[int, Meta(description="Words a caption has at most", ge=1, le=10)] = 5
    caption_lines: Annotated[int, Meta(description="Lines a caption has at most", ge=1, le=2)] = 2
    caption_size: Annotated[
        float, Meta(description="Letter size (em) as a share of the picture's width", ge=0.03, le=0.15)
    ] = 0.074
    caption_bottom: Annotated[
        float,
        Meta(description="Share of the height kept free below captions, for the platforms' buttons", ge=0.0, le=0.6),
    ] = 0.22
    caption_side: Annotated[
        float, Meta(description="Share of the width kept free on each side of captions", ge=0.0, le=0.3)
    ] = 0.08
    caption_upper_case: Annotated[bool, Meta(description="Set captions in capitals")] = False
    caption_colour: Annotated[
        str, Meta(description="Colour of the word being said, #RRGGBB", pattern="^#[0-9a-fA-F]{6}$")
    ] = "#FFD60A"
    font: Annotated[
        str | None, Meta(description="Font file for captions; without it, or where it lacks characters, one is found")
    ] = None

    @property
    def reads(self) -> list[Path]:
        """Files outside the job that the stage opens, for whoever closes its process in."""
        return [Path(self.font)] if self.font else []


def run(task: Task, folder: JobFolder, options: Options, report: Report) -> CutResult:
    """Make clip `task.clip` from its crop plan and write its five files into the output folder.

    Raises `Transient` when an earlier stage's artifact is missing or does not belong to this clip, when encoding fails,
    or when the finished file does not pass its check; `Misconfigured` when an encoder or font that was asked for is
    not there.
    """
    if task.clip is None:
        raise ValueError("cut works on a clip")
    job = _Job(task, task.clip, folder, options, report)
    video = folder.output_file(task.clip, ".mp4")
    with publish(video) as part:
        job.encode(part)
        report(_PICTURE_SHARE, "checking")
        verify_clip(part, job.frames, job.rate, job.size)
        digest, size_bytes = _sha256(part), part.stat().st_size
        job.write_companions()
    sidecar = job.sidecar(digest, size_bytes)
    folder.save(folder.output_file(task.clip, ".json"), sidecar)
    report(1.0)
    return CutResult(
        device=job.encoder.device,
        notes=job.notes,
        path=video.name,
        size_bytes=size_bytes,
        sha256=digest,
        duration_s=sidecar.duration_s,
        width=sidecar.width,
        height=sidecar.height,
        encoder=sidecar.encoder,
        loudness_lufs=sidecar.loudness_lufs,
    )


class _Job:
    """Everything known about the clip being cut."""

    def __init__(self, task: Task, clip: int, folder: JobFolder, options: Options, report: Report) -> None:
        self.task, self.clip, self.folder, self.options, self.report = task, clip, folder, options, report
        self.probe: Probe = folder.probe()
        self.plan: CropPlan = folder.crop(clip)
        self.transcript: Transcript = folder.transcript()
        self.faces = folder.faces(clip)
        self.source = folder.source()
        self.planned = _planned(folder, clip, self.plan)
        self.start_s, self.end_s = self.planned.start_s, self.planned.end_s
        self.rate = output_rate(self.probe.video)
        self.frames = frame_count(self.start_s, self.end_s, self.rate)
        self.duration_s = self.frames / float(self.rate)
        self.size = (self.plan.width, self.plan.height)
        self.words: list[Word] = clip_words(self.transcript.words, self.start_s, self.start_s + self.duration_s)
        self.ends = sentence_ends(self.transcript.words, self.transcript.sentences, self.start_s, self.end_s)
        self.encoder: VideoEncoder = choose_encoder(options.device)
        self._picture_notes: list[str] = []
        self.sound: Soundtrack | None = None
        self.thumbnail = ThumbnailPicker(self.faces, [(s.start_s, s.end_s) for s in self.plan.shots], self.rate)

    @property
    def notes(self) -> list[str]:
        """Every fallback taken, in the same order on each run."""
        return [*self.encoder.notes, *self._picture_notes, *(self.sound.notes if self.sound else ())]

    def encode(self, part: Path) -> None:
        """Write the clip's MP4 to `part`. Sound is made in a thread beside the pictures and joins them in the file."""
        import av

        options = self.options
        settings = VideoSettings(options.preset, options.crf, options.max_bitrate_kbps, options.encoder_threads)
        cube = self.folder.clip_dir(self.clip) / "sdr.cube"
        writer = ClipWriter(part, self.rate, self.size, self.encoder, settings, options.audio_kbps)
        try:
            with (
                closing(writer),
                ThreadPoolExecutor(1, "sound") as pool,
                prefetched(self._pictures(cube), _PICTURES_AHEAD) as pictures,
            ):
                self.report(0.0, "encoding")
                sound = pool.submit(self._soundtrack)
                for picture in pictures:
                    writer.write(picture)
                    if self.sound is None and sound.done():
                        self._join(writer, sound.result())
                    if writer.frames % 8 == 0:
                        self.report(_PICTURE_SHARE * writer.frames / self.frames)
                if self.sound is None:
                    self._join(writer, sound.result())
                if writer.frames != self.frames:
                    raise Transient(
                        f"the source shows no picture between {self.start_s:.2f} and {self.end_s:.2f} s", "range-empty"
                    )
                writer.finish()
        except av.error.FFmpegError as error:
            raise Transient(f"decoding or scaling the picture failed: {error}", "picture-failed") from error
        finally:
            cube.unlink(missing_ok=True)

    def _soundtrack(self) -> Soundtrack:
        options = self.options
        target = LoudnessTarget(options.loudness_lufs, options.true_peak_dbtp, options.fade_s)
        return make_soundtrack(self.source, self.probe, self.start_s, self.duration_s, target, options.audio_kbps)

    def _join(self, writer: ClipWriter, sound: Soundtrack) -> None:
        self.sound = sound
        writer.sound(sound.packets)

    def _pictures(self, cube: Path) -> Iterator[VideoFrame]:
        """Finished output pictures in order; runs in a thread of its own."""
        painter = self._painter()
        renderer: Renderer | None = None
        last_s = self.start_s
        frames = deinterlaced(self._frames(), self._picture_notes)
        for k, frame in conform(frames, self.start_s, self.frames, self.rate):
            if renderer is None:
                if transfer := transfer_of(frame.image):
                    self._picture_notes.append(f"HDR ({transfer.upper()}) was tone-mapped to SDR")
                renderer = Renderer(self.plan, self.probe.video, colour_of(frame.image, self.probe.video, cube))
            picture = renderer.render(frame.image, frame.t_s)
            self.thumbnail.offer(picture, k, frame.t_s, renderer.placements(frame.t_s))
            if painter is not None:
                painter.paint(picture, k)
            yield picture
            last_s = frame.t_s
        missing_s = self.start_s + self.duration_s - last_s - 1.0 / float(self.rate)
        if missing_s > _HELD_NOTE_S and not self.probe.video.variable_rate:
            self._picture_notes.append(
                f"the source's picture ends {missing_s:.1f} s before the clip: its last one is held"
            )

    def _frames(self) -> Iterator[Frame[VideoFrame]]:
        """From a little before the range: the picture on show at its start may have begun earlier."""
        lead_s = 1.0 if self.probe.video.variable_rate else 1.5 / max(self.probe.video.fps, 1.0)
        return read_frames(self.source, self.probe, max(0.0, self.start_s - lead_s), self.end_s)

    def _painter(self) -> CaptionPainter | None:
        options = self.options
        if not (options.captions and self.task.options.captions):
            return None
        if not self.words:
            self._picture_notes.append("no captions: nobody says a word in this clip")
            return None
        text = "".join(word.text for word in self.words)
        face = choose_typeface(
            text.upper() if options.caption_upper_case else text, Path(options.font) if options.font else None
        )
        if options.font and face.path != Path(options.font):
            self._picture_notes.append(
                f"captions are set in {face.name}: {Path(options.font).name} lacks characters they need"
            )
        if face.path is None:
            self._picture_notes.append("captions are set in Pillow's built-in face: no bold font is installed")
        if face.missing:
            self._picture_notes.append(
                f"captions miss characters: {face.name} has no “{face.missing[:20]}”; install a font that has them"
            )
        style = CaptionStyle(
            size=options.caption_size,
            side=options.caption_side,
            bottom=options.caption_bottom,
            highlight=_colour(options.caption_colour),
            upper_case=options.caption_upper_case,
        )
        width = self.plan.width
        rules = CaptionRules(
            line_width=line_room(style, width),
            max_lines=options.caption_lines,
            max_words=options.caption_words,
            best_words=max(1, min(3, options.caption_words)),
            max_duration_s=3.0,
            hold_s=0.5,
        )
        cues = make_cues(self.words, self.ends, lambda t: text_width(face, style, width, t), rules)
        return CaptionPainter(self.size, self.rate, style, face, self.words, cues, self._caption_middle)

    def _caption_middle(self, cue: Cue) -> float | None:
        """On the seam between two people, else None: on the bottom margin."""
        t_s = self.start_s + (cue.start_s + cue.end_s) / 2
        shot = next((s for s in self.plan.shots if s.start_s <= t_s < s.end_s), None)
        if shot is None or shot.layout != "stack" or len(shot.panes) < 2:
            return None
        return max(pane.top for pane in shot.panes)

    def write_companions(self) -> None:
        """Subtitles and still."""
        cues = reading_cues(self.words, self.ends, self.duration_s)
        for suffix, text in ((".srt", srt(cues, self.words)), (".vtt", vtt(cues, self.words))):
            with publish(self.folder.output_file(self.clip, suffix)) as part:
                part.write_text(text, encoding="utf-8", newline="\n")
        with publish(self.folder.output_file(self.clip, ".jpg")) as part:
            self.thumbnail.save(part)

    def sidecar(self, digest: str, size_bytes: int) -> Sidecar:
        heard = self.sound.loudness if self.sound else None
        return Sidecar(
            job=self.task.job,
            clip=self.clip,
            title=self.planned.title,
            score=self.planned.score,
            reasons=self.planned.reasons,
            start_s=self.start_s,
            end_s=self.end_s,
            duration_s=self.duration_s,
            frames=self.frames,
            fps=float(self.rate),
            width=self.plan.width,
            height=self.plan.height,
            size_bytes=size_bytes,
            sha256=digest,
            video_codec="h264",
            audio_codec="aac",
            encoder=self.encoder.name,
            loudness_lufs=_finite(heard.integrated_lufs) if heard else None,
            true_peak_dbtp=_finite(heard.true_peak_dbtp) if heard else None,
            words=self.words,
            layouts=[shot.layout for shot in self.plan.shots],
            detector=self.faces.detector,
            transcriber=self.transcript.model,
            rough=self.transcript.rough,
            notes=self.notes,
        )


def _planned(folder: JobFolder, clip: int, plan: CropPlan) -> PlannedClip:
    planned = next((p for p in folder.moments().clips if p.n == clip), None)
    if planned is None:
        raise Transient(f"moments.json has no clip {clip}: run the moments stage again", "clip-unplanned")
    if not plan.shots or plan.start_s > planned.start_s + _RANGE_SLACK_S or plan.end_s < planned.end_s - _RANGE_SLACK_S:
        raise Transient(
            f"the crop plan covers {plan.start_s:.2f} to {plan.end_s:.2f} s, the clip {planned.start_s:.2f} to"
            f" {planned.end_s:.2f} s: run the crop stage again",
            "plan-stale",
        )
    return planned


def _colour(text: str) -> tuple[int, int, int]:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def _finite(value: float) -> float | None:
    return round(value, 2) if value > float("-inf") else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
