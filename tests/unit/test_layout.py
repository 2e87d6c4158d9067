"""How the house is built: which way imports point, how large a module may be, what importing one costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bus.events import STAGES

ROOT = Path(__file__).parents[2]
MOST_LINES = 400
HEAVY = (
    "numpy",
    "cv2",
    "av",
    "scipy",
    "ctranslate2",
    "faster_whisper",
    "pocketsphinx",
    "onnx",
    "onnxruntime",
    "PIL",
    "torch",
    "httpx",
    "nats",
)
STAGE_MODULES = [f"stages.{stage}" for stage in STAGES]


def modules(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def test_imports_point_one_way() -> None:
    program = Path(sys.executable).with_name("lint-imports")
    checked = subprocess.run(
        [program, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=100
    )
    assert checked.returncode == 0, checked.stdout[-3000:] + checked.stderr[-1000:]


@pytest.mark.parametrize(
    "path", modules("appliance", "bus", "stages", "bench", "web"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_a_module_is_one_idea(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MOST_LINES, f"{path} is past {MOST_LINES} lines: it is two ideas"
    if text.strip():
        assert text.startswith('"""'), f"{path} opens without saying what it is"
        assert "from __future__ import annotations" in text or "import " not in text


@pytest.mark.parametrize("module", [*STAGE_MODULES, "appliance.config", "bus.events"])
def test_importing_a_stage_or_the_configuration_is_cheap(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    shown = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.strip() == "", f"importing {module} imports {shown.stdout.strip()}"
