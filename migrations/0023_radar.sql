-- Whom an environment always lets in and whom never. `entry` is in the form that is compared.
CREATE TABLE radar_list_entries (
  environment_id TEXT NOT NULL REFERENCES environments (id),
  entry          TEXT NOT NULL,
  list_type      TEXT NOT NULL,
  action         TEXT NOT NULL,
  created_at     BIGINT NOT NULL,
  PRIMARY KEY (environment_id, entry, list_type, action)
);
CREATE INDEX radar_list_entries_by_list ON radar_list_entries (environment_id, list_type, action, entry);

-- Tries to sign in or up, and what became of them. `*_key` are tags under the master key: rows can be counted, and name nobody.
CREATE TABLE radar_attempts (
  id                  TEXT NOT NULL PRIMARY KEY,
  environment_id      TEXT NOT NULL REFERENCES environments (id),
  account_key         TEXT NOT NULL,
  mailbox_key         TEXT NOT NULL,
  device_key          TEXT,
  browser_key         TEXT,
  ip_address          TEXT,
  network             TEXT,
  action              TEXT NOT NULL,
  auth_method         TEXT NOT NULL,
  verdict             TEXT NOT NULL,
  control             TEXT,
  outcome             TEXT NOT NULL,
  challenge_passed_at BIGINT,
  created_at          BIGINT NOT NULL,
  updated_at          BIGINT NOT NULL
);
CREATE INDEX radar_attempts_by_account ON radar_attempts (environment_id, account_key, outcome, created_at);
CREATE INDEX radar_attempts_by_network ON radar_attempts (environment_id, network, outcome, created_at);
CREATE INDEX radar_attempts_by_mailbox ON radar_attempts (environment_id, mailbox_key, action, created_at);
CREATE INDEX radar_attempts_by_outcome ON radar_attempts (environment_id, outcome, created_at);
CREATE INDEX radar_attempts_by_age ON radar_attempts (outcome, created_at);

-- Codes that finish a sign-in which looked like somebody else's.
CREATE TABLE radar_challenges (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL REFERENCES environments (id),
  user_id        TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  type           TEXT NOT NULL,
  sent_to_sealed BYTEA NOT NULL,
  pending_hash   TEXT NOT NULL,
  code_sealed    BYTEA NOT NULL,
  attempts       BIGINT NOT NULL,
  expires_at     BIGINT NOT NULL,
  used_at        BIGINT,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL
);
CREATE INDEX radar_challenges_by_pending ON radar_challenges (environment_id, pending_hash, type, id);
CREATE INDEX radar_challenges_by_user ON radar_challenges (environment_id, user_id, type);
CREATE INDEX radar_challenges_by_expiry ON radar_challenges (expires_at);

-- The try that a half-done sign-in belongs to, and a challenge that comes after the step it waits for.
ALTER TABLE pending_authentications ADD COLUMN radar_attempt_id TEXT;
ALTER TABLE pending_authentications ADD COLUMN radar_due TEXT;
