-- What should have happened and did not: a line in the history, and which profiles it is true of at present.
ALTER TABLE transitions ADD COLUMN reason text;
COMMENT ON COLUMN transitions.reason IS 'why the profile is overdue, if kind is overdue';

-- One kind more. What is stored satisfies the narrower check, so nothing has to be read to validate this one.
ALTER TABLE transitions DROP CONSTRAINT transitions_kind_check;
ALTER TABLE transitions ADD CONSTRAINT transitions_kind_check
    CHECK (kind IN ('normal', 'unexpected', 'late', 'overdue')) NOT VALID;
ALTER TABLE transitions ADD CONSTRAINT transitions_reason_check CHECK (
    (kind = 'overdue') = (reason IS NOT NULL)
    AND reason IN ('not-installed', 'not-finished', 'failed', 'not-connected')
) NOT VALID;

-- A webhook that moves the profile raises its seq, and so ends this without touching the table.
CREATE TABLE overdue (
    iccid text COLLATE "C" PRIMARY KEY,
    seq bigint NOT NULL,
    reason text NOT NULL
);
COMMENT ON TABLE overdue IS 'Profiles that are overdue, for as long as seq is that of the profile and it was never connected';
COMMENT ON COLUMN overdue.iccid IS 'number of the profile';
COMMENT ON COLUMN overdue.seq IS 'number of the transition that says so';
COMMENT ON COLUMN overdue.reason IS 'what did not happen';

CREATE TABLE overdue_scans (
    reason text PRIMARY KEY,
    until timestamptz NOT NULL
);
COMMENT ON TABLE overdue_scans IS 'How far profiles have been looked through for what is overdue';
COMMENT ON COLUMN overdue_scans.reason IS 'what they were looked through for';
COMMENT ON COLUMN overdue_scans.until IS 'all changes before this have been looked at';
