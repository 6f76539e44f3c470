-- What a person is shown of the browsers they are signed in with: which browser it is, from where, and when it was last of use.
-- Added columns only, so that the release before this one runs beside it.

ALTER TABLE browser_sessions ADD COLUMN browser_hash TEXT;
ALTER TABLE browser_sessions ADD COLUMN ip_address TEXT;
ALTER TABLE browser_sessions ADD COLUMN user_agent TEXT;
ALTER TABLE browser_sessions ADD COLUMN last_used_at BIGINT;
CREATE INDEX browser_sessions_by_browser ON browser_sessions (environment_id, browser_hash) WHERE browser_hash IS NOT NULL;
