-- How far profiles come on their way from ready to connected, and how long an install takes: counted as the states are, by what
-- writers append to count_changes.
ALTER TABLE profiles
    ADD COLUMN ready_at timestamptz,
    ADD COLUMN reached text;
COMMENT ON COLUMN profiles.ready_at IS 'when it was ready to be installed first, by our clock; null if nobody said so before it was on a device';
COMMENT ON COLUMN profiles.reached IS 'the furthest that it has come since then: ready, downloaded, installed or connected';

ALTER TABLE count_changes
    ADD COLUMN ready_on date,
    ADD COLUMN milestones smallint,
    ADD COLUMN took smallint;
COMMENT ON COLUMN count_changes.ready_on IS 'day in UTC on which the profiles were ready; null if they reached nothing new';
COMMENT ON COLUMN count_changes.milestones IS 'what they newly reached: the sum of 1 ready, 2 opened, 4 link-tapped, 8 qr-shown, 16 downloaded, 32 installed, 64 connected';
COMMENT ON COLUMN count_changes.took IS 'how long the install took: number of the step, 8 log2(seconds + 1); null if they were not installed, or that is not known';

CREATE TABLE funnel_counts (
    day date NOT NULL,
    provider text NOT NULL,
    milestone text NOT NULL,
    profiles bigint NOT NULL,
    PRIMARY KEY (day, provider, milestone)
);
COMMENT ON TABLE funnel_counts IS 'How many of the profiles that were ready on a day have come how far, without count_changes';
COMMENT ON COLUMN funnel_counts.day IS 'day in UTC on which they were ready';
COMMENT ON COLUMN funnel_counts.provider IS 'slug of the provider';
COMMENT ON COLUMN funnel_counts.milestone IS 'what they have reached';
COMMENT ON COLUMN funnel_counts.profiles IS 'how many profiles';

CREATE TABLE install_times (
    day date NOT NULL,
    provider text NOT NULL,
    took smallint NOT NULL,
    profiles bigint NOT NULL,
    PRIMARY KEY (day, provider, took)
);
COMMENT ON TABLE install_times IS 'How long the installs of the profiles that were ready on a day took, without count_changes';
COMMENT ON COLUMN install_times.day IS 'day in UTC on which they were ready';
COMMENT ON COLUMN install_times.provider IS 'slug of the provider';
COMMENT ON COLUMN install_times.took IS 'how long from ready to installed: number of the step, 8 log2(seconds + 1)';
COMMENT ON COLUMN install_times.profiles IS 'how many profiles';

-- What pages have reported of their users, once for each profile. It is erased with the profile.
CREATE TABLE intents (
    iccid text COLLATE "C" NOT NULL,
    intent text NOT NULL,
    at timestamptz NOT NULL,
    PRIMARY KEY (iccid, intent)
);
COMMENT ON TABLE intents IS 'What the install page has reported of a profile''s user';
COMMENT ON COLUMN intents.iccid IS 'number of the profile';
COMMENT ON COLUMN intents.intent IS 'what they did first at that time: opened, link-tapped or qr-shown';
COMMENT ON COLUMN intents.at IS 'when it was reported, by our clock';
