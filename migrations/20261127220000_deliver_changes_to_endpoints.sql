-- Endpoints: where backends have the changes of profiles delivered to.
--
-- An endpoint reads `changes` as any other follower does, from its place on. What it is behind with is therefore never copied: only
-- profiles whose changes it does not accept, while it accepts those of others, have a row each in endpoint_backlogs.
CREATE TABLE endpoints (
    id text COLLATE "C" PRIMARY KEY,
    number integer GENERATED ALWAYS AS IDENTITY,
    is_configured boolean NOT NULL,
    url text NOT NULL,
    kinds text[] NOT NULL,
    providers text[] NOT NULL,
    description text,
    key_id text,
    sealed bytea,
    previous_until timestamptz,
    created_at timestamptz NOT NULL,
    version integer NOT NULL DEFAULT 0,
    disabled_because text,
    disabled_at timestamptz,
    position bigint NOT NULL,
    mark bigint,
    replays integer NOT NULL DEFAULT 0,
    failures integer NOT NULL DEFAULT 0,
    failing_since timestamptz,
    retry_at timestamptz,
    last_error text,
    delivered bigint NOT NULL DEFAULT 0,
    delivered_at timestamptz,
    given_up bigint NOT NULL DEFAULT 0,
    CHECK (is_configured = (sealed IS NULL)),
    CHECK ((disabled_because IS NULL) = (disabled_at IS NULL)),
    CHECK (disabled_because IN ('request', 'gone', 'failing', 'lost-place'))
)
-- Its rows change with every page of changes that was delivered: without an index on what changes, and with room, in place.
WITH (fillfactor = 50, autovacuum_vacuum_threshold = 1000);

COMMENT ON TABLE endpoints IS 'Where backends have changes delivered to, and how far each has come';
COMMENT ON COLUMN endpoints.id IS 'name: given by the service, or by the configuration file';
COMMENT ON COLUMN endpoints.number IS 'number for the advisory lock of the replica that serves it';
COMMENT ON COLUMN endpoints.is_configured IS 'whether it comes from a configuration file, which then has its secrets';
COMMENT ON COLUMN endpoints.url IS 'where changes are sent';
COMMENT ON COLUMN endpoints.kinds IS 'kinds of changes that it wants; none: all';
COMMENT ON COLUMN endpoints.providers IS 'providers of whose profiles it wants changes; none: all';
COMMENT ON COLUMN endpoints.description IS 'what a backend says about it';
COMMENT ON COLUMN endpoints.key_id IS 'data key that sealed the secrets; null: they are plain';
COMMENT ON COLUMN endpoints.sealed IS 'the secrets that sign: the present one, and the one before';
COMMENT ON COLUMN endpoints.previous_until IS 'until when the secret before also signs';
COMMENT ON COLUMN endpoints.created_at IS 'when it was created';
COMMENT ON COLUMN endpoints.version IS 'counts what backends changed about it, so that the replica that serves it notices';
COMMENT ON COLUMN endpoints.disabled_because IS 'why nothing is delivered to it; null: it is served';
COMMENT ON COLUMN endpoints.disabled_at IS 'since when';
COMMENT ON COLUMN endpoints.position IS 'the last change that it is done with, but for backlogs';
COMMENT ON COLUMN endpoints.mark IS 'what that change is known by';
COMMENT ON COLUMN endpoints.replays IS 'counts how often its place was set, so that no delivery under way moves it back';
COMMENT ON COLUMN endpoints.failures IS 'how many attempts in a row it has accepted nothing';
COMMENT ON COLUMN endpoints.failing_since IS 'since when';
COMMENT ON COLUMN endpoints.retry_at IS 'when the next attempt is due';
COMMENT ON COLUMN endpoints.last_error IS 'how the last request failed that was not accepted';
COMMENT ON COLUMN endpoints.delivered IS 'how many changes it has accepted';
COMMENT ON COLUMN endpoints.delivered_at IS 'when it last accepted one';
COMMENT ON COLUMN endpoints.given_up IS 'how many changes were given up after five days, while it accepted those of other profiles';

CREATE TABLE endpoint_backlogs (
    iccid text COLLATE "C" NOT NULL,
    endpoint text COLLATE "C" NOT NULL REFERENCES endpoints (id) ON DELETE CASCADE,
    position bigint NOT NULL,
    since timestamptz NOT NULL,
    failures integer NOT NULL,
    retry_at timestamptz NOT NULL,
    PRIMARY KEY (iccid, endpoint)
);
CREATE INDEX endpoint_backlogs_due ON endpoint_backlogs (endpoint, retry_at);

COMMENT ON TABLE endpoint_backlogs IS 'Profiles whose changes an endpoint does not accept, while it accepts those of others';
COMMENT ON COLUMN endpoint_backlogs.iccid IS 'number of the profile';
COMMENT ON COLUMN endpoint_backlogs.endpoint IS 'the endpoint';
COMMENT ON COLUMN endpoint_backlogs.position IS 'the first of its changes that is due; all up to the place of the endpoint follow';
COMMENT ON COLUMN endpoint_backlogs.since IS 'since when that change is not accepted';
COMMENT ON COLUMN endpoint_backlogs.failures IS 'how often in a row';
COMMENT ON COLUMN endpoint_backlogs.retry_at IS 'when the next attempt is due';
