-- Boolean flags of an environment. A flag is on for somebody if it is enabled and either on for all (`default_value`) or the
-- user or the organization is a target. `tags` is a JSON array that is only shown.
CREATE TABLE feature_flags (
  id               TEXT NOT NULL PRIMARY KEY,
  environment_id   TEXT NOT NULL REFERENCES environments (id),
  slug             TEXT NOT NULL,
  name             TEXT NOT NULL,
  description      TEXT,
  owner_email      TEXT,
  owner_first_name TEXT,
  owner_last_name  TEXT,
  tags             TEXT NOT NULL,
  enabled          BIGINT NOT NULL,
  default_value    BIGINT NOT NULL,
  created_at       BIGINT NOT NULL,
  updated_at       BIGINT NOT NULL
);
CREATE UNIQUE INDEX feature_flags_by_slug ON feature_flags (environment_id, slug);
CREATE INDEX feature_flags_by_environment ON feature_flags (environment_id, id);
-- What every token asks for; the targets below answer the rest by their primary keys.
CREATE INDEX feature_flags_on_for_all ON feature_flags (environment_id, slug) WHERE enabled = 1 AND default_value = 1;

CREATE TABLE feature_flag_users (
  user_id        TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  flag_id        TEXT NOT NULL REFERENCES feature_flags (id) ON DELETE CASCADE,
  environment_id TEXT NOT NULL,
  created_at     BIGINT NOT NULL,
  PRIMARY KEY (user_id, flag_id)
);
CREATE INDEX feature_flag_users_by_flag ON feature_flag_users (flag_id, user_id);

CREATE TABLE feature_flag_organizations (
  organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  flag_id         TEXT NOT NULL REFERENCES feature_flags (id) ON DELETE CASCADE,
  environment_id  TEXT NOT NULL,
  created_at      BIGINT NOT NULL,
  PRIMARY KEY (organization_id, flag_id)
);
CREATE INDEX feature_flag_organizations_by_flag ON feature_flag_organizations (flag_id, organization_id);
