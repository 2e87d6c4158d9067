"""The hardware monitor: what this machine is doing, once a second, as telemetry and as alerts."""
