-- A role of a group on a resource: every member has it as long as it is one. Columns as in role_assignments.
CREATE TABLE group_role_assignments (
  id                   TEXT NOT NULL PRIMARY KEY,
  environment_id       TEXT NOT NULL,
  holder_id            TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
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
CREATE UNIQUE INDEX group_role_assignments_once ON group_role_assignments ((holder_id || resource_id), role_slug);
CREATE INDEX group_role_assignments_by_role ON group_role_assignments (role_id);
CREATE INDEX group_role_assignments_by_row ON group_role_assignments (resource_row_id);
CREATE INDEX group_role_assignments_by_holder ON group_role_assignments (holder_id, id);
CREATE INDEX group_role_assignments_by_external_id ON group_role_assignments (holder_id, resource_external_id, id);
CREATE INDEX group_role_assignments_by_type ON group_role_assignments (holder_id, resource_type_slug, id);
CREATE INDEX group_role_assignments_by_resource ON group_role_assignments (resource_id, id);
CREATE INDEX group_role_assignments_by_resource_and_role ON group_role_assignments (resource_id, role_slug, id);
CREATE INDEX group_role_assignments_who ON group_role_assignments (resource_id, role_slug, holder_id);
CREATE INDEX group_role_assignments_what ON group_role_assignments (holder_id, parent_id, role_slug, resource_id);
