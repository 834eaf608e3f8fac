-- A move that nobody expected is asked about also if no replica was looking when it came, or if its delivery was spooled.
CREATE TABLE inquiry_scans (
    provider text PRIMARY KEY,
    position bigint NOT NULL
);
COMMENT ON TABLE inquiry_scans IS 'How far changes have been looked through for moves that the provider is to be asked about';
COMMENT ON COLUMN inquiry_scans.provider IS 'whose profiles';
COMMENT ON COLUMN inquiry_scans.position IS 'all changes up to this position have been looked at';
