"""Work on outside bytes in a process of its own that may do nothing else: `python -m stages.media.confined`.

The parent never lets FFmpeg see the file. A crash, an endless loop or a memory bomb ends the child and becomes a plain
refusal here.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from stages.artifacts import Probe
from stages.errors import Rejected, StageError, Transient
from stages.media import kernel
from stages.media.limits import DEFAULT_LIMITS, MediaLimits
from stages.media.sandbox import SandboxPolicy, enter

DEFAULT_MEMORY_BYTES = 500 * 2**20
"""Address space that the check of one file may take on top of the loaded libraries: 8K at 10 bits fits."""
_KINDS: tuple[Literal["video"], Literal["audio"]] = ("video", "audio")
_WALL_S = 60.0
_CPU_S = 40.0


class _Request(Struct, frozen=True, kw_only=True):
    parent: int
    limits: MediaLimits
    memory_bytes: int
    probe: str | None = None
    sha256: str = ""
    join: list[str] = field(default_factory=list)
    into: str = ""


class Confined(Struct, frozen=True, kw_only=True):
    """How a confined run went."""

    probe: Probe | None = None
    refused: str | None = None
    """Code of a refusal; `message` says why."""
    message: str = ""
    transient: bool = False
    missing_layers: list[str] = field(default_factory=list)
    peak_rss_bytes: int = 0


def probe_sandboxed(
    path: Path,
    limits: MediaLimits = DEFAULT_LIMITS,
    *,
    sha256: str = "",
    memory_bytes: int = DEFAULT_MEMORY_BYTES,
    wall_s: float = _WALL_S,
) -> Probe:
    """`probe_media` in a sandboxed child that may read this one file and write nothing.

    Raises `Rejected` when the file is refused, or crashes or exhausts the child; `Transient` when it cannot be read,
    the child was killed from outside, or `wall_s` passed. Sandbox layers that this kernel lacks stand in the notes.
    """
    request = _Request(parent=os.getpid(), limits=limits, memory_bytes=memory_bytes, probe=str(path), sha256=sha256)
    answer = run_confined(request, wall_s)
    assert answer.probe is not None
    return msgspec.structs.replace(answer.probe, notes=[*answer.probe.notes, *answer.missing_layers])


def join_sandboxed(
    parts: list[Path], into: Path, limits: MediaLimits = DEFAULT_LIMITS, *, wall_s: float = 600.0
) -> None:
    """Copy the best picture and sound streams of `parts` into one new Matroska file `into`, packets untouched.

    Raises as `probe_sandboxed`.
    """
    into.touch()
    names = [str(part) for part in parts]
    run_confined(
        _Request(parent=os.getpid(), limits=limits, memory_bytes=DEFAULT_MEMORY_BYTES, join=names, into=str(into)),
        wall_s,
    )


def run_confined(request: _Request, wall_s: float) -> Confined:
    """Start the child, wait for its answer, turn a bad end into the error that it stands for."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {"PATH": os.defpath, "PYTHONPATH": root, "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
    for name in ("LD_LIBRARY_PATH", "VIRTUAL_ENV", "HOME"):
        if name in os.environ:
            environment[name] = os.environ[name]
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "stages.media.confined"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",
    ) as child:
        try:
            out, err = child.communicate(msgspec.json.encode(request), timeout=wall_s)
        except subprocess.TimeoutExpired as error:
            raise Transient(f"checking the file did not end within {wall_s:.0f} s", "probe-timeout") from error
        finally:
            child.kill()
    if child.returncode != 0:
        raise _bad_end(child.returncode, err)
    answer = msgspec.json.decode(out, type=Confined)
    if answer.refused is not None:
        raise (Transient if answer.transient else Rejected)(answer.message, answer.refused)
    return answer


def _bad_end(code: int, err: bytes) -> StageError:
    if code == -signal.SIGXCPU:
        return Rejected(f"checking it took more than {_CPU_S:.0f} s of processor time: damaged or hostile", "too-slow")
    if code == -signal.SIGKILL:
        return Transient("the check of the file was killed from outside (out of memory?)", "probe-killed")
    if code < 0:
        name = signal.Signals(-code).name
        return Rejected(f"the decoder crashed on this file ({name}): it is damaged or hostile", "decoder-crash")
    last = err.decode(errors="replace").strip().splitlines()[-1:] or ["no message"]
    return Transient(f"the check of the file failed to run: {last[0]}", "probe-failed")


