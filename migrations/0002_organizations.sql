-- Organizations and the domains they say are theirs. `name_key` is the name as it is searched: NFKC, lower case.

CREATE TABLE organizations (
  id                                  TEXT NOT NULL PRIMARY KEY,
  environment_id                      TEXT NOT NULL REFERENCES environments (id),
  name                                TEXT NOT NULL,
  name_key                            TEXT NOT NULL,
  external_id                         TEXT,
  stripe_customer_id                  TEXT,
  metadata                            TEXT NOT NULL,
  allow_profiles_outside_organization BIGINT NOT NULL,
  join_by_verified_domain             BIGINT NOT NULL,
  created_at                          BIGINT NOT NULL,
  updated_at                          BIGINT NOT NULL
);
CREATE INDEX organizations_by_environment ON organizations (environment_id, id);
CREATE UNIQUE INDEX organizations_by_external_id ON organizations (environment_id, external_id) WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX organizations_by_stripe_customer_id ON organizations (environment_id, stripe_customer_id)
  WHERE stripe_customer_id IS NOT NULL;

-- `pending_since` is when the present attempt to prove the domain began, `check_at` when DNS is asked next; it is null while nothing
-- is to be proved. The token is public by its nature: it is looked for in DNS.
CREATE TABLE organization_domains (
  id                  TEXT NOT NULL PRIMARY KEY,
  environment_id      TEXT NOT NULL,
  organization_id     TEXT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
  domain              TEXT NOT NULL,
  state               TEXT NOT NULL,
  strategy            TEXT NOT NULL,
  verification_prefix TEXT NOT NULL,
  verification_token  TEXT NOT NULL,
  pending_since       BIGINT NOT NULL,
  check_at            BIGINT,
  created_at          BIGINT NOT NULL,
  updated_at          BIGINT NOT NULL
);
CREATE UNIQUE INDEX organization_domains_by_organization ON organization_domains (environment_id, organization_id, domain);
-- Many may say that a domain is theirs; one is believed, whatever many proofs at once may try.
CREATE UNIQUE INDEX organization_domains_one_owner ON organization_domains (environment_id, domain) WHERE state = 'verified';
CREATE INDEX organization_domains_by_domain ON organization_domains (environment_id, domain, organization_id);
CREATE INDEX organization_domains_by_check ON organization_domains (check_at) WHERE check_at IS NOT NULL;
