-- How the hooks do, over all replicas and restarts. Replicas add to it once a minute.
CREATE TABLE hook_hours (
    hook text NOT NULL,
    hour timestamptz NOT NULL,
    accepted bigint NOT NULL,
    refused bigint NOT NULL,
    PRIMARY KEY (hook, hour)
);
COMMENT ON TABLE hook_hours IS 'How many webhooks came in which hour';
COMMENT ON COLUMN hook_hours.hook IS 'path of the hook below /webhooks/';
COMMENT ON COLUMN hook_hours.hour IS 'begin of the hour';
COMMENT ON COLUMN hook_hours.accepted IS 'how many were accepted';
COMMENT ON COLUMN hook_hours.refused IS 'how many could not be authenticated';

CREATE TABLE hook_health (
    hook text PRIMARY KEY,
    accepted_at timestamptz,
    refused_at timestamptz,
    refusal text
);
COMMENT ON TABLE hook_health IS 'When a webhook last came';
COMMENT ON COLUMN hook_health.hook IS 'path of the hook below /webhooks/';
COMMENT ON COLUMN hook_health.accepted_at IS 'when one was last accepted';
COMMENT ON COLUMN hook_health.refused_at IS 'when one could last not be authenticated';
COMMENT ON COLUMN hook_health.refusal IS 'why not';
