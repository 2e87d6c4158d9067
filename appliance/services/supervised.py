"""Services: the supervised processes of the box, up or down and since when."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from appliance.services.figures import rows
from appliance.sqlite import sqlite3
from appliance.store.queries import ServiceRow


class Services(Struct, frozen=True, kw_only=True):
    """All supervised processes."""

    up: int
    down: int
    services: list[ServiceRow]
    """The ones that are down first, then by name."""


def services(db: sqlite3.Connection, now: datetime) -> Services:
    found = rows(db, ServiceRow, "SELECT * FROM services ORDER BY state, service")
    up = sum(1 for row in found if row.state == "up")
    return Services(up=up, down=len(found) - up, services=found)
