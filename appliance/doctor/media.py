"""What the stages work with: codecs, fonts, a card, models."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from appliance.config import Config
from appliance.doctor.finding import Finding, fail, ok, warn

ENCODERS = ("libx264", "aac")
SCRIPTS = {
    "Latin": "Ñandú", "Greek": "Ωραία", "Cyrillic": "Жизнь", "Arabic": "سلام", "Hebrew": "שלום",
    "Devanagari": "नमस्ते", "Thai": "สวัสดี", "Chinese": "你好", "Japanese": "こんにちは", "Korean": "안녕",
}  # fmt: skip
"""A word in each."""


def codecs(_config: Config) -> list[Finding]:
    import av

    missing = [name for name in ENCODERS if not _can_encode(name)]
    if missing:
        return [
            fail(
                "codecs",
                f"PyAV {av.__version__} cannot write {', '.join(missing)}",
                "no clip can be made",
                "install the published wheel: pip install --force-reinstall --no-deps av",
            )
        ]
    return [ok("codecs", f"PyAV {av.__version__} writes {' and '.join(ENCODERS)}")]


def fonts(config: Config) -> list[Finding]:
    """Which scripts captions can be written in."""
    from stages.errors import Misconfigured
    from stages.media.fonts import choose_typeface

    configured = Path(config.stages.cut.font) if config.stages.cut.font else None
    try:
        faces = {script: choose_typeface(text, configured) for script, text in SCRIPTS.items()}
    except Misconfigured as error:
        return [fail("fonts", str(error), "no clip can be captioned", "correct stages.cut.font, or leave it out")]
    lacking = [script for script, face in faces.items() if face.missing]
    found = f"{faces['Latin'].name}; letters for {', '.join(s for s in SCRIPTS if s not in lacking)}"
    if lacking:
        found += f"; none for {', '.join(lacking)} (Debian has them in fonts-noto-core and fonts-noto-cjk)"
    if {"Latin", "Greek", "Cyrillic"} & set(lacking):
        action = "install the packages fontpkg-montserrat and fontpkg-noto-sans again: `make setup`"
        return [warn("fonts", found, "captions in these scripts show boxes for letters", action)]
    return [ok("fonts", found)]


def gpu(_config: Config) -> list[Finding]:
    """The NVIDIA cards, and whether the libraries that use them are there. No card is a normal box."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return [ok("gpu", "no GPU; everything runs on the CPU")]
    try:
        driver = pynvml.nvmlSystemGetDriverVersion()
        cards = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        if not cards:
            return [ok("gpu", f"driver {driver}, no GPU; everything runs on the CPU")]
        said = ", ".join(
            f"{pynvml.nvmlDeviceGetName(card)} {pynvml.nvmlDeviceGetMemoryInfo(card).total / 1024**3:.0f} GiB"
            for card in cards
        )
        return [ok("gpu", f"{said}, driver {driver}"), _cuda()]
    finally:
        pynvml.nvmlShutdown()


def models(config: Config) -> list[Finding]:
    """What lies in the models folder, every byte checked, and which recommended models are absent."""
    from appliance.models import REGISTRY, state

    found = []
    for model in REGISTRY:
        have = state(model, config.models_dir, sums=True)
        name = f"model {model.name}"
        if have.state == "damaged":
            found.append(fail(name, have.detail, "the stage refuses it", f"appliance models pull {model.name}"))
        elif have.state == "absent" and model.recommended:
            found.append(warn(name, "not on this box", model.use, f"appliance models pull {model.name}"))
        elif have.state != "absent":
            found.append(ok(name, have.detail))
    return found


def _can_encode(name: str) -> bool:
    import av

    try:
        av.Codec(name, "w")
    except (ValueError, LookupError):
        return False
    return True


def _cuda() -> Finding:
    import ctranslate2

    absent = [name for name in ("torch", "tensorrt", "ultralytics") if find_spec(name) is None]
    speech = ctranslate2.get_cuda_device_count() > 0
    if speech and not absent:
        return ok("cuda", "speech and faces can use the card")
    without = [*([] if speech else ["speech: CUDA's libraries are not found"]), *(f"faces: no {n}" for n in absent)]
    return warn(
        "cuda",
        "; ".join(without),
        "that part runs on the CPU, slower",
        "install the gpu extra: pip install 'agentos-appliance[gpu]'",
    )
