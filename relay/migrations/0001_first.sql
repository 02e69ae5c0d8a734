-- Times are milliseconds since the Unix epoch. A principal is (issuer, subject); e-mail and name are for people.

CREATE TABLE devices (
    id       TEXT PRIMARY KEY,               -- hash of its public key
    issuer   TEXT NOT NULL,                  -- its owner: the principal that enrolled it first
    subject  TEXT NOT NULL,
    name     TEXT NOT NULL,
    enrolled INTEGER NOT NULL,
    seen     INTEGER NOT NULL                -- last enrolment or renewal
) STRICT;

CREATE TABLE sessions (
    id       TEXT PRIMARY KEY,
    device   TEXT NOT NULL REFERENCES devices (id),
    issuer   TEXT NOT NULL,
    subject  TEXT NOT NULL,
    email    TEXT,
    name     TEXT,
    service  INTEGER NOT NULL,               -- 1: of a service account
    started  INTEGER NOT NULL,
    renewed  INTEGER NOT NULL,
    ended    INTEGER                         -- by sign-out or revocation; an ended session never lives again
) STRICT;

CREATE INDEX sessions_by_principal ON sessions (subject, issuer);
CREATE INDEX sessions_by_email ON sessions (email COLLATE NOCASE);
CREATE INDEX sessions_by_device ON sessions (device);

CREATE TABLE revocations (
    kind     TEXT NOT NULL CHECK (kind IN ('principal', 'device', 'session')),
    id       TEXT NOT NULL,                  -- issuer#subject, device id, session id
    at       INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

-- A provider's token enrols once: its hash stays until the token has ended anyway.
CREATE TABLE used_tokens (
    hash     BLOB PRIMARY KEY,
    until    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- The newest checkpoint of the audit log, so that a log cut short is noticed.
CREATE TABLE audit_checkpoint (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    seq      INTEGER NOT NULL,
    head     TEXT NOT NULL
) STRICT;
