-- Tries of a password in a row that were not right, so that nobody may go on for ever (NIST SP 800-63B-4 §3.2.2). One row for what is
-- tried by strangers, and one for each device that the owner has signed in from. Addresses that nobody has are counted alike, so that
-- the work does not tell them apart, and are forgotten after a day.
CREATE TABLE password_tries (
  subject_hash   TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL,
  user_id        TEXT,
  device_hash    TEXT,
  count          BIGINT NOT NULL,
  last_tried_at  BIGINT NOT NULL
);
CREATE INDEX password_tries_of_user ON password_tries (environment_id, user_id);
CREATE INDEX password_tries_by_age ON password_tries (last_tried_at);

-- Devices that somebody has signed in from, as apps name them (`device_id`). Worth nothing but a counter of their own.
CREATE TABLE devices (
  environment_id TEXT NOT NULL,
  user_id        TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  device_hash    TEXT NOT NULL,
  last_seen_at   BIGINT NOT NULL,
  PRIMARY KEY (environment_id, user_id, device_hash)
);
CREATE INDEX devices_by_age ON devices (last_seen_at);

-- Checks that a browser has passed when many came at once: each is good for a few tries of one purpose.
CREATE TABLE visitor_checks (
  id_hash        TEXT NOT NULL PRIMARY KEY,
  environment_id TEXT NOT NULL,
  browser_hash   TEXT NOT NULL,
  purpose        TEXT NOT NULL,
  tries_left     BIGINT NOT NULL,
  expires_at     BIGINT NOT NULL
);
CREATE INDEX visitor_checks_of_browser ON visitor_checks (environment_id, browser_hash, purpose);
CREATE INDEX visitor_checks_by_expiry ON visitor_checks (expires_at);
