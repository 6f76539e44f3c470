-- Where customers want to be told of events. `journal_seq` is the place in the environment's order of events up to which events have
-- become deliveries. The secret signs what is sent; for a while after a rotation the one before it does, too.
-- A deleted endpoint stays as a row until its deliveries are swept.
CREATE TABLE webhook_endpoints (
  id                     TEXT NOT NULL PRIMARY KEY,
  environment_id         TEXT NOT NULL REFERENCES environments (id),
  endpoint_url           TEXT NOT NULL,
  status                 TEXT NOT NULL,
  secret_sealed          BYTEA NOT NULL,
  previous_secret_sealed BYTEA,
  previous_secret_until  BIGINT,
  journal_seq            BIGINT NOT NULL,
  failing_since          BIGINT,
  created_at             BIGINT NOT NULL,
  updated_at             BIGINT NOT NULL,
  deleted_at             BIGINT
);
CREATE UNIQUE INDEX webhook_endpoints_by_url ON webhook_endpoints (environment_id, endpoint_url) WHERE deleted_at IS NULL;
CREATE INDEX webhook_endpoints_by_environment ON webhook_endpoints (environment_id, id) WHERE deleted_at IS NULL;
CREATE INDEX webhook_endpoints_deleted ON webhook_endpoints (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE webhook_endpoint_events (
  endpoint_id    TEXT NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
  environment_id TEXT NOT NULL,
  event          TEXT NOT NULL,
  position       BIGINT NOT NULL,
  PRIMARY KEY (endpoint_id, event)
);

-- One event for one endpoint. `waiting` is tried when it is due; `queued` waits until every earlier delivery about the same object
-- has ended as `delivered` or `failed`. While somebody tries it, `due_at` is when that claim lapses.
-- `seq` is the event's place; a replay is a delivery of its own.
CREATE TABLE webhook_deliveries (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL,
  endpoint_id    TEXT NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
  seq            BIGINT NOT NULL,
  event_id       TEXT NOT NULL,
  event          TEXT NOT NULL,
  object_key     TEXT NOT NULL,
  state          TEXT NOT NULL,
  claims         BIGINT NOT NULL,
  attempts       BIGINT NOT NULL,
  due_at         BIGINT NOT NULL,
  replay_of      TEXT,
  created_at     BIGINT NOT NULL,
  finished_at    BIGINT
);
CREATE UNIQUE INDEX webhook_deliveries_once ON webhook_deliveries (endpoint_id, seq) WHERE replay_of IS NULL;
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (endpoint_id, due_at, id) WHERE state = 'waiting';
CREATE INDEX webhook_deliveries_unfinished ON webhook_deliveries (endpoint_id, object_key, seq) WHERE finished_at IS NULL;
CREATE INDEX webhook_deliveries_log ON webhook_deliveries (environment_id, endpoint_id, id);
CREATE INDEX webhook_deliveries_finished ON webhook_deliveries (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE webhook_attempts (
  delivery_id    TEXT NOT NULL REFERENCES webhook_deliveries (id) ON DELETE CASCADE,
  number         BIGINT NOT NULL,
  environment_id TEXT NOT NULL,
  started_at     BIGINT NOT NULL,
  duration_ms    BIGINT NOT NULL,
  status_code    BIGINT,
  error          TEXT,
  answer         TEXT,
  signed_with    TEXT NOT NULL,
  PRIMARY KEY (delivery_id, number)
);
