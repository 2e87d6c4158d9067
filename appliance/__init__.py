"""AgentOS Appliance: the box around the stages: configuration, supervision, store, commands."""

from __future__ import annotations

__version__ = "0.1.0"
