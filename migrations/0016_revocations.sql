-- Access that ended, for as long as something issued before can still be presented. Written in the transaction that ends it.
-- `seq` is given after the commit, in one order for all nodes, so that a reader who goes by it never misses a late commit.
CREATE TABLE revocations (
  environment_id  TEXT NOT NULL,
  id              TEXT NOT NULL,
  seq             BIGINT,
  kind            TEXT NOT NULL,
  subject         TEXT NOT NULL,
  user_id         TEXT,
  organization_id TEXT,
  reason          TEXT NOT NULL,
  initiator       TEXT NOT NULL,
  revoked_at      BIGINT NOT NULL,
  expires_at      BIGINT NOT NULL,
  PRIMARY KEY (environment_id, id)
);
CREATE UNIQUE INDEX revocations_by_seq ON revocations (seq) WHERE seq IS NOT NULL;
CREATE INDEX revocations_of_environment ON revocations (environment_id, seq);
CREATE INDEX revocations_without_seq ON revocations (id) WHERE seq IS NULL;
CREATE INDEX revocations_by_expiry ON revocations (expires_at);

-- How far each reader of all environments is: `given` is the last `seq` there is, `shared_signals` the last one that its streams have.
CREATE TABLE revocation_heads (
  name TEXT NOT NULL PRIMARY KEY,
  seq  BIGINT NOT NULL
);
INSERT INTO revocation_heads (name, seq) VALUES ('given', 0), ('shared_signals', 0);

-- How long an access token of the environment may still live, so that its revocation is kept as long. When the lifetime is lowered,
-- `earlier_seconds` counts until `earlier_until`: tokens of before are still about.
CREATE TABLE token_lifetimes (
  environment_id  TEXT NOT NULL PRIMARY KEY REFERENCES environments (id),
  seconds         BIGINT NOT NULL,
  earlier_seconds BIGINT NOT NULL,
  earlier_until   BIGINT NOT NULL
);

-- Changes of credentials that wait to be told to the streams of Shared Signals.
CREATE TABLE credential_changes (
  id              TEXT NOT NULL PRIMARY KEY,
  environment_id  TEXT NOT NULL,
  credential_type TEXT NOT NULL,
  change_type     TEXT NOT NULL,
  credential_id   TEXT,
  user_id         TEXT,
  organization_id TEXT,
  initiator       TEXT NOT NULL,
  created_at      BIGINT NOT NULL
);

-- Streams of the Shared Signals Framework: where and how a receiver gets its security event tokens.
CREATE TABLE shared_signals_streams (
  id                    TEXT NOT NULL PRIMARY KEY,
  environment_id        TEXT NOT NULL REFERENCES environments (id),
  client_id             TEXT NOT NULL,
  method                TEXT NOT NULL,
  endpoint_url          TEXT,
  authorization_sealed  BYTEA,
  events_requested      TEXT NOT NULL,
  description           TEXT,
  status                TEXT NOT NULL,
  status_reason         TEXT,
  verified_at           BIGINT,
  failing_since         BIGINT,
  due_at                BIGINT NOT NULL,
  created_at            BIGINT NOT NULL,
  updated_at            BIGINT NOT NULL
);
CREATE INDEX shared_signals_streams_by_environment ON shared_signals_streams (environment_id, id);
CREATE INDEX shared_signals_streams_by_due ON shared_signals_streams (due_at) WHERE method = 'urn:ietf:rfc:8935';

-- Security events that a receiver has not acknowledged. `claims` is what the token says; it is signed when it is sent.
CREATE TABLE shared_signals_events (
  stream_id      TEXT NOT NULL REFERENCES shared_signals_streams (id) ON DELETE CASCADE,
  jti            TEXT NOT NULL,
  environment_id TEXT NOT NULL,
  claims         TEXT NOT NULL,
  created_at     BIGINT NOT NULL,
  PRIMARY KEY (stream_id, jti)
);
CREATE INDEX shared_signals_events_by_age ON shared_signals_events (created_at);
