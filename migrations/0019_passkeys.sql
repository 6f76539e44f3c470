-- Public keys of people's devices. `credential_id` is the authenticator's name for the key, in base64url; `public_key` is COSE, as it came.
CREATE TABLE passkeys (
  id              TEXT NOT NULL PRIMARY KEY,
  environment_id  TEXT NOT NULL REFERENCES environments (id),
  user_id         TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  credential_id   TEXT NOT NULL,
  public_key      BYTEA NOT NULL,
  sign_count      BIGINT NOT NULL,
  backup_eligible BIGINT NOT NULL,
  backed_up       BIGINT NOT NULL,
  transports      TEXT NOT NULL,
  name            TEXT NOT NULL,
  last_used_at    BIGINT,
  created_at      BIGINT NOT NULL,
  updated_at      BIGINT NOT NULL
);
CREATE UNIQUE INDEX passkeys_by_credential ON passkeys (environment_id, credential_id);
CREATE INDEX passkeys_by_user ON passkeys (environment_id, user_id, id);

-- Questions to a browser that wait for their answer, each for one purpose and bound to whom it was put.
CREATE TABLE passkey_ceremonies (
  challenge_hash TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL REFERENCES environments (id),
  purpose        TEXT NOT NULL,
  bound_to       TEXT NOT NULL,
  used_at        BIGINT,
  expires_at     BIGINT NOT NULL,
  created_at     BIGINT NOT NULL
);
CREATE INDEX passkey_ceremonies_by_expiry ON passkey_ceremonies (expires_at);
