"""The SQLite of this box: `from appliance.sqlite import sqlite3`, never `import sqlite3`.

The interpreter's own is often years old, and one from before 3.51.3 may damage a database in WAL mode
(https://sqlite.org/wal.html, "the WAL-reset bug"). Where there is a wheel of `pysqlite3`, which carries a recent one,
the box uses that. One process holds one library: two that have the same file open would drop each other's POSIX locks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
else:
    try:
        from pysqlite3 import dbapi2 as sqlite3
    except ModuleNotFoundError:
        import sqlite3

__all__ = ["sqlite3"]
