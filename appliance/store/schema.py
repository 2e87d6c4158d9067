"""The tables of `appliance.db`.

`events` is the second full copy of the facts and the audit trail: append-only, guarded by triggers. The other tables
are derived from it, row for row, and can be dropped and rebuilt at any time (`PROJECTED`). `meta` holds the stream
position: `epoch` (creation of the stream) and `cursor` (sequence of the last fact applied), written in the same
transaction as the rows, and `actions_cursor`, the last fact whose follow-up actions have been carried out.
"""

from __future__ import annotations

from collections.abc import Iterator

from appliance.sqlite import sqlite3

SCHEMA_VERSION = 7
"""Goes up with each change of a projected table. A database of an older version is upgraded when it is opened for
writing: its projected tables are made anew from its own `events`, which never change (`Projection.upgrade`)."""

PROJECTED: tuple[str, ...] = (
    "jobs",
    "clips",
    "attempts",
    "files",
    "workers",
    "services",
    "alerts",
    "controls",
    "hours",
    "stage_hours",
    "event_minutes",
    "totals",
)
"""Tables that are a pure function of `events`."""

JOB_STATES = ("queued", "running", "clipping", "completed", "failed", "cancelled", "deleted")
CLIP_STATES = ("planned", "running", "ready", "failed")


def _counted(table: str) -> str:
    """Triggers that keep the number of rows of `table` by state in `totals`. Rows of these tables are never removed."""
    add = (
        f"INSERT INTO totals VALUES ('{table}', new.state, 1)"  # noqa: S608 - names of our own schema
        " ON CONFLICT (kind, state) DO UPDATE SET count = count + 1;"
    )
    return f"""
CREATE TRIGGER IF NOT EXISTS {table}_are_counted AFTER INSERT ON {table} BEGIN {add} END;
CREATE TRIGGER IF NOT EXISTS {table}_are_recounted AFTER UPDATE OF state ON {table} WHEN old.state <> new.state BEGIN
    UPDATE totals SET count = count - 1 WHERE kind = '{table}' AND state = old.state;
    {add}
END;"""  # noqa: S608 - names of our own schema


def _one_of(column: str, values: tuple[str, ...]) -> str:
    return f"CHECK ({column} IN ({', '.join(repr(v) for v in values)}))"


NEVER_REMOVED = """CREATE TRIGGER IF NOT EXISTS events_are_never_removed BEFORE DELETE ON events
BEGIN SELECT RAISE(ABORT, 'events are facts: they are never removed'); END;"""

SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    ts TEXT NOT NULL,
    job TEXT,
    clip INTEGER,
    subject TEXT NOT NULL,
    payload BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS events_by_job ON events (job, seq) WHERE job IS NOT NULL;
CREATE INDEX IF NOT EXISTS events_by_type ON events (type, seq);
CREATE TRIGGER IF NOT EXISTS events_are_never_changed BEFORE UPDATE ON events
BEGIN SELECT RAISE(ABORT, 'events are facts: they are never changed'); END;
{NEVER_REMOVED}

