-- What others tell the relay: the provider's logout tokens and security events.

ALTER TABLE sessions ADD COLUMN provider_sid TEXT;   -- the provider's session, where its token names it

CREATE INDEX sessions_by_provider_sid ON sessions (provider_sid) WHERE provider_sid IS NOT NULL;

-- A logout token or event counts once: its name stays until no check would let it pass.
CREATE TABLE seen_tokens (
    kind     TEXT NOT NULL CHECK (kind IN ('logout', 'event')),
    issuer   TEXT NOT NULL,
    jti      TEXT NOT NULL,
    until    INTEGER NOT NULL,
    PRIMARY KEY (kind, issuer, jti)
) STRICT, WITHOUT ROWID;

-- Tokens of a sign-in that was ended since start and renew nothing, until they are too old anyway.
CREATE TABLE ended_sign_ins (
    kind     TEXT NOT NULL CHECK (kind IN ('principal', 'provider_sid')),
    id       TEXT NOT NULL,                  -- issuer#subject, the provider's session
    at       INTEGER NOT NULL,               -- of a principal: tokens issued before this
    until    INTEGER NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

-- The newest word on each device.
CREATE TABLE device_compliance (
    device    TEXT PRIMARY KEY,
    compliant INTEGER NOT NULL,
    at        INTEGER NOT NULL               -- when it became so, as the event has it
) STRICT, WITHOUT ROWID;

-- Principals of whom older tokens no longer tell the truth.
CREATE TABLE changed_claims (
    issuer   TEXT NOT NULL,
    subject  TEXT NOT NULL,
    at       INTEGER NOT NULL,               -- when they changed, as the event has it
    told     INTEGER NOT NULL,               -- when the relay was told
    PRIMARY KEY (issuer, subject)
) STRICT, WITHOUT ROWID;
