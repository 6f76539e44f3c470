-- Invitations to an organization or, without one, to the app. The token of the link is kept hashed, so that the link finds its
-- invitation, and sealed, because the API answers it to the environment's own key. `is_open` turns 0 when the invitation is
-- accepted, revoked or found expired: one open invitation at most for an address and a place, whatever two callers at once may try.

CREATE TABLE invitations (
  id               TEXT NOT NULL PRIMARY KEY,
  environment_id   TEXT NOT NULL REFERENCES environments (id),
  organization_id  TEXT REFERENCES organizations (id) ON DELETE CASCADE,
  email            TEXT NOT NULL,
  email_key        TEXT NOT NULL,
  role_slug        TEXT,
  inviter_user_id  TEXT,
  token_hash       TEXT NOT NULL UNIQUE,
  token_sealed     BYTEA NOT NULL,
  lifetime_days    BIGINT NOT NULL,
  is_open          BIGINT NOT NULL,
  accepted_user_id TEXT,
  accepted_at      BIGINT,
  revoked_at       BIGINT,
  expires_at       BIGINT NOT NULL,
  created_at       BIGINT NOT NULL,
  updated_at       BIGINT NOT NULL
);
CREATE INDEX invitations_by_environment ON invitations (environment_id, id);
-- The organization first: deleting one finds its invitations by it alone.
CREATE INDEX invitations_by_organization ON invitations (organization_id, environment_id, id);
CREATE INDEX invitations_by_email ON invitations (environment_id, email_key, id);
CREATE UNIQUE INDEX invitations_one_open_to_organization ON invitations (environment_id, organization_id, email_key) WHERE is_open = 1;
CREATE UNIQUE INDEX invitations_one_open_to_app ON invitations (environment_id, email_key) WHERE is_open = 1 AND organization_id IS NULL;

-- The invitation that a sign-in carries along, by the hash of its token: a token that was replaced is dead here, too.
-- `invitation_session` says whether a sign-in that the browser has already may accept it.
ALTER TABLE authorization_requests ADD COLUMN invitation_hash TEXT;
ALTER TABLE authorization_requests ADD COLUMN invitation_session BIGINT;
ALTER TABLE pending_authentications ADD COLUMN invitation_hash TEXT;
