-- One text for SQLite and PostgreSQL: TEXT, BIGINT and BYTEA only. Booleans are 0/1, times are
-- milliseconds UTC, JSON is TEXT, sets are child tables. Every row belongs to an environment.
-- Columns named *_hash hold SHA-256 of a high-entropy secret; columns named *_sealed hold AES-256-GCM under
-- the master key, which is never in the database.

CREATE TABLE meta (
  key   TEXT NOT NULL PRIMARY KEY,
  value BYTEA NOT NULL
);

CREATE TABLE environments (
  id         TEXT NOT NULL PRIMARY KEY,
  name       TEXT NOT NULL UNIQUE,
  settings   TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  updated_at BIGINT NOT NULL
);

CREATE TABLE clients (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL REFERENCES environments (id),
  name           TEXT NOT NULL,
  created_at     BIGINT NOT NULL
);
CREATE INDEX clients_by_environment ON clients (environment_id, id);

CREATE TABLE environment_keys (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL REFERENCES environments (id),
  name           TEXT NOT NULL,
  secret_hash    TEXT NOT NULL UNIQUE,
  obfuscated     TEXT NOT NULL,
  dev            BIGINT NOT NULL,
  created_at     BIGINT NOT NULL,
  revoked_at     BIGINT
);
CREATE INDEX environment_keys_by_environment ON environment_keys (environment_id, id);

CREATE TABLE signing_keys (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL REFERENCES environments (id),
  algorithm      TEXT NOT NULL,
  state          TEXT NOT NULL,
  private_sealed BYTEA NOT NULL,
  public_jwk     TEXT NOT NULL,
  created_at     BIGINT NOT NULL,
  activated_at   BIGINT,
  retired_at     BIGINT,
  gone_at        BIGINT
);
CREATE INDEX signing_keys_by_environment ON signing_keys (environment_id, state, id);
-- At most one key signs, and at most one waits, whatever two rotations at once may try.
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (environment_id, algorithm) WHERE state = 'active';
CREATE UNIQUE INDEX signing_keys_one_next ON signing_keys (environment_id, algorithm) WHERE state = 'next';

CREATE TABLE redirect_uris (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL REFERENCES environments (id),
  uri            TEXT NOT NULL,
  is_default     BIGINT NOT NULL,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL
);
CREATE UNIQUE INDEX redirect_uris_by_uri ON redirect_uris (environment_id, uri);
CREATE UNIQUE INDEX redirect_uris_one_default ON redirect_uris (environment_id) WHERE is_default = 1;

CREATE TABLE sign_out_redirects (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL REFERENCES environments (id),
  uri            TEXT NOT NULL,
  is_default     BIGINT NOT NULL,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL
);
CREATE UNIQUE INDEX sign_out_redirects_by_uri ON sign_out_redirects (environment_id, uri);
CREATE UNIQUE INDEX sign_out_redirects_one_default ON sign_out_redirects (environment_id) WHERE is_default = 1;

CREATE TABLE cors_origins (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL REFERENCES environments (id),
  origin         TEXT NOT NULL,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL
);
CREATE UNIQUE INDEX cors_origins_by_origin ON cors_origins (environment_id, origin);

CREATE TABLE jwt_templates (
  environment_id TEXT NOT NULL PRIMARY KEY REFERENCES environments (id),
  content        TEXT NOT NULL,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL
);

