-- Sessions of the console whose people have signed out. A session is a sealed cookie, valid on every replica until its hour is over;
-- a copy of it must not outlive the sign-out.
CREATE TABLE ended_sessions (
    id bytea PRIMARY KEY CHECK (length(id) = 16),
    until timestamptz NOT NULL
);

COMMENT ON TABLE ended_sessions IS 'Sessions of the console whose people have signed out';
COMMENT ON COLUMN ended_sessions.id IS 'random number in the sealed cookie, which opens nothing by itself';
COMMENT ON COLUMN ended_sessions.until IS 'until when the cookie would have been valid, by the clock of the service';
