-- How long the sign-in of a browser had been unused when it was asked to go on, in seconds: what is chosen later is held to the
-- inactivity of the organization that is chosen. Empty where the person has just proved who they are, and in rows of the release before.
ALTER TABLE pending_authentications ADD COLUMN idle_seconds BIGINT;
-- Wrong codes in a row from devices on which the owner has proved a second factor before, beside `failures` of everywhere else.
ALTER TABLE authentication_factors ADD COLUMN device_failures BIGINT;
-- When the owner last proved a second factor on the device.
ALTER TABLE devices ADD COLUMN second_factor_at BIGINT;
