-- One row for each eSIM profile, keyed by its ICCID: what we believe of it now.
-- It always equals the last transition of its history that was not late.
CREATE TABLE profiles (
    iccid text COLLATE "C" PRIMARY KEY,
    provider text NOT NULL,
    state text NOT NULL CHECK (state IN (
        'PREPARING', 'RELEASED', 'DOWNLOADED', 'INSTALLED', 'DISABLED', 'DELETED', 'ERROR', 'UNAVAILABLE'
    )),
    enabled boolean,
    raw_state text NOT NULL,
    imsi text,
    eid text,
    since timestamptz NOT NULL,
    seq bigint NOT NULL CHECK (seq > 0),
    installs_seen integer NOT NULL CHECK (installs_seen >= 0),
    deliveries bigint NOT NULL CHECK (deliveries >= 0),
    last_delivery_at timestamptz,
    last_occurred_at timestamptz,
    registered_at timestamptz,
    uid text,
    activated_at timestamptz,
    last_seen timestamptz,
    updated_at timestamptz NOT NULL
)
-- Every webhook updates a row. The room left in each page, and no index on what changes often, let Postgres do that
-- without touching an index (a heap-only update).
WITH (fillfactor = 80);

COMMENT ON TABLE profiles IS 'One row for each eSIM profile: what we believe of it now';
COMMENT ON COLUMN profiles.iccid IS 'ICCID (ITU-T E.118), 18 to 22 digits';
COMMENT ON COLUMN profiles.provider IS 'slug of the provider that the profile belongs to';
COMMENT ON COLUMN profiles.state IS 'canonical state';
COMMENT ON COLUMN profiles.enabled IS 'switched on or off; null where the provider does not say';
COMMENT ON COLUMN profiles.raw_state IS 'the provider''s last word for the state, exactly as sent';
COMMENT ON COLUMN profiles.imsi IS 'IMSI (E.212), 5 to 15 digits; a body without one never erases it';
COMMENT ON COLUMN profiles.eid IS 'EID (SGP.29) of the device; a body without one never erases it';
COMMENT ON COLUMN profiles.since IS 'when it came into this state or onto this device, by our clock';
COMMENT ON COLUMN profiles.seq IS 'number of its last transition, allotted under this row''s lock';
COMMENT ON COLUMN profiles.installs_seen IS 'how often it was seen to come onto a device';
COMMENT ON COLUMN profiles.deliveries IS 'deliveries that told something about it; duplicates and foreign ones not counted';
COMMENT ON COLUMN profiles.last_delivery_at IS 'when the last of them came';
COMMENT ON COLUMN profiles.last_occurred_at IS 'newest event time applied, from a provider that sends one';
COMMENT ON COLUMN profiles.registered_at IS 'when a backend last registered it; null if it never did';
COMMENT ON COLUMN profiles.uid IS 'the customer''s identifier at the provider, from the registration';
COMMENT ON COLUMN profiles.activated_at IS 'when its data package was activated, from the registration; says nothing of the install';
COMMENT ON COLUMN profiles.last_seen IS 'when the provider last saw it, from the registration';
COMMENT ON COLUMN profiles.updated_at IS 'when this row last changed';

CREATE INDEX profiles_imsi ON profiles (imsi) WHERE imsi IS NOT NULL;
-- The same device may be written in either case.
CREATE INDEX profiles_eid ON profiles (upper(eid)) WHERE eid IS NOT NULL;
CREATE INDEX profiles_uid ON profiles (uid) WHERE uid IS NOT NULL;
