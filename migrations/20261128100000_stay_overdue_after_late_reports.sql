-- A late report raises the seq of its profile and changes nothing else: what was overdue still is. The time of the last
-- change of state tells that. Replicas of the release before write rows without it, which go by their seq for a minute.
COMMENT ON TABLE overdue IS 'Profiles that were found to be overdue; the view overdue_now has those that still are';

CREATE VIEW overdue_now AS
SELECT o.iccid, o.reason, o.since AS listed_since, p.provider, p.state, p.since, p.updated_at
FROM overdue AS o JOIN profiles AS p ON p.iccid = o.iccid
WHERE (o.seq = p.seq OR o.since = p.since) AND p.first_connected_at IS NULL;
COMMENT ON VIEW overdue_now IS 'Profiles that are overdue, and what did not happen';
COMMENT ON COLUMN overdue_now.listed_since IS 'since, from the table whose index has the order of lists';
