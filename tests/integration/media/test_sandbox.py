"""Each layer of the sandbox really bites, alone and together, in a fresh child."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).parents[3]
_CHILD = """
import json, os, sys
from pathlib import Path
from stages.media import sandbox
folder = Path(sys.argv[1])
options = json.loads(sys.argv[2])
only = options.pop("only", None)
uid = options.pop("uid", None)
if uid is not None:
    import socket, subprocess, tempfile, numpy  # this user cannot read the interpreter's folder: load all before
    sandbox.interpreter_paths(); "x".encode("idna")
    os.setgroups([]); os.setgid(uid); os.setuid(uid)
if only is not None:
    layers = {
        "landlock": "_confine", "system call filter": "_filter", "network namespace": "_leave_network",
        "limits": "_limit",
    }
    def off(*a):
        raise OSError(0, "switched off")
    for name, function in layers.items():
        if name != only:
            setattr(sandbox, function, off)
report = sandbox.enter(sandbox.SandboxPolicy(read=[folder / "in"], write=[folder / "out"], **options))
results = {}
def attempt(name, action):
    try:
        results[name] = repr(action())
    except BaseException as error:
        results[name] = type(error).__name__
import socket, subprocess
def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        return s.sendto(b"x", ("127.0.0.1", int(sys.argv[3])))
def tcp():
    with socket.create_connection(("127.0.0.1", int(sys.argv[3])), timeout=2):
        return "connected"
def rename():
    (folder / "out" / "a").write_text("a")
    (folder / "out" / "a").rename(folder / "out" / "b")
    return (folder / "out" / "b").read_text()
attempt("read own", lambda: (folder / "in").read_text())
attempt("write own", rename)
attempt("read neighbour", lambda: (folder / "neighbour").read_text())
attempt("list folder", lambda: os.listdir(folder))
attempt("change own input", lambda: (folder / "in").open("r+"))
attempt("write neighbour", lambda: (folder / "new").write_text("x"))
attempt("read passwd", lambda: Path("/etc/passwd").read_text())
attempt("tcp", tcp)
attempt("udp", udp)
attempt("unix", lambda: socket.socket(socket.AF_UNIX).close())
attempt("memory", lambda: len(__import__("mmap").mmap(-1, 3 * 2**30)))
attempt("run", lambda: subprocess.run(["/bin/true"]).returncode)
attempt("signal parent", lambda: os.kill(os.getppid(), 0))
attempt("big file", lambda: (folder / "out" / "big").write_bytes(bytes(2 * 2**20)))
attempt("temporary", lambda: __import__("tempfile").mkstemp()[1].startswith(str(folder / "out")))
attempt("numpy", lambda: int(__import__("numpy").ones(10).sum()))
print(json.dumps({"layers": report.layers, "missing": report.missing, "results": results}))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").write_text("mine")
    (tmp_path / "neighbour").write_text("not mine")
    (tmp_path / "out").mkdir()
    return tmp_path


