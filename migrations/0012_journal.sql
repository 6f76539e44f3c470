-- The order of events and the chain that shows every later change to them.
-- `seal` is a tag over the row, made with it under a key that is not in the database. `seq` counts 1, 2, 3 .. within an environment and is
-- given shortly after the commit, so whoever reads by `seq` misses no row that committed late; below zero stands what the server
-- did not write. `hash` is the link of the chain: a tag over the row before it of the same kind, and over the row.
-- `listed` is 1 for the names that `GET /events` shows and 0 for the platform's own entries: each kind is a chain of its own and
-- loses its oldest rows alone. Seq, hash and listed are absent until the row has its place.
ALTER TABLE events ADD COLUMN organization_id TEXT;
ALTER TABLE events ADD COLUMN context TEXT;
ALTER TABLE events ADD COLUMN seal BYTEA;
ALTER TABLE events ADD COLUMN seq BIGINT;
ALTER TABLE events ADD COLUMN hash BYTEA;
ALTER TABLE events ADD COLUMN listed BIGINT;
-- Rows leave by their place now, and a write has one index less to keep.
DROP INDEX events_by_age;
CREATE INDEX events_waiting ON events (environment_id, id) WHERE seq IS NULL;
CREATE UNIQUE INDEX events_in_order ON events (environment_id, seq) WHERE seq IS NOT NULL;
CREATE UNIQUE INDEX events_by_kind ON events (environment_id, listed, seq) WHERE seq IS NOT NULL;
CREATE INDEX events_by_name ON events (environment_id, event, seq) WHERE seq IS NOT NULL;
CREATE INDEX events_of_organization ON events (environment_id, organization_id, event, seq) WHERE seq IS NOT NULL AND organization_id IS NOT NULL;

-- The end of each environment's chains, and where they begin since older rows left. `mac` is a tag over the row: cutting off the
-- newest events or taking the oldest away shows.
CREATE TABLE event_heads (
  environment_id     TEXT NOT NULL PRIMARY KEY,
  seq                BIGINT NOT NULL,
  rejected           BIGINT NOT NULL,
  unsealed_through   TEXT NOT NULL,
  listed_seq         BIGINT NOT NULL,
  listed_link        BYTEA NOT NULL,
  listed_pruned_seq  BIGINT NOT NULL,
  listed_pruned_link BYTEA NOT NULL,
  own_seq            BIGINT NOT NULL,
  own_link           BYTEA NOT NULL,
  own_pruned_seq     BIGINT NOT NULL,
  own_pruned_link    BYTEA NOT NULL,
  mac                BYTEA NOT NULL
);
