"""The documents speak of what exists: commands, options, make targets, files; and of nothing that must not be said.

A fenced `console` block after the line `<!-- test -->` is a promise: each of its commands is resolved, option by
option, against the real command line or the Makefile. So is every `appliance …` in back quotes.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import click
import pytest

from appliance.cli import main

ROOT = Path(__file__).parents[3]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"<!-- test -->\n+```console\n(.*?)```", re.DOTALL)
QUOTED = re.compile(r"`(appliance [a-z][^`\n]*|make [a-z][^`\n]*)`")
FORBIDDEN = re.compile(
    r"/wor[k]/|/tmp/[v]/|\.\./share[d]\b|py[p]i\.org|python[h]osted|npm[j]s\.|yarn[p]kg\.|deb\.[d]ebian\.|/opt/[pw][yh]",
    re.IGNORECASE,
)
"""Paths of one machine and hosts of package registries, written so that this line is not one of them."""
TEXT = {".py", ".md", ".toml", ".yaml", ".yml", ".sh", ".lock", ".txt", ".cfg", ".json", ".ts", ".css", ".html", ""}


def tracked() -> list[Path]:
    """Every text file that is committed, or would be."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    names = [name.decode() for name in listed.stdout.split(b"\0") if name]
    return [ROOT / name for name in names if (ROOT / name).suffix in TEXT and (ROOT / name).is_file()]


def promised(document: Path) -> list[str]:
    """The commands of a document's tested blocks, and those in back quotes."""
    text = document.read_text()
    blocks = [line.removeprefix("$ ") for block in BLOCK.findall(text) for line in block.splitlines()]
    return [line for line in [*blocks, *QUOTED.findall(text)] if line.startswith(("appliance ", "make "))]


PROMISES = [(document, line) for document in DOCUMENTS for line in promised(document)]


def resolve(line: str) -> str | None:
    """What does not exist in an `appliance …` line, or None."""
    words = shlex.split(re.split(r" [|>&]|;", line)[0].replace("…", ""), comments=True)[1:]
    command: click.Command = main
    context = click.Context(command)
    while words:
        word = words.pop(0)
        if word.startswith("-"):
            options = {
                name: p for p in command.params if isinstance(p, click.Option) for name in [*p.opts, *p.secondary_opts]
            }
            name = word.partition("=")[0]
            if name in ("--help", "-h"):
                continue
            if name not in options:
                return f"option {name} of {command.name}"
            if not options[name].is_flag and "=" not in word and words:
                words.pop(0)
        elif isinstance(command, click.Group):
            choices = [choice for choice in word.split("|") if choice.isidentifier() or "-" in choice]
            found = [command.get_command(context, choice) for choice in choices]
            missing = [choice for choice, below in zip(choices, found, strict=True) if below is None]
            if missing:
                return f"command {missing[0]}"
            if not found or found[0] is None:
                return None  # a placeholder such as COMMAND
            command = found[0]
            context = click.Context(command)
    return None


@pytest.mark.parametrize(
    ("document", "line"), PROMISES, ids=lambda value: value.name if isinstance(value, Path) else value
)
def test_a_documented_command_exists(document: Path, line: str) -> None:
    if line.startswith("make "):
        targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        named = [word for word in shlex.split(line)[1:] if "=" not in word and word.islower()]
        assert [word for word in named if word not in targets] == [], f"{document.name}: `{line}`"
    else:
        assert resolve(line) is None, f"{document.name}: `{line}` speaks of {resolve(line)}, which does not exist"


def test_the_resolver_finds_what_does_not_exist() -> None:
    assert resolve("appliance config check") is None
    assert resolve("appliance -c FILE config show --json > out") is None
    assert resolve("appliance models list|pull|add") is None
    assert resolve("appliance nope") == "command nope"
    assert resolve("appliance config show --nope") == "option --nope of show"
    assert resolve("appliance models list|nope") == "command nope"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (document.parent / target).exists(), f"{document.name} links to {target}, which is not there"


def test_nothing_names_this_machine_or_a_registry() -> None:
    bad = [
        f"{path.relative_to(ROOT)}:{number}: {found.group()}"
        for path in tracked()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (found := FORBIDDEN.search(line))
    ]
    assert bad == []


def test_nothing_large_or_binary_is_committed() -> None:
    """But for small screenshots of our own pages, `docs/*.png`."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    files = [ROOT / name.decode() for name in listed if name and (ROOT / name.decode()).is_file()]
    large = [str(path.relative_to(ROOT)) for path in files if path.stat().st_size > 300 * 1024]
    shots = {path for path in (ROOT / "docs").glob("*.png") if path.stat().st_size <= 64 * 1024}
    binary = [str(path.relative_to(ROOT)) for path in files if path not in shots and b"\0" in path.read_bytes()[:8000]]
    assert (large, binary) == ([], [])


def test_every_make_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony
    for target in phony.group(1).split():
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), f"make {target} has no explanation"