def closed_in(folder: Path, **options: Any) -> tuple[dict[str, Any], bool]:
    """What a child can do under the policy, and whether a TCP connection arrived."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        command = [sys.executable, "-c", _CHILD, str(folder), json.dumps(options), str(server.getsockname()[1])]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        try:
            server.accept()[0].close()
            arrived = True
        except BlockingIOError:
            arrived = False
    return json.loads(done.stdout), arrived


def has(answer: dict[str, Any], layer: str) -> bool:
    return any(name.startswith(layer) for name in answer["layers"])


def require(answer: dict[str, Any], layer: str) -> None:
    if not has(answer, layer):
        pytest.skip(f"this kernel has no {layer}: {answer['missing']}")


def test_all_layers_together(folder: Path) -> None:
    answer, arrived = closed_in(folder, max_address_space_bytes=1_500 * 2**20, max_file_bytes=2**20)
    require(answer, "landlock")
    require(answer, "system call filter")
    results = answer["results"]
    assert results["read own"] == "'mine'"
    assert results["write own"] == "'a'"
    assert results["temporary"] == "True"
    assert results["numpy"] == "10"
    for name in ("read neighbour", "list folder", "change own input", "write neighbour", "read passwd"):
        assert results[name] == "PermissionError", name
    for name in ("tcp", "udp", "unix", "run"):
        assert results[name] == "PermissionError", name
    assert results["memory"] == "OSError"
    assert results["big file"] == "OSError"
    assert not arrived
    if "ABI 6" in str(answer["layers"]) or "ABI 7" in str(answer["layers"]):
        assert results["signal parent"] == "PermissionError"
    assert not (folder / "new").exists()


def test_without_a_sandbox_all_of_it_works(folder: Path) -> None:
    """The proof that the attempts above are real."""
    answer, arrived = closed_in(folder, only="none", network=True)
    results = answer["results"]
    assert arrived
    assert not [name for name, value in results.items() if value.endswith("Error")]


def test_landlock_alone_keeps_files_and_tcp(folder: Path) -> None:
    answer, arrived = closed_in(folder, only="landlock")
    require(answer, "landlock")
    results = answer["results"]
    assert results["read own"] == "'mine'"
    assert {results[n] for n in ("read neighbour", "write neighbour", "read passwd", "run")} == {"PermissionError"}
    assert results["udp"] == "1"  # what it does not cover
    if "without TCP" not in str(answer["layers"]):
        assert results["tcp"] == "PermissionError"
        assert not arrived


def test_the_filter_alone_keeps_sockets(folder: Path) -> None:
    answer, arrived = closed_in(folder, only="system call filter")
    require(answer, "system call filter")
    results = answer["results"]
    assert {results[n] for n in ("tcp", "udp", "unix")} == {"PermissionError"}
    assert results["read neighbour"] == "'not mine'"
    assert not arrived


def test_the_namespace_alone_has_no_network(folder: Path) -> None:
    answer, arrived = closed_in(folder, only="network namespace")
    require(answer, "network namespace")
    assert {answer["results"][n] for n in ("tcp", "udp")} == {"OSError"}  # network is unreachable
    assert not arrived


def test_limits_alone_keep_memory_and_files(folder: Path) -> None:
    answer, _ = closed_in(folder, only="limits", max_address_space_bytes=1_500 * 2**20, max_file_bytes=2**20)
    assert answer["results"]["memory"] == "OSError"
    assert answer["results"]["big file"] == "OSError"
    assert answer["results"]["read neighbour"] == "'not mine'"


def test_network_can_be_allowed(folder: Path) -> None:
    answer, arrived = closed_in(folder, network=True)
    assert arrived
    assert answer["results"]["tcp"] == "'connected'"
    if has(answer, "landlock"):
        assert answer["results"]["read neighbour"] == "PermissionError"


def test_programs_can_be_allowed(folder: Path) -> None:
    answer, _ = closed_in(folder, programs=True)
    assert answer["results"]["run"] == "0"


def test_it_needs_no_root(folder: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("the other tests have shown it already: this user is not root")
    folder.chmod(0o755)
    for parent in folder.parents:
        if parent.stat().st_mode & 0o001 == 0 and str(parent) != "/":
            parent.chmod(parent.stat().st_mode | 0o011)
    (folder / "out").chmod(0o777)
    answer, arrived = closed_in(folder, uid=65534)
    require(answer, "landlock")
    require(answer, "system call filter")
    assert answer["results"]["read own"] == "'mine'"
    assert answer["results"]["write own"] == "'a'"
    for name in ("read neighbour", "write neighbour", "tcp", "udp"):
        assert answer["results"][name] == "PermissionError", name
    assert not arrived


def test_what_is_missing_is_named(folder: Path) -> None:
    answer, _ = closed_in(folder, only="limits")
    assert len(answer["missing"]) == 3
    assert all(text.startswith("sandbox layer not active: ") for text in answer["missing"])


_SPIN = """
from stages.media.sandbox import SandboxPolicy, enter
enter(SandboxPolicy(max_cpu_s=1))
while True:
    pass
"""
_SLEEPER = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", '''
import signal, sys
from stages.media.sandbox import SandboxPolicy, enter
enter(SandboxPolicy())
print("ready", flush=True)
signal.pause()
'''], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_an_endless_loop_ends() -> None:
    done = subprocess.run([sys.executable, "-c", _SPIN], cwd=ROOT, timeout=60, check=False)
    assert done.returncode < 0


def test_it_dies_with_its_parent() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", _SLEEPER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait(10)
    deadline = time.monotonic() + 10
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.01)
    for stream in (parent.stdin, parent.stdout):
        assert stream is not None
        stream.close()
