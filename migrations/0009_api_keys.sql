-- Keys of customers' own making: an organization's (`user_id` absent), or a user's within one of their organizations, which
-- lives and dies with the membership. `secret_hash` is SHA-256 of 238 random bits; the value itself is shown once and kept nowhere.
CREATE TABLE api_keys (
  id              TEXT NOT NULL PRIMARY KEY,
  environment_id  TEXT NOT NULL REFERENCES environments (id),
  organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  user_id         TEXT REFERENCES users (id) ON DELETE CASCADE,
  membership_id   TEXT REFERENCES organization_memberships (id) ON DELETE CASCADE,
  name            TEXT NOT NULL,
  secret_hash     TEXT NOT NULL UNIQUE,
  obfuscated      TEXT NOT NULL,
  expires_at      BIGINT,
  last_used_at    BIGINT,
  created_at      BIGINT NOT NULL,
  updated_at      BIGINT NOT NULL
);
CREATE INDEX api_keys_by_environment ON api_keys (environment_id, id);
CREATE INDEX api_keys_of_organization ON api_keys (environment_id, organization_id, id) WHERE user_id IS NULL;
CREATE INDEX api_keys_of_user ON api_keys (environment_id, user_id, id) WHERE user_id IS NOT NULL;
-- For what goes with its owner.
CREATE INDEX api_keys_by_organization ON api_keys (organization_id);
CREATE INDEX api_keys_by_user ON api_keys (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX api_keys_by_membership ON api_keys (membership_id) WHERE membership_id IS NOT NULL;

-- A permission that is deleted is gone from every key, and a later one of the same slug is not what the key was given.
CREATE TABLE api_key_permissions (
  api_key_id     TEXT NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
  slug           TEXT NOT NULL,
  environment_id TEXT NOT NULL,
  permission_id  TEXT NOT NULL REFERENCES permissions (id) ON DELETE CASCADE,
  PRIMARY KEY (api_key_id, slug)
);
CREATE INDEX api_key_permissions_by_permission ON api_key_permissions (permission_id);

-- When an identity that is no person was last seen, to the minute.
ALTER TABLE environment_keys ADD COLUMN last_used_at BIGINT;
ALTER TABLE clients ADD COLUMN last_used_at BIGINT;
