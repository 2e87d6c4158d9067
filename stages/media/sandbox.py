"""Closing a process in before it touches bytes from outside: limits, no network, only its own files.

Each layer stands alone, so that a hole in one is behind another. What the kernel or the machine does not offer is
left out and named in the report; nothing here ever stops the work.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec import Struct, field

from stages.media import kernel, landlock, seccomp

_SYSTEM_READ = (
    "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo", "/usr/share/fonts",
    "/usr/share/espeak-ng-data", "/usr/local/share/fonts", "/etc/ld.so.cache", "/etc/localtime", "/etc/fonts",
    "/etc/ssl", "/etc/nsswitch.conf", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
    "/sys/devices/system", "/sys/fs/cgroup", "/dev/zero", "/dev/urandom", "/dev/random",
)  # fmt: skip
_NETWORK_READ = ("/etc/resolv.conf", "/etc/hosts", "/etc/gai.conf", "/run/systemd/resolve", "/etc/ca-certificates")
_GPU_READ = ("/sys", "/proc", "/etc/nvidia", "/etc/OpenCL", "/usr/share/nvidia", "/usr/local/cuda")
_CPU_GRACE_S = 5


@dataclass(frozen=True, kw_only=True)
class SandboxPolicy:
    """What a process may still do. The interpreter, its packages and the system's libraries are always readable."""

    read: Sequence[Path] = ()
    """Files and folders; what does not exist is passed over."""
    write: Sequence[Path] = ()
    """Existing folders (or files) that may be read and changed; the first one becomes the temporary folder."""
    max_address_space_bytes: int | None = None
    """None or 0: unlimited (CUDA reserves far more address space than memory)."""
    max_cpu_s: float | None = None
    """Of processor time in all threads from the process's start on."""
    max_file_bytes: int | None = None
    """Size of any one file that it writes."""
    max_open_files: int = 256
    network: bool = False
    gpu: bool = False
    """Where the machine has NVIDIA devices: opens them, /sys and /proc for reading, and allows programs."""
    programs: bool = False
    """Whether it may start other programs (those of the system and of the interpreter's folder)."""


class SandboxReport(Struct, frozen=True, kw_only=True):
    """Which layers hold. `missing` has one sentence for people each."""

    layers: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def enter(policy: SandboxPolicy) -> SandboxReport:
    """Close the calling process in, for good; call it early, in a process with one thread.

    Threads that run already keep their files (Landlock is per thread), so load libraries that start threads after.
    Raises `FileNotFoundError` when a folder of `policy.write` does not exist.
    """
    for path in policy.write:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, "a sandbox cannot allow writing to what does not exist", str(path))
    if policy.write and policy.write[0].is_dir():
        os.environ["TMPDIR"] = tempfile.tempdir = str(policy.write[0])
    layers: list[str] = []
    missing: list[str] = []

    def layer(name: str, close: Callable[[], object]) -> None:
        try:
            found = close()
        except OSError as error:
            missing.append(f"sandbox layer not active: {name} ({error.strerror or error})")
        else:
            layers.append(f"{name} {found}" if isinstance(found, str) else name)

    layer("limits", lambda: _limit(policy))
    if not policy.network:
        layer("network namespace", _leave_network)
    # After the namespace: a change of credentials clears the signal.
    layer("parent-death signal", lambda: kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL))
    layer("no new privileges", lambda: kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1))
    layer("no capabilities", kernel.drop_capabilities)
    layer("landlock", lambda: _confine(policy))
    layer("system call filter", lambda: _filter(policy))
    if len(list(Path("/proc/self/task").iterdir())) > 1 and any(name.startswith("landlock") for name in layers):
        missing.append("sandbox layer not complete: landlock does not hold threads that were already running")
    return SandboxReport(layers=layers, missing=missing)


def interpreter_paths() -> list[Path]:
    """Where the running interpreter and the packages that it can import lie, this project's own included."""
    names = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    names += [
        sysconfig.get_config_var("LIBDIR") or "",
        str(Path(sys.prefix) / "pyvenv.cfg"),
    ]
    names += [p for p in sys.path if p.endswith(("site-packages", "dist-packages", ".zip", "lib-dynload"))]
    ours = Path(__file__).resolve().parents[2]
    return [Path(n) for n in dict.fromkeys(names) if n] + [
        ours / name for name in ("stages", "bus", "appliance", "web")
    ]


def _limit(policy: SandboxPolicy) -> None:
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, policy.max_open_files)
    if policy.max_address_space_bytes:
        _lower(resource.RLIMIT_AS, policy.max_address_space_bytes)
    if policy.max_file_bytes is not None:
        # Past the limit a write should fail with an error, not a signal.
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        _lower(resource.RLIMIT_FSIZE, policy.max_file_bytes)
    if policy.max_cpu_s is not None:
        cpu_s = max(1, round(policy.max_cpu_s))
        _lower(resource.RLIMIT_CPU, cpu_s, cpu_s + _CPU_GRACE_S)


def _lower(kind: int, soft: int, hard: int | None = None) -> None:
    """Set a limit, never above the one in force."""
    now = resource.getrlimit(kind)[1]
    wanted = soft if hard is None else hard
    ceiling = wanted if now == resource.RLIM_INFINITY else min(wanted, now)
    resource.setrlimit(kind, (min(soft, ceiling), ceiling))


def _leave_network() -> None:
    """A network namespace of its own has only a loopback that is down. Without root it takes a user namespace."""
    uid, gid = os.getuid(), os.getgid()
    try:
        kernel.unshare(kernel.CLONE_NEWNET)
    except PermissionError:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path(f"/proc/self/{name}").write_text(text)


def _confine(policy: SandboxPolicy) -> str:
    cards = sorted(Path("/dev").glob("nvidia*")) if policy.gpu else []
    library = landlock.RUN if policy.programs or cards else landlock.READ
    rules = [(Path(p), library) for p in _SYSTEM_READ]
    rules += [(p, library) for p in interpreter_paths()]
    rules += [(Path("/dev/null"), landlock.DEVICE)]
    rules += [(p, landlock.READ) for p in policy.read]
    rules += [(p, landlock.WRITE) for p in policy.write]
    if policy.programs or cards:
        rules += [(Path(p), landlock.RUN) for p in ("/bin", "/usr/bin", "/usr/local/bin", Path(sys.executable).parent)]
        rules += [(Path(os.path.realpath(sys.executable)).parent, landlock.RUN)]
    if policy.network:
        rules += [(Path(p), landlock.READ) for p in _NETWORK_READ]
    if cards:
        rules += [(Path(p), landlock.READ) for p in _GPU_READ]
        rules += [(p, landlock.DEVICE) for p in cards]
    version = landlock.restrict(rules, tcp=policy.network)
    return f"(ABI {version}{'' if version >= 4 or policy.network else ', without TCP'})"


def _filter(policy: SandboxPolicy) -> None:
    calls = {"io_uring_setup": errno.ENOSYS, "ptrace": errno.EPERM}
    calls |= {"process_vm_readv": errno.EPERM, "process_vm_writev": errno.EPERM}
    if not policy.network:
        calls["socket"] = errno.EACCES
    seccomp.refuse(calls)
