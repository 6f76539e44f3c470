-- The customers' own audit logs. Events are keyed by organization and by the time they tell of, which their id begins with: a page
-- or an export of ten million reads as many rows as of ten thousand. `seal` is a tag over the row, made with it under a key that is
-- not in the database. `seq` is the event's place among all of the environment and `chain_position` its place among those of its
-- organization; `link` is a tag over the link before it and over the row. The three are given shortly after the commit; a row
-- that the server did not write gets -1 instead of a place.
CREATE TABLE audit_log_events (
  environment_id  TEXT NOT NULL,
  organization_id TEXT NOT NULL,
  id              TEXT NOT NULL,
  action          TEXT NOT NULL,
  version         BIGINT NOT NULL,
  occurred_at     BIGINT NOT NULL,
  actor           TEXT NOT NULL,
  targets         TEXT NOT NULL,
  context         TEXT NOT NULL,
  metadata        TEXT NOT NULL,
  created_at      BIGINT NOT NULL,
  seal            BYTEA NOT NULL,
  seq             BIGINT,
  chain_position  BIGINT,
  link            BYTEA,
  PRIMARY KEY (environment_id, organization_id, id)
);
CREATE INDEX audit_log_events_waiting ON audit_log_events (environment_id, created_at, id) WHERE seq IS NULL;
CREATE INDEX audit_log_events_in_order ON audit_log_events (environment_id, seq) WHERE seq IS NOT NULL;
CREATE INDEX audit_log_events_in_chain ON audit_log_events (environment_id, organization_id, chain_position)
  WHERE chain_position IS NOT NULL;

-- How far the order of an environment's events has come, and how many chains there are. `mac` is a tag over the row, here and below.
CREATE TABLE audit_log_heads (
  environment_id TEXT NOT NULL PRIMARY KEY,
  seq            BIGINT NOT NULL,
  chains         BIGINT NOT NULL,
  mac            BYTEA NOT NULL
);
-- One chain an organization, numbered 1, 2, 3 .. within the environment: from its newest event back to where retention has cut it.
CREATE TABLE audit_log_chains (
  environment_id  TEXT NOT NULL,
  organization_id TEXT NOT NULL,
  number          BIGINT NOT NULL,
  cut_position    BIGINT NOT NULL,
  cut_link        BYTEA NOT NULL,
  end_position    BIGINT NOT NULL,
  end_link        BYTEA NOT NULL,
  mac             BYTEA NOT NULL,
  PRIMARY KEY (environment_id, organization_id)
);

-- Which events were sent lately: the hash is of the caller's Idempotency-Key and of the event.
CREATE TABLE audit_log_idempotency_keys (
  environment_id TEXT NOT NULL,
  key_hash       TEXT NOT NULL,
  created_at     BIGINT NOT NULL,
  PRIMARY KEY (environment_id, key_hash)
);
CREATE INDEX audit_log_idempotency_keys_by_age ON audit_log_idempotency_keys (created_at);

-- How long an organization's events are kept, where somebody said so.
CREATE TABLE audit_log_retentions (
  environment_id  TEXT NOT NULL,
  organization_id TEXT NOT NULL,
  days            BIGINT NOT NULL,
  updated_at      BIGINT NOT NULL,
  PRIMARY KEY (environment_id, organization_id)
);

-- The actions of an environment, and the versions of the schema of each. `version` is the newest one's.
CREATE TABLE audit_log_actions (
  environment_id TEXT NOT NULL,
  id             TEXT NOT NULL,
  name           TEXT NOT NULL,
  version        BIGINT NOT NULL,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL,
  PRIMARY KEY (environment_id, id)
);
CREATE UNIQUE INDEX audit_log_actions_by_name ON audit_log_actions (environment_id, name);
CREATE TABLE audit_log_schemas (
  environment_id TEXT NOT NULL,
  action_id      TEXT NOT NULL,
  id             TEXT NOT NULL,
  version        BIGINT NOT NULL,
  definition     TEXT NOT NULL,
  created_at     BIGINT NOT NULL,
  PRIMARY KEY (environment_id, action_id, id)
);
CREATE UNIQUE INDEX audit_log_schemas_by_version ON audit_log_schemas (environment_id, action_id, version);

-- Exports and the pieces of their files. `reached` is the id of the last event that was looked at, `due_at` when a node may go on.
CREATE TABLE audit_log_exports (
  environment_id  TEXT NOT NULL,
  id              TEXT NOT NULL,
  organization_id TEXT NOT NULL,
  range_start     BIGINT NOT NULL,
  range_end       BIGINT NOT NULL,
  filters         TEXT NOT NULL,
  state           TEXT NOT NULL,
  reached         TEXT NOT NULL,
  chunks          BIGINT NOT NULL,
  bytes           BIGINT NOT NULL,
  attempts        BIGINT NOT NULL,
  due_at          BIGINT NOT NULL,
  created_at      BIGINT NOT NULL,
  updated_at      BIGINT NOT NULL,
  PRIMARY KEY (environment_id, id)
);
CREATE INDEX audit_log_exports_by_due ON audit_log_exports (due_at) WHERE state = 'pending';
CREATE INDEX audit_log_exports_pending ON audit_log_exports (environment_id, organization_id) WHERE state = 'pending';
CREATE INDEX audit_log_exports_by_age ON audit_log_exports (state, updated_at);
CREATE TABLE audit_log_export_chunks (
  environment_id TEXT NOT NULL,
  export_id      TEXT NOT NULL,
  chunk          BIGINT NOT NULL,
  content        BYTEA NOT NULL,
  PRIMARY KEY (environment_id, export_id, chunk)
);