CREATE TABLE users (
  id                  TEXT NOT NULL PRIMARY KEY,
  environment_id      TEXT NOT NULL REFERENCES environments (id),
  email               TEXT NOT NULL,
  email_key           TEXT NOT NULL,
  email_verified      BIGINT NOT NULL,
  first_name          TEXT,
  last_name           TEXT,
  name                TEXT,
  profile_picture_url TEXT,
  external_id         TEXT,
  metadata            TEXT NOT NULL,
  locale              TEXT,
  last_sign_in_at     BIGINT,
  created_at          BIGINT NOT NULL,
  updated_at          BIGINT NOT NULL
);
CREATE UNIQUE INDEX users_by_email ON users (environment_id, email_key);
CREATE UNIQUE INDEX users_by_external_id ON users (environment_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX users_by_environment ON users (environment_id, id);

CREATE TABLE passwords (
  user_id        TEXT NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
  environment_id TEXT NOT NULL,
  hash           TEXT NOT NULL,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL
);

-- One-time codes. `code_sealed` can be opened again because the API answers the code to the environment's
-- own key, for teams that send their own mail. `attempts` counts wrong tries; `used_at` closes the code.
CREATE TABLE magic_auths (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL,
  user_id        TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  email          TEXT NOT NULL,
  code_sealed    BYTEA NOT NULL,
  browser_hash   TEXT,
  attempts       BIGINT NOT NULL,
  expires_at     BIGINT NOT NULL,
  used_at        BIGINT,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL
);
CREATE INDEX magic_auths_by_user ON magic_auths (environment_id, user_id, id);
CREATE INDEX magic_auths_by_expiry ON magic_auths (expires_at);

CREATE TABLE email_verifications (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL,
  user_id        TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  email          TEXT NOT NULL,
  code_sealed    BYTEA NOT NULL,
  attempts       BIGINT NOT NULL,
  expires_at     BIGINT NOT NULL,
  used_at        BIGINT,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL
);
CREATE INDEX email_verifications_by_user ON email_verifications (environment_id, user_id, id);
CREATE INDEX email_verifications_by_expiry ON email_verifications (expires_at);

CREATE TABLE email_changes (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL,
  user_id        TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  new_email      TEXT NOT NULL,
  code_sealed    BYTEA NOT NULL,
  attempts       BIGINT NOT NULL,
  expires_at     BIGINT NOT NULL,
  used_at        BIGINT,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL
);
CREATE INDEX email_changes_by_user ON email_changes (environment_id, user_id, id);
CREATE INDEX email_changes_by_expiry ON email_changes (expires_at);

CREATE TABLE password_resets (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL,
  user_id        TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  email          TEXT NOT NULL,
  token_hash     TEXT NOT NULL UNIQUE,
  token_sealed   BYTEA NOT NULL,
  expires_at     BIGINT NOT NULL,
  used_at        BIGINT,
  created_at     BIGINT NOT NULL
);
CREATE INDEX password_resets_by_user ON password_resets (environment_id, user_id, id);
CREATE INDEX password_resets_by_expiry ON password_resets (expires_at);

-- A sign-in that stopped at a step-up and waits for the next answer.
CREATE TABLE pending_authentications (
  token_hash            TEXT NOT NULL PRIMARY KEY,
  environment_id        TEXT NOT NULL,
  client_id             TEXT NOT NULL,
  user_id               TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  step                  TEXT NOT NULL,
  method                TEXT NOT NULL,
  email_verification_id TEXT,
  ip_address            TEXT,
  user_agent            TEXT,
  expires_at            BIGINT NOT NULL,
  used_at               BIGINT,
  created_at            BIGINT NOT NULL
);
CREATE INDEX pending_authentications_by_expiry ON pending_authentications (expires_at);
CREATE INDEX pending_authentications_by_user ON pending_authentications (user_id);

-- An authorize request a browser is working on. Bound to that browser by the hash of its cookie.
CREATE TABLE authorization_requests (
  id                    TEXT NOT NULL PRIMARY KEY,
  environment_id        TEXT NOT NULL,
  client_id             TEXT NOT NULL,
  redirect_uri          TEXT NOT NULL,
  state                 TEXT,
  code_challenge        TEXT,
  screen_hint           TEXT,
  max_age               BIGINT,
  browser_hash          TEXT NOT NULL,
  email                 TEXT,
  magic_auth_id         TEXT,
  pending_sealed        BYTEA,
  completed_at          BIGINT,
  expires_at            BIGINT NOT NULL,
  created_at            BIGINT NOT NULL
);
CREATE INDEX authorization_requests_by_expiry ON authorization_requests (expires_at);

CREATE TABLE authorization_codes (
  code_hash       TEXT NOT NULL PRIMARY KEY,
  environment_id  TEXT NOT NULL,
  client_id       TEXT NOT NULL,
  redirect_uri    TEXT NOT NULL,
  code_challenge  TEXT,
  user_id         TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  method          TEXT NOT NULL,
  authenticated_at BIGINT NOT NULL,
  ip_address      TEXT,
  user_agent      TEXT,
  session_id      TEXT,
  expires_at      BIGINT NOT NULL,
  used_at         BIGINT,
  created_at      BIGINT NOT NULL
);
CREATE INDEX authorization_codes_by_expiry ON authorization_codes (expires_at);
CREATE INDEX authorization_codes_by_user ON authorization_codes (user_id);

CREATE TABLE sessions (
  id               TEXT NOT NULL PRIMARY KEY,
  environment_id   TEXT NOT NULL,
  client_id        TEXT NOT NULL,
  user_id          TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  organization_id  TEXT,
  method           TEXT NOT NULL,
  ip_address       TEXT,
  user_agent       TEXT,
  authenticated_at BIGINT NOT NULL,
  last_active_at   BIGINT NOT NULL,
  expires_at       BIGINT NOT NULL,
  ended_at         BIGINT,
  created_at       BIGINT NOT NULL,
  updated_at       BIGINT NOT NULL
);
CREATE INDEX sessions_by_user ON sessions (environment_id, user_id, id);
CREATE INDEX sessions_by_expiry ON sessions (expires_at);

-- `successor_sealed` holds the pair that replaced this token, so that the same pair can be answered again inside the replay window.
CREATE TABLE refresh_tokens (
  token_hash       TEXT NOT NULL PRIMARY KEY,
  environment_id   TEXT NOT NULL,
  client_id        TEXT NOT NULL,
  session_id       TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  successor_hash   TEXT,
  successor_sealed BYTEA,
  used_at          BIGINT,
  expires_at       BIGINT NOT NULL,
  created_at       BIGINT NOT NULL
);
CREATE INDEX refresh_tokens_by_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens (expires_at);

CREATE TABLE device_codes (
  device_code_hash TEXT NOT NULL PRIMARY KEY,
  user_code        TEXT NOT NULL UNIQUE,
  environment_id   TEXT NOT NULL,
  client_id        TEXT NOT NULL,
  state            TEXT NOT NULL,
  user_id          TEXT REFERENCES users (id) ON DELETE CASCADE,
  method           TEXT,
  browser_hash     TEXT,
  authenticated_at BIGINT,
  interval_s       BIGINT NOT NULL,
  polled_at        BIGINT,
  expires_at       BIGINT NOT NULL,
  created_at       BIGINT NOT NULL
);
CREATE INDEX device_codes_by_expiry ON device_codes (expires_at);
CREATE INDEX device_codes_by_user ON device_codes (user_id);

-- The server's own sign-in session in a browser: a second app signs in without asking again.
CREATE TABLE browser_sessions (
  token_hash       TEXT NOT NULL PRIMARY KEY,
  environment_id   TEXT NOT NULL,
  user_id          TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  method           TEXT NOT NULL,
  authenticated_at BIGINT NOT NULL,
  expires_at       BIGINT NOT NULL,
  created_at       BIGINT NOT NULL
);
CREATE INDEX browser_sessions_by_user ON browser_sessions (environment_id, user_id);
CREATE INDEX browser_sessions_by_expiry ON browser_sessions (expires_at);

CREATE TABLE events (
  environment_id TEXT NOT NULL,
  id             TEXT NOT NULL,
  event          TEXT NOT NULL,
  data           TEXT NOT NULL,
  actor          TEXT NOT NULL,
  created_at     BIGINT NOT NULL,
  PRIMARY KEY (environment_id, id)
);
CREATE INDEX events_by_age ON events (created_at);

-- The outbox of mails. Written with the change that causes them, sent by a job.
CREATE TABLE mails (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL,
  recipient      TEXT NOT NULL,
  subject        TEXT NOT NULL,
  body_sealed    BYTEA NOT NULL,
  state          TEXT NOT NULL,
  attempts       BIGINT NOT NULL,
  due_at         BIGINT NOT NULL,
  created_at     BIGINT NOT NULL
);
CREATE INDEX mails_by_due ON mails (state, due_at);

CREATE TABLE rate_limits (
  key          TEXT NOT NULL PRIMARY KEY,
  count        BIGINT NOT NULL,
  window_start BIGINT NOT NULL
);
CREATE INDEX rate_limits_by_window ON rate_limits (window_start);

-- Answers kept for the retries of one request.
CREATE TABLE idempotency_keys (
  environment_id TEXT NOT NULL,
  key_hash       TEXT NOT NULL,
  request_hash   TEXT NOT NULL,
  status         BIGINT,
  body_sealed    BYTEA,
  created_at     BIGINT NOT NULL,
  PRIMARY KEY (environment_id, key_hash)
);
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (created_at);
