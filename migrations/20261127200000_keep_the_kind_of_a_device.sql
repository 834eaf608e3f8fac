-- What kind of phone a profile is on, for support. Replicas of the release before neither read nor write it.
ALTER TABLE profiles ADD COLUMN device jsonb;
COMMENT ON COLUMN profiles.device IS 'make, model and tac (the first eight digits of the IMEI) of the device, those that its provider said; null if none';
