-- name: schema
CREATE TABLE IF NOT EXISTS barrier (
    effect_id   TEXT PRIMARY KEY NOT NULL,
    outcome     TEXT NOT NULL CHECK (outcome IN ('ok', 'refused')),
    name        TEXT NOT NULL,
    reply       TEXT NOT NULL,
    reason      TEXT NOT NULL,
    recorded_at INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER))
) WITHOUT ROWID

-- name: journal
CREATE TABLE IF NOT EXISTS barrier_scripts (
    number INTEGER PRIMARY KEY NOT NULL,
    sha256 TEXT NOT NULL
)

-- name: ran
SELECT sha256 FROM barrier_scripts ORDER BY number

-- name: note
INSERT OR IGNORE INTO barrier_scripts (number, sha256) VALUES (?, ?)

-- name: lookup
SELECT effect_id, outcome, name, reply, reason
FROM barrier
WHERE effect_id IN (SELECT value FROM json_each(?))

-- name: record
INSERT INTO barrier (effect_id, outcome, name, reply, reason) VALUES (?, ?, ?, ?, ?)

-- name: purge
DELETE FROM barrier
WHERE recorded_at < CAST((julianday('now') - 2440587.5) * 86400000000 AS INTEGER) - ?