CREATE TABLE IF NOT EXISTS jobs (
    job TEXT PRIMARY KEY,
    state TEXT NOT NULL {_one_of("state", JOB_STATES)},
    stage TEXT,                      -- the stage that works or waits; NULL once the job has ended
    last_done TEXT,                  -- the last job stage that finished
    name TEXT NOT NULL,
    kind TEXT NOT NULL,
    location TEXT NOT NULL,
    fingerprint TEXT,
    options TEXT NOT NULL,
    priority INTEGER NOT NULL,
    owner TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    ended_at TEXT,
    duration_s REAL,
    size_bytes INTEGER,
    sha256 TEXT,
    language TEXT,
    rough INTEGER,
    clips_planned INTEGER,
    clips_ready INTEGER NOT NULL DEFAULT 0,
    clips_failed INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    error_code TEXT,
    pinned INTEGER NOT NULL DEFAULT 0,
    source_removed_at TEXT,          -- by retention: what is gone and was not made again
    scratch_removed_at TEXT,
    clips_removed_at TEXT,
    last_seq INTEGER NOT NULL        -- sequence of the last fact of the job's own history
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state, created_at);
CREATE INDEX IF NOT EXISTS jobs_by_end ON jobs (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_by_fingerprint ON jobs (fingerprint) WHERE fingerprint IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_by_content ON jobs (sha256) WHERE sha256 IS NOT NULL;

CREATE TABLE IF NOT EXISTS clips (
    job TEXT NOT NULL,
    clip INTEGER NOT NULL,
    state TEXT NOT NULL {_one_of("state", CLIP_STATES)},
    stage TEXT,
    last_done TEXT,
    start_s REAL NOT NULL,
    end_s REAL NOT NULL,
    score REAL NOT NULL,
    title TEXT NOT NULL,
    reasons TEXT NOT NULL,
    path TEXT,
    size_bytes INTEGER,
    sha256 TEXT,
    duration_s REAL,
    encoder TEXT,
    loudness_lufs REAL,
    error TEXT,
    error_code TEXT,
    updated_at TEXT NOT NULL,
    last_seq INTEGER NOT NULL,
    PRIMARY KEY (job, clip)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS clips_ready ON clips (updated_at) WHERE state = 'ready';

CREATE TABLE IF NOT EXISTS attempts (
    seq INTEGER PRIMARY KEY,         -- sequence of the start fact
    job TEXT NOT NULL,
    clip INTEGER,
    stage TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    claim INTEGER NOT NULL,
    worker TEXT NOT NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    outcome TEXT,                    -- done, retrying, failed; NULL while it works or when it was taken over
    seconds REAL,
    device TEXT,
    notes TEXT,
    error TEXT,
    error_code TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS attempts_by_item ON attempts (job, clip, seq);

CREATE TABLE IF NOT EXISTS files (               -- what came in as a file, and what of the watch folder was refused
    seq INTEGER PRIMARY KEY,
    file TEXT NOT NULL,
    state TEXT NOT NULL {_one_of("state", ("taken", "refused"))},
    path TEXT NOT NULL,
    name TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256 TEXT,
    via TEXT NOT NULL,
    fingerprint TEXT,                -- of path, size and mtime; NULL for uploads
    job TEXT,                        -- that was made of it; for a refused duplicate, the job that has its content
    code TEXT,
    reason TEXT,
    at TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS files_by_fingerprint ON files (fingerprint, seq) WHERE fingerprint IS NOT NULL;
CREATE INDEX IF NOT EXISTS files_by_content ON files (sha256, seq) WHERE sha256 IS NOT NULL;

CREATE TABLE IF NOT EXISTS workers (
    worker TEXT PRIMARY KEY,
    stage TEXT NOT NULL,
    state TEXT NOT NULL {_one_of("state", ("online", "offline"))},
    pid INTEGER,
    host TEXT,
    since TEXT NOT NULL,
    reason TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS services (
    service TEXT PRIMARY KEY,
    state TEXT NOT NULL {_one_of("state", ("up", "down"))},
    since TEXT NOT NULL,
    pid INTEGER,
    reason TEXT,
    restarts INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS alerts (
    alert TEXT PRIMARY KEY,
    severity TEXT NOT NULL,
    state TEXT NOT NULL {_one_of("state", ("raised", "cleared"))},
    message TEXT NOT NULL,
    value REAL,
    threshold REAL,
    since TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS controls (            -- the control ledger: the last word of each target and holder
    target TEXT NOT NULL,
    holder TEXT NOT NULL,
    mode TEXT NOT NULL {_one_of("mode", ("run", "pause", "drain"))},
    said_by TEXT NOT NULL,
    reason TEXT NOT NULL,
    since TEXT NOT NULL,             -- of this mode; a hold that is said again keeps it
    until TEXT,                      -- NULL: until somebody ends it
    PRIMARY KEY (target, holder)
) STRICT, WITHOUT ROWID;

-- Figures (appliance.store.figures). Hours and minutes are UTC: 2026-01-31T23, 2026-01-31T23:59.
CREATE TABLE IF NOT EXISTS hours (
    hour TEXT PRIMARY KEY,
    jobs INTEGER NOT NULL DEFAULT 0,             -- created
    completed INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    cancelled INTEGER NOT NULL DEFAULT 0,
    media_s REAL NOT NULL DEFAULT 0,             -- seconds of video that came in
    source_bytes INTEGER NOT NULL DEFAULT 0,
    clips_ready INTEGER NOT NULL DEFAULT 0,
    clips_failed INTEGER NOT NULL DEFAULT 0,
    clip_s REAL NOT NULL DEFAULT 0,              -- seconds of clips made
    first_clips INTEGER NOT NULL DEFAULT 0,      -- jobs whose first clip became ready
    first_clip_s REAL NOT NULL DEFAULT 0,        -- their sum of seconds from creation to it
    first_clip_max_s REAL NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS stage_hours (
    hour TEXT NOT NULL,
    stage TEXT NOT NULL,
    done INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,           -- given up
    retried INTEGER NOT NULL DEFAULT 0,          -- attempts that failed and were followed by another
    seconds REAL NOT NULL DEFAULT 0,             -- of the attempts that succeeded
    media_s REAL NOT NULL DEFAULT 0,             -- of the video or clip they worked on
    PRIMARY KEY (hour, stage)
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS totals (              -- rows of jobs and clips by state, kept by triggers
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (kind, state)
) STRICT, WITHOUT ROWID;
{_counted("jobs")}
{_counted("clips")}

CREATE TABLE IF NOT EXISTS event_minutes (       -- the last KEEP_MINUTES only
    minute TEXT NOT NULL,
    type TEXT NOT NULL,
    count INTEGER NOT NULL,
    PRIMARY KEY (minute, type)
) STRICT, WITHOUT ROWID;
"""  # noqa: S608 - data of this module


def statements(script: str) -> Iterator[str]:
    """The script's statements one by one: `executescript` would commit the transaction around it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
