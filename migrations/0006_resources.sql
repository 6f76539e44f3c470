-- What fine-grained checks are about. An organization is the root of its own tree and has no row here: its resource id is
-- `authz_resource_` and the ULID of the organization.

CREATE TABLE resource_types (
  id             TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL REFERENCES environments (id),
  slug           TEXT NOT NULL,
  name           TEXT NOT NULL,
  description    TEXT,
  created_at     BIGINT NOT NULL,
  updated_at     BIGINT NOT NULL
);
CREATE UNIQUE INDEX resource_types_by_slug ON resource_types (environment_id, slug);
CREATE INDEX resource_types_by_environment ON resource_types (environment_id, id);

-- Below which types a resource of this type may stand.
CREATE TABLE resource_type_parents (
  environment_id   TEXT NOT NULL,
  resource_type_id TEXT NOT NULL REFERENCES resource_types (id) ON DELETE CASCADE,
  parent_slug      TEXT NOT NULL,
  PRIMARY KEY (resource_type_id, parent_slug)
);
CREATE INDEX resource_type_parents_by_slug ON resource_type_parents (environment_id, parent_slug);

-- `path` is the ULIDs of the ancestors below the organization and of the resource itself, 26 characters each: the ancestors are
-- known with the row, and a subtree is one range of the index.
CREATE TABLE resources (
  id                 TEXT NOT NULL PRIMARY KEY,
  environment_id     TEXT NOT NULL REFERENCES environments (id),
  organization_id    TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  resource_type_slug TEXT NOT NULL,
  external_id        TEXT NOT NULL,
  name               TEXT NOT NULL,
  description        TEXT,
  parent_id          TEXT NOT NULL,
  path               TEXT NOT NULL,
  created_at         BIGINT NOT NULL,
  updated_at         BIGINT NOT NULL,
  FOREIGN KEY (environment_id, resource_type_slug) REFERENCES resource_types (environment_id, slug)
);
CREATE UNIQUE INDEX resources_by_external_id ON resources (organization_id, resource_type_slug, external_id);
CREATE UNIQUE INDEX resources_by_path ON resources (environment_id, path);
CREATE INDEX resources_by_environment ON resources (environment_id, id);
CREATE INDEX resources_by_organization ON resources (environment_id, organization_id, id);
CREATE INDEX resources_by_type ON resources (environment_id, resource_type_slug, id);
CREATE INDEX resources_by_organization_and_type ON resources (environment_id, organization_id, resource_type_slug, id);
CREATE INDEX resources_by_parent ON resources (environment_id, parent_id, id);
CREATE INDEX resources_by_parent_and_type ON resources (environment_id, parent_id, resource_type_slug, id);

-- A role of a membership on a resource. `resource_row_id` is the same resource where it has a row, and null for an organization.
-- External id and type never change and so may stand here too; `parent_id` follows when the resource moves.
CREATE TABLE role_assignments (
  id                   TEXT NOT NULL PRIMARY KEY,
  environment_id       TEXT NOT NULL,
  holder_id            TEXT NOT NULL REFERENCES organization_memberships (id) ON DELETE CASCADE,
  role_id              TEXT NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
  role_slug            TEXT NOT NULL,
  resource_id          TEXT NOT NULL,
  resource_row_id      TEXT REFERENCES resources (id) ON DELETE CASCADE,
  resource_external_id TEXT NOT NULL,
  resource_type_slug   TEXT NOT NULL,
  parent_id            TEXT NOT NULL,
  created_at           BIGINT NOT NULL,
  updated_at           BIGINT NOT NULL
);
-- Holder and resource are one value, so that what one holds on the other is found by that and not by reading all of either. The
-- others begin with the holder, the resource or the role, each of which is of one environment: so they serve the cascades, too.
CREATE UNIQUE INDEX role_assignments_once ON role_assignments ((holder_id || resource_id), role_slug);
CREATE INDEX role_assignments_by_role ON role_assignments (role_id);
CREATE INDEX role_assignments_by_row ON role_assignments (resource_row_id);
CREATE INDEX role_assignments_by_holder ON role_assignments (holder_id, id);
CREATE INDEX role_assignments_by_external_id ON role_assignments (holder_id, resource_external_id, id);
CREATE INDEX role_assignments_by_type ON role_assignments (holder_id, resource_type_slug, id);
CREATE INDEX role_assignments_by_resource ON role_assignments (resource_id, id);
CREATE INDEX role_assignments_by_resource_and_role ON role_assignments (resource_id, role_slug, id);
CREATE INDEX role_assignments_who ON role_assignments (resource_id, role_slug, holder_id);
CREATE INDEX role_assignments_what ON role_assignments (holder_id, parent_id, role_slug, resource_id);
