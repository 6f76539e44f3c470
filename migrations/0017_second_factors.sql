-- What was proved beside the first method travels with a sign-in: through every step it waits at, into the session. Added columns
-- only, so that the release before this one runs beside it; it writes none, which says "none was proved".
ALTER TABLE pending_authentications ADD COLUMN second_factor TEXT;
ALTER TABLE authorization_codes ADD COLUMN second_factor TEXT;
ALTER TABLE browser_sessions ADD COLUMN second_factor TEXT;
ALTER TABLE device_codes ADD COLUMN second_factor TEXT;
ALTER TABLE sessions ADD COLUMN second_factor TEXT;

-- Second factors. Those of a user count from their first right code on (`verified_at`); those without a user belong to an app that
-- asks for codes by itself. `last_step` is the newest time step of TOTP that was used: it and all before it are refused.
-- `failures` counts wrong codes since the last right one.
CREATE TABLE authentication_factors (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL,
  user_id        TEXT REFERENCES users (id) ON DELETE CASCADE,
  kind           TEXT NOT NULL,
  secret_sealed  BYTEA,
  issuer         TEXT,
  account        TEXT,
  phone_number   TEXT,
  last_step      BIGINT,
  failures       BIGINT NOT NULL,
  blocked_until  BIGINT,
  verified_at    BIGINT,
  last_used_at   BIGINT,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL
);
CREATE INDEX authentication_factors_by_user ON authentication_factors (environment_id, user_id, id);
CREATE INDEX authentication_factors_unverified ON authentication_factors (created_at) WHERE verified_at IS NULL AND user_id IS NOT NULL;

-- Questions for a code of one factor. `code_sealed` is absent where the person's app makes the code.
CREATE TABLE authentication_challenges (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL,
  factor_id      TEXT NOT NULL REFERENCES authentication_factors (id) ON DELETE CASCADE,
  code_sealed    BYTEA,
  attempts       BIGINT NOT NULL,
  used_at        BIGINT,
  expires_at     BIGINT NOT NULL,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL
);
CREATE INDEX authentication_challenges_by_factor ON authentication_challenges (environment_id, factor_id, id);
CREATE INDEX authentication_challenges_by_expiry ON authentication_challenges (expires_at);

-- Codes on paper for who has lost every factor: each works once.
CREATE TABLE recovery_codes (
  environment_id TEXT NOT NULL,
  user_id        TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  code_hash      TEXT NOT NULL,
  used_at        BIGINT,
  created_at     BIGINT NOT NULL,
  PRIMARY KEY (environment_id, user_id, code_hash)
);

-- Text messages on their way.
CREATE TABLE text_messages (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL,
  recipient      TEXT NOT NULL,
  body_sealed    BYTEA NOT NULL,
  state          TEXT NOT NULL,
  attempts       BIGINT NOT NULL,
  due_at         BIGINT NOT NULL,
  created_at     BIGINT NOT NULL
);
CREATE INDEX text_messages_by_due ON text_messages (state, due_at);
