-- For an endpoint that is to continue from a time on. Changes are appended nearly in the order of their times, so a small index of
-- ranges finds the first one, and costs the one who appends nearly nothing.
CREATE INDEX changes_at ON changes USING brin (at) WITH (pages_per_range = 32, autosummarize = on);
