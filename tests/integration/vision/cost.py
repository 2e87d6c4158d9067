"""What faces and crop cost on this machine.

    python -m tests.integration.vision.cost [MODELS_DIR]

Prints wall and CPU seconds and the peak memory for clips of 2, 30 and 60 s of a drawn 1080p30 talk.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from bus.events import JobSource
from stages import crop, faces
from stages.artifacts import Moments
from stages.base import PlannedClip, Task
from stages.folder import JobFolder
from stages.media.probe import probe_media
from tests.media.maker import Spec, make

TALK = Spec(seconds=60, width=1920, height=1080, scenes=("seated", "walk", "pair", "page"))
CLIPS = [(0.0, 2.0), (15.0, 45.0), (0.0, 60.0)]
"""The first one also pays for imports and is there to take them out of the others."""


def main() -> None:
    """Measure and print."""
    options = faces.Options(models_dir=Path(sys.argv[1])) if len(sys.argv) > 1 else faces.Options()
    video, _ = make(TALK)
    with tempfile.TemporaryDirectory() as root:
        folder = JobFolder.of(Path(root), "j")
        folder.root.mkdir(parents=True)
        (folder.root / "source.mp4").symlink_to(video)
        folder.save(folder.root / "probe.json", probe_media(video))
        clips = [
            PlannedClip(n=n, start_s=a, end_s=b, score=1.0, title="t", reasons=[]) for n, (a, b) in enumerate(CLIPS, 1)
        ]
        folder.save(folder.root / "moments.json", Moments(clips=clips, considered=[]))
        for clip in clips:
            task = Task(stage="faces", job="j", clip=clip.n, origin=JobSource(kind="file", location="/v", name="v"))
            wall, cpu = time.perf_counter(), time.process_time()
            result = faces.run(task, folder, options, lambda done, note=None: None)
            found = time.perf_counter() - wall, time.process_time() - cpu
            wall, cpu = time.perf_counter(), time.process_time()
            crop.run(task, folder, crop.Options(), lambda done, note=None: None)
            planned = time.perf_counter() - wall, time.process_time() - cpu
            peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            sys.stdout.write(
                f"{clip.end_s - clip.start_s:4.0f} s  {result.detector}: faces {found[0]:.2f} s wall {found[1]:.2f} s "
                f"CPU, crop {planned[0]:.2f} s wall {planned[1]:.2f} s CPU, peak {peak_mib:.0f} MiB\n"
            )


if __name__ == "__main__":
    main()
