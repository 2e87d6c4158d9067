"""Looks at the box and says what is right, what is not, what that means and what to do.

Every check is a function `(Config) -> list[Finding]` that only looks: it starts nothing that stays, changes no setting
and leaves no file behind. A check that breaks is itself a finding.
"""

from __future__ import annotations

from appliance.config import Config
from appliance.doctor.finding import Finding as Finding


def examine(config: Config) -> list[Finding]:
    """All findings, in the order in which a person would look. Takes a second or two."""
    from appliance.doctor import host, media, programs

    checks = (
        host.python,
        host.machine,
        host.disk,
        host.clock,
        host.sqlite,
        host.confinement,
        programs.bus,
        programs.web,
        programs.cache,
        programs.helpers,
        media.codecs,
        media.fonts,
        media.gpu,
        media.models,
    )
    found: list[Finding] = []
    for check in checks:
        try:
            found += check(config)
        except Exception as error:  # noqa: BLE001 - a broken check must not hide the others
            found.append(
                Finding(
                    name=check.__name__,
                    state="WARN",
                    found=f"the check itself failed: {type(error).__name__}: {error}",
                    meaning="this part of the box is unknown",
                    action="report it with the output of `appliance doctor --json`",
                )
            )
    return found
