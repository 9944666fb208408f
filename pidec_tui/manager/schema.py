"""The tables of the job log, as a list of forward migrations: entry i takes a database from version i to i + 1."""

from __future__ import annotations

_FIRST = """
CREATE TABLE jobs (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    kind          TEXT NOT NULL,
    name          TEXT NOT NULL,
    state         TEXT NOT NULL,
    lane          TEXT NOT NULL,
    config        TEXT NOT NULL,              -- JSON, resolved
    preset        TEXT,
    after         TEXT NOT NULL DEFAULT '[]', -- JSON list of job ids
    position      REAL NOT NULL,
    waiting_for   TEXT NOT NULL DEFAULT '',
    reason        TEXT NOT NULL DEFAULT '',
    created       REAL NOT NULL,
    started       REAL,
    ended         REAL,
    step          INTEGER,
    total_steps   INTEGER,
    step_name     TEXT NOT NULL DEFAULT '',
    retry         INTEGER NOT NULL DEFAULT 0, -- how many attempts there were when it was last retried
    fresh         INTEGER NOT NULL DEFAULT 0, -- the next attempt starts from nothing
    cancel_asked  REAL,                       -- unix seconds
    announce      INTEGER NOT NULL DEFAULT 0, -- on_end has still to be run
    cwd           TEXT NOT NULL DEFAULT '',
    environment   TEXT NOT NULL DEFAULT '{}', -- JSON, no secrets
    code_version  TEXT NOT NULL DEFAULT ''
);
CREATE INDEX jobs_by_state ON jobs (state, position);

CREATE TABLE attempts (
    job             INTEGER NOT NULL REFERENCES jobs (id),
    number          INTEGER NOT NULL,
    state           TEXT NOT NULL,
    token           TEXT NOT NULL,
    started         REAL NOT NULL,
    ended           REAL,
    pid             INTEGER,
    gpu             TEXT,
    exit_code       INTEGER,
    signal          INTEGER,
    cause           TEXT NOT NULL DEFAULT '',
    resumed_step    INTEGER,
    fresh           INTEGER NOT NULL DEFAULT 1, -- goes on from nothing: earlier attempts' curves are void
    new_checkpoint  INTEGER NOT NULL DEFAULT 0, -- wrote a checkpoint (or, for demos, got further)
    offset          INTEGER NOT NULL DEFAULT 0, -- bytes of metrics.jsonl that were read
    term_at         REAL,                       -- when a cancel sent its SIGTERM
    PRIMARY KEY (job, number)
) WITHOUT ROWID;

CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);

CREATE TABLE metrics (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    job      INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    name     INTEGER NOT NULL REFERENCES names (id),
    step     INTEGER NOT NULL,
    time     REAL NOT NULL,
    value    REAL,                            -- NULL for NaN and infinity
    UNIQUE (job, attempt, seq, name)
);
CREATE INDEX metrics_by_curve ON metrics (job, name);

-- the newest point of each curve: lists and panels never look through `metrics`
CREATE TABLE latest (
    job      INTEGER NOT NULL,
    name     INTEGER NOT NULL,
    step     INTEGER NOT NULL,
    time     REAL NOT NULL,
    value    REAL,
    PRIMARY KEY (job, name)
) WITHOUT ROWID;

CREATE TABLE events (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    job      INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    seq      INTEGER NOT NULL,                -- negative: the runner's own
    step     INTEGER,
    time     REAL NOT NULL,
    event    TEXT NOT NULL,
    detail   TEXT NOT NULL,                   -- JSON
    UNIQUE (job, attempt, seq)
);
CREATE INDEX events_by_job ON events (job);
"""

# One row a line of metrics.jsonl, its values packed: a run of 20 metrics x 50,000 lines is 50,000 rows instead of a
# million, which are read more than ten times as fast. `packed` is an aggregate of joblog's own.
_ROWS = """
CREATE TABLE metric_sets (
    id       INTEGER PRIMARY KEY,
    names    TEXT NOT NULL UNIQUE             -- JSON list, sorted: the metrics that a line names
);
CREATE TABLE metric_rows (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    job      INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    seq      INTEGER NOT NULL,
    step     INTEGER NOT NULL,
    time     REAL NOT NULL,
    names    INTEGER NOT NULL REFERENCES metric_sets (id),
    vals     BLOB NOT NULL,                   -- a little-endian double for each name; NaN for none and infinity
    UNIQUE (job, attempt, seq)
);
CREATE INDEX metric_rows_by_job ON metric_rows (job);

CREATE TEMP TABLE moved AS
    SELECT min(metrics.id) AS first, job, attempt, seq, min(step) AS step, min(time) AS time,
        json_group_array(names.name ORDER BY names.name) AS names, packed(value ORDER BY names.name) AS vals
    FROM metrics JOIN names ON names.id = metrics.name GROUP BY job, attempt, seq;
INSERT INTO metric_sets (names) SELECT DISTINCT names FROM moved;
INSERT INTO metric_rows (job, attempt, seq, step, time, names, vals)
    SELECT job, attempt, seq, step, time, metric_sets.id, vals
    FROM moved JOIN metric_sets ON metric_sets.names = moved.names ORDER BY first;
DROP TABLE moved;
DROP TABLE metrics;
"""

# Jobs that were queued as one, to be cancelled and compared as one.
_GROUPS = """
ALTER TABLE jobs ADD COLUMN group_name TEXT NOT NULL DEFAULT '';
"""

# What the machine did while jobs ran. By time, not by job: two jobs share it, and an earlier one is held against it.
_MACHINE = """
CREATE TABLE machine_devices (
    id          INTEGER PRIMARY KEY,
    uuid        TEXT NOT NULL UNIQUE,         -- a GPU's; "host"
    name        TEXT NOT NULL,
    memory_gib  REAL NOT NULL,
    cores       INTEGER                       -- of the host
);
CREATE TABLE machine_samples (
    time        REAL NOT NULL,                -- unix seconds
    device      INTEGER NOT NULL REFERENCES machine_devices (id),
    vals        BLOB NOT NULL,                -- a little-endian float for each column; NaN for what is not known
    PRIMARY KEY (time, device)
) WITHOUT ROWID;

-- who computes on a GPU: a row whenever that changes
CREATE TABLE machine_tenants (
    time        REAL NOT NULL,
    device      INTEGER NOT NULL REFERENCES machine_devices (id),
    tenants     TEXT NOT NULL,                -- JSON
    PRIMARY KEY (device, time)
) WITHOUT ROWID;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _ROWS, _GROUPS, _MACHINE)
VERSION = len(MIGRATIONS)
