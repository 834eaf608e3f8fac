-- What installs a profile: activation code and links, as one sealed text for each. In a table of their own, so that the row
-- that every webhook updates stays small, and only those who need them read them.
CREATE TABLE install_credentials (
    iccid text COLLATE "C" PRIMARY KEY,
    key_id text,
    sealed bytea NOT NULL,
    updated_at timestamptz NOT NULL
);

COMMENT ON TABLE install_credentials IS 'What installs a profile: activation code and links';
COMMENT ON COLUMN install_credentials.iccid IS 'the profile';
COMMENT ON COLUMN install_credentials.key_id IS 'which data key sealed them; null: they are plain JSON';
COMMENT ON COLUMN install_credentials.sealed IS 'nonce and XChaCha20-Poly1305 ciphertext of a JSON object, bound to the ICCID; or the plain JSON';
COMMENT ON COLUMN install_credentials.updated_at IS 'when they were registered or sealed anew';
