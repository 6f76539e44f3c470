-- Groups of an organization's members. `name_key` is the name as it is searched: NFKC, lower case. The indexes begin with the
-- organization, which is of one environment: so they also serve the cascades, which know no environment.
CREATE TABLE groups (
  id              TEXT NOT NULL PRIMARY KEY,
  environment_id  TEXT NOT NULL REFERENCES environments (id),
  organization_id TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  name            TEXT NOT NULL,
  name_key        TEXT NOT NULL,
  description     TEXT,
  created_at      BIGINT NOT NULL,
  updated_at      BIGINT NOT NULL
);
CREATE UNIQUE INDEX groups_by_organization ON groups (organization_id, id);

-- The organization stands in both foreign keys, so a group of one organization cannot hold a membership of another.
CREATE UNIQUE INDEX organization_memberships_in_organization ON organization_memberships (organization_id, id);
CREATE TABLE group_memberships (
  group_id                   TEXT NOT NULL,
  organization_membership_id TEXT NOT NULL,
  environment_id             TEXT NOT NULL,
  organization_id            TEXT NOT NULL,
  created_at                 BIGINT NOT NULL,
  PRIMARY KEY (group_id, organization_membership_id),
  FOREIGN KEY (organization_id, group_id) REFERENCES groups (organization_id, id) ON DELETE CASCADE,
  FOREIGN KEY (organization_id, organization_membership_id) REFERENCES organization_memberships (organization_id, id) ON DELETE CASCADE
);
CREATE INDEX group_memberships_by_membership ON group_memberships (organization_membership_id, group_id);
