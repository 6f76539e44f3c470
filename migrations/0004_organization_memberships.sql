-- Who belongs to which organization: one row for a user and an organization, whatever many callers try at once.
CREATE TABLE organization_memberships (
  id                TEXT NOT NULL PRIMARY KEY,
  environment_id    TEXT NOT NULL,
  user_id           TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  organization_id   TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  status            TEXT NOT NULL,
  directory_managed BIGINT NOT NULL,
  custom_attributes TEXT NOT NULL,
  created_at        BIGINT NOT NULL,
  updated_at        BIGINT NOT NULL
);
-- These begin with the user or the organization, each of which is of one environment: so they also serve the cascades, which know
-- no environment. The status stands before the id because a list shows a status in the order of ids.
CREATE UNIQUE INDEX organization_memberships_one ON organization_memberships (organization_id, user_id);
CREATE INDEX organization_memberships_by_organization ON organization_memberships (organization_id, status, id);
CREATE INDEX organization_memberships_by_user ON organization_memberships (user_id, status, id);

-- The roles of a membership; `place` 0 is the first by priority when they were given. The organization stands here again so that
-- its admins, and whoever has a role, are found without reading every member.
CREATE TABLE organization_membership_roles (
  membership_id   TEXT NOT NULL REFERENCES organization_memberships (id) ON DELETE CASCADE,
  role_slug       TEXT NOT NULL,
  environment_id  TEXT NOT NULL,
  organization_id TEXT NOT NULL,
  place           BIGINT NOT NULL,
  PRIMARY KEY (membership_id, role_slug)
);
CREATE INDEX organization_membership_roles_by_slug ON organization_membership_roles (environment_id, role_slug, organization_id, membership_id);
