-- Support that acts as a user: who, why and for how long. The code of the link is kept hashed. `confirmed_at` is when somebody opened the
-- link and said yes, `ends_at` the end from then on, `session_id` the session that came of it. The columns of sessions are what tokens
-- and answers say of it: a session has them as long as it lives, whatever becomes of the row here.

CREATE TABLE impersonations (
  id                 TEXT NOT NULL PRIMARY KEY,
  environment_id     TEXT NOT NULL REFERENCES environments (id),
  client_id          TEXT NOT NULL,
  user_id            TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  organization_id    TEXT,
  impersonator_email TEXT NOT NULL,
  reason             TEXT NOT NULL,
  redirect_uri       TEXT NOT NULL,
  duration_seconds   BIGINT NOT NULL,
  code_hash          TEXT NOT NULL UNIQUE,
  expires_at         BIGINT NOT NULL,
  confirmed_at       BIGINT,
  ends_at            BIGINT,
  session_id         TEXT,
  ended_at           BIGINT,
  created_at         BIGINT NOT NULL,
  updated_at         BIGINT NOT NULL
);
CREATE INDEX impersonations_by_user ON impersonations (user_id);
CREATE INDEX impersonations_by_session ON impersonations (environment_id, session_id) WHERE session_id IS NOT NULL;
CREATE INDEX impersonations_by_expiry ON impersonations (expires_at);
CREATE INDEX impersonations_under_way ON impersonations (ends_at) WHERE confirmed_at IS NOT NULL AND ended_at IS NULL;

ALTER TABLE authorization_codes ADD COLUMN impersonation_id TEXT;
ALTER TABLE sessions ADD COLUMN impersonator_email TEXT;
ALTER TABLE sessions ADD COLUMN impersonator_reason TEXT;
