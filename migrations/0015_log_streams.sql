-- Streams of audit events to a receiver of the environment (`organization_id` absent) or of one organization. What opens the receiver
-- is sealed. `journal_seq` and `audit_log_seq` say up to where the receiver has accepted what each source had; they move only
-- under the present `lease`, which counts up whenever a node begins a delivery or the destination changes.
CREATE TABLE log_streams (
  id               TEXT NOT NULL PRIMARY KEY,
  environment_id   TEXT NOT NULL REFERENCES environments (id),
  organization_id  TEXT REFERENCES organizations (id) ON DELETE CASCADE,
  name             TEXT NOT NULL,
  type             TEXT NOT NULL,
  destination      TEXT NOT NULL,
  secret_sealed    BYTEA,
  sends_platform   BIGINT NOT NULL,
  sends_audit_logs BIGINT NOT NULL,
  enabled          BIGINT NOT NULL,
  journal_seq      BIGINT NOT NULL,
  audit_log_seq    BIGINT NOT NULL,
  lease            BIGINT NOT NULL,
  lease_until      BIGINT NOT NULL,
  due_at           BIGINT NOT NULL,
  failures         BIGINT NOT NULL,
  last_error       TEXT,
  last_error_at    BIGINT,
  last_synced_at   BIGINT,
  rejected_events  BIGINT NOT NULL,
  created_at       BIGINT NOT NULL,
  updated_at       BIGINT NOT NULL
);
CREATE INDEX log_streams_by_environment ON log_streams (environment_id, id);
CREATE INDEX log_streams_of_organization ON log_streams (organization_id, id) WHERE organization_id IS NOT NULL;
CREATE INDEX log_streams_enabled ON log_streams (id) WHERE enabled = 1;
