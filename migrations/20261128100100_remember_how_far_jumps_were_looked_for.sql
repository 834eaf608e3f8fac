-- A move that nobody expected is asked about also if no replica was looking when it came.
CREATE TABLE inquiry_scans (
    provider text PRIMARY KEY,
    until timestamptz NOT NULL
);
COMMENT ON TABLE inquiry_scans IS 'How far deliveries have been looked through for moves that the provider is to be asked about';
COMMENT ON COLUMN inquiry_scans.provider IS 'whose deliveries';
COMMENT ON COLUMN inquiry_scans.until IS 'all deliveries before this have been looked at';