def main() -> None:
    """The child: read the request, load the libraries, close in, work, answer."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    request = msgspec.json.decode(sys.stdin.buffer.read(), type=_Request)
    import av  # loaded before the limits are set: they count what comes on top

    from stages.media.probe import probe_media

    av.logging.set_level(av.logging.ERROR)
    loaded_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most_bytes = loaded_bytes + request.memory_bytes
    status_fd = os.open("/proc/self/status", os.O_RDONLY)  # out of reach once the sandbox is closed
    report = enter(
        SandboxPolicy(
            read=[Path(p) for p in (request.probe, *request.join) if p],
            write=[Path(request.into)] if request.into else [],
            max_address_space_bytes=most_bytes,
            max_cpu_s=_CPU_S,
            max_file_bytes=request.limits.max_bytes if request.into else 0,
        )
    )
    if os.getppid() != request.parent:
        raise SystemExit(1)  # the parent died before the parent-death signal was set
    # One decoder thread: enough for one picture, less memory, and FFmpeg's log comes from this thread alone.
    limits = msgspec.structs.replace(request.limits, threads=1)
    probe: Probe | None = None
    failure: StageError | None = None
    with av.logging.Capture() as log:
        try:
            if request.probe is not None:
                probe = probe_media(Path(request.probe), limits, sha256=request.sha256)
            else:
                _join([Path(p) for p in request.join], Path(request.into), limits)
        except StageError as error:
            room_bytes = most_bytes - _peak_address_space_bytes(os.pread(status_fd, 8192, 0))
            failure = _with_cause(error, [text for _, _, text in log], room_bytes)
    answer = Confined(
        probe=probe,
        refused=failure.code if failure is not None else None,
        message=str(failure) if failure is not None else "",
        transient=isinstance(failure, Transient),
        missing_layers=report.missing,
        peak_rss_bytes=kernel.peak_rss_bytes(),
    )
    answers.write(msgspec.json.encode(answer))
    answers.flush()


_NO_MEMORY = ("get_buffer() failed", "Cannot allocate memory", "out of memory")
"""How FFmpeg's parts say that an allocation failed."""


_NO_ROOM_BYTES = 4 * 2**20
"""Less than this left of the address space at its peak: what failed was an allocation, whatever the decoder says."""


def _with_cause(error: StageError, log: list[str], room_bytes: int) -> StageError:
    """FFmpeg often answers "invalid data" where only its log, or nothing, tells that a limit of ours was hit."""
    if error.code != "broken":
        return error
    text = "\n".join(log)
    if "max pixel count" in text or "Picture size" in text:
        return Rejected("its pictures are larger than the limit", "picture-too-large")
    if room_bytes < _NO_ROOM_BYTES or any(sign in text for sign in _NO_MEMORY):
        return Rejected("decoding one of its pictures takes more memory than a video may cost", "too-much-memory")
    return error


def _peak_address_space_bytes(status: bytes) -> int:
    """`VmPeak` of proc(5)'s status file."""
    line = next(line for line in status.splitlines() if line.startswith(b"VmPeak:"))
    return int(line.split()[1]) * 1024


def _join(parts: list[Path], into: Path, limits: MediaLimits) -> None:
    """Interleave by time: read the part that is furthest behind."""
    import contextlib

    import av

    from stages.media.open import explain, open_media

    try:
        with contextlib.ExitStack() as stack:
            out = stack.enter_context(av.open(str(into), "w", format="matroska"))
            feeds: list[tuple[Iterator[Any], str, Any]] = []
            for part in parts:
                source = stack.enter_context(open_media(part, limits))
                for kind in _KINDS:
                    best = source.streams.best(kind)
                    if best is not None and all(f[1] != kind for f in feeds):
                        feeds.append((source.demux(best), kind, out.add_stream_from_template(best)))
            waiting = [(next(packets, None), packets, target) for packets, _, target in feeds]
            while True:
                ready = [w for w in waiting if w[0] is not None and w[0].dts is not None]
                if not ready:
                    return
                at = min(range(len(waiting)), key=lambda n: _behind(waiting[n][0]))
                packet, packets, target = waiting[at]
                assert packet is not None
                waiting[at] = (next(packets, None), packets, target)
                packet.stream = target
                out.mux(packet)
    except av.error.FFmpegError as error:
        raise explain(error) from error


def _behind(packet: object) -> float:
    dts, base = getattr(packet, "dts", None), getattr(packet, "time_base", None)
    return float("inf") if dts is None or base is None else float(dts * base)


if __name__ == "__main__":
    main()
