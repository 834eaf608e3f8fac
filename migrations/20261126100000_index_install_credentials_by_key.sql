-- Which data keys are still needed is asked at every start, and must not read the whole table. Small: a key's id is stored once for
-- many rows.
CREATE INDEX install_credentials_key_id ON install_credentials (key_id) WHERE key_id IS NOT NULL;
