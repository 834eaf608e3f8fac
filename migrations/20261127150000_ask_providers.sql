-- Where a transition comes from. A row that is older than this column shows it by its delivery: webhooks have one, registrations
-- do not.
ALTER TABLE transitions ADD COLUMN source text;
ALTER TABLE transitions ADD CONSTRAINT transitions_source_check
    CHECK (source IN ('webhook', 'registration', 'provider-api', 'reread')) NOT VALID;
COMMENT ON COLUMN transitions.source IS 'where it comes from: webhook, registration, provider-api or reread; null before this column, and if kind is overdue';

-- Profiles whose provider is to be asked.
CREATE TABLE inquiries (
    iccid text COLLATE "C" PRIMARY KEY,
    provider text NOT NULL,
    seq bigint NOT NULL,
    urgent boolean NOT NULL,
    wanted_at timestamptz NOT NULL,
    attempts integer NOT NULL DEFAULT 0,
    due_at timestamptz
);
CREATE INDEX inquiries_due ON inquiries (urgent DESC, due_at) WHERE due_at IS NOT NULL;

COMMENT ON TABLE inquiries IS 'Profiles whose provider is to be asked, or was asked long enough';
COMMENT ON COLUMN inquiries.iccid IS 'number of the profile';
COMMENT ON COLUMN inquiries.provider IS 'slug of the provider';
COMMENT ON COLUMN inquiries.seq IS 'number of the last transition when this was wanted';
COMMENT ON COLUMN inquiries.urgent IS 'whether somebody waits for the answer';
COMMENT ON COLUMN inquiries.wanted_at IS 'when it was first wanted';
COMMENT ON COLUMN inquiries.attempts IS 'how often the provider was asked';
COMMENT ON COLUMN inquiries.due_at IS 'when to ask next; null: never again';
