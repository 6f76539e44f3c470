-- What a sign-in in a browser is asked to be, and how far its second factor has come. Both are empty in rows of the release before.
-- `multi_factor`: the app asked for two factors in `acr_values`.
ALTER TABLE authorization_requests ADD COLUMN multi_factor BIGINT;
-- Sealed: the challenge that was sent, the factor that is being enrolled, or the recovery codes that are still to be saved.
ALTER TABLE authorization_requests ADD COLUMN second_factor_sealed BYTEA;
