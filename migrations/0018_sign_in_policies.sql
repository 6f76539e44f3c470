-- How people may sign in to an organization, and, for a domain of it, how everybody with an address there may sign in. `subject_id` is
-- the organization's id or that of its domain; an absent value says nothing, so that the environment's counts.
CREATE TABLE sign_in_policies (
  subject_id             TEXT NOT NULL PRIMARY KEY,
  environment_id         TEXT NOT NULL REFERENCES environments (id),
  organization_id        TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  organization_domain_id TEXT REFERENCES organization_domains (id) ON DELETE CASCADE,
  domain                 TEXT,
  password               BIGINT,
  magic_auth             BIGINT,
  passkeys               BIGINT,
  mfa                    TEXT,
  session_seconds        BIGINT,
  inactivity_seconds     BIGINT,
  created_at             BIGINT NOT NULL,
  updated_at             BIGINT NOT NULL
);
CREATE INDEX sign_in_policies_of_organization ON sign_in_policies (organization_id);
CREATE INDEX sign_in_policies_of_domain ON sign_in_policies (organization_domain_id) WHERE organization_domain_id IS NOT NULL;
CREATE INDEX sign_in_policies_by_domain ON sign_in_policies (environment_id, domain) WHERE domain IS NOT NULL;

-- The organization that a sign-in is for once the person chose it or has no other: steps that its policy asks for lead back to it.
ALTER TABLE authorization_requests ADD COLUMN chosen_organization_id TEXT;
ALTER TABLE pending_authentications ADD COLUMN organization_id TEXT;
