-- What roles grant. A slug never changes; `is_system` marks those that belong to the server and cannot be changed or deleted.
CREATE TABLE permissions (
  id                 TEXT NOT NULL PRIMARY KEY,
  environment_id     TEXT NOT NULL REFERENCES environments (id),
  slug               TEXT NOT NULL,
  name               TEXT NOT NULL,
  description        TEXT,
  resource_type_slug TEXT NOT NULL,
  is_system          BIGINT NOT NULL,
  created_at         BIGINT NOT NULL,
  updated_at         BIGINT NOT NULL
);
CREATE UNIQUE INDEX permissions_by_slug ON permissions (environment_id, slug);
CREATE INDEX permissions_by_environment ON permissions (environment_id, id);

-- Roles of the environment, and those of one organization. The lower the priority, the higher the role.
CREATE TABLE roles (
  id                 TEXT NOT NULL PRIMARY KEY,
  environment_id     TEXT NOT NULL REFERENCES environments (id),
  organization_id    TEXT REFERENCES organizations (id) ON DELETE CASCADE,
  slug               TEXT NOT NULL,
  name               TEXT NOT NULL,
  description        TEXT,
  resource_type_slug TEXT NOT NULL,
  is_default         BIGINT NOT NULL,
  priority           BIGINT NOT NULL,
  created_at         BIGINT NOT NULL,
  updated_at         BIGINT NOT NULL
);
-- One index for both kinds: NULLs would not be equal to each other.
CREATE UNIQUE INDEX roles_by_slug ON roles (environment_id, slug, COALESCE(organization_id, ''));
CREATE INDEX roles_by_priority ON roles (environment_id, COALESCE(organization_id, ''), priority, id);
CREATE INDEX roles_by_organization ON roles (organization_id);
CREATE UNIQUE INDEX roles_one_default ON roles (environment_id) WHERE is_default = 1;

-- `resource_type_slug` is the permission's: neither it nor the slug changes.
CREATE TABLE role_permissions (
  environment_id     TEXT NOT NULL,
  role_id            TEXT NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
  permission_slug    TEXT NOT NULL,
  resource_type_slug TEXT NOT NULL,
  ordinal            BIGINT NOT NULL,
  PRIMARY KEY (role_id, permission_slug),
  FOREIGN KEY (environment_id, permission_slug) REFERENCES permissions (environment_id, slug) ON DELETE CASCADE
);
CREATE INDEX role_permissions_by_permission ON role_permissions (environment_id, permission_slug);

-- Environments made before there were roles. Their ids are made of the environment's own: the first random character is
-- changed for the second role, because environments of one millisecond may differ in their last characters only.
INSERT INTO roles (id, environment_id, organization_id, slug, name, description, resource_type_slug, is_default, priority, created_at, updated_at)
  SELECT 'role_' || substr(id, 13), id, NULL, 'admin', 'Admin', 'May manage the organization and its members.', 'organization', 0, 0,
    created_at, created_at
  FROM environments;
INSERT INTO roles (id, environment_id, organization_id, slug, name, description, resource_type_slug, is_default, priority, created_at, updated_at)
  SELECT 'role_' || substr(id, 13, 10) || CASE WHEN substr(id, 23, 1) = '0' THEN '1' ELSE '0' END || substr(id, 24), id, NULL, 'member',
    'Member', 'What everybody in the organization may do.', 'organization', 1, 1, created_at, created_at
  FROM environments;
