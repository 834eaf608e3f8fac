-- Lists of what is overdue begin with what has waited longest. With the time in this table, an index has that order, and no page reads
-- and sorts all that is overdue.
ALTER TABLE overdue ADD COLUMN since timestamptz;
UPDATE overdue AS o SET since = p.since FROM profiles AS p WHERE p.iccid = o.iccid AND p.seq = o.seq;
CREATE INDEX overdue_since ON overdue (reason, since, iccid);

COMMENT ON COLUMN overdue.since IS 'since of the profile; null if a replica of the release before wrote it, for a minute';
