-- What a sign-in keeps about organizations: the one an app asked for, the one a person chose, and how a sign-in that waits
-- for the choice was proved. Added columns only, so that the release before this one runs beside it.

ALTER TABLE authorization_requests ADD COLUMN organization_id TEXT;
ALTER TABLE authorization_codes ADD COLUMN organization_id TEXT;
ALTER TABLE device_codes ADD COLUMN organization_id TEXT;
ALTER TABLE pending_authentications ADD COLUMN authenticated_at BIGINT;
ALTER TABLE pending_authentications ADD COLUMN fresh BIGINT;
CREATE INDEX sessions_by_organization ON sessions (environment_id, organization_id, id) WHERE organization_id IS NOT NULL;
