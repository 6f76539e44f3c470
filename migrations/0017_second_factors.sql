-- What was proved beside the first method travels with a sign-in: through every step it waits at, into the session. Added columns
-- only, so that the release before this one runs beside it; it writes none, which says "none was proved".
ALTER TABLE pending_authentications ADD COLUMN second_factor TEXT;
ALTER TABLE authorization_codes ADD COLUMN second_factor TEXT;
ALTER TABLE browser_sessions ADD COLUMN second_factor TEXT;
ALTER TABLE device_codes ADD COLUMN second_factor TEXT;
ALTER TABLE sessions ADD COLUMN second_factor TEXT;
