-- scope: shared
-- What people say about trends, each on the shard of its trend. What is muted, or no trend at all, is scored and stored
-- like any other, and not listed among the rising ones.

CREATE TABLE {s}.feedback (
    trend_id text NOT NULL,
    kind text NOT NULL,
    bucket smallint NOT NULL CHECK (bucket BETWEEN 0 AND 1023),
    version bigint NOT NULL,
    active boolean NOT NULL,
    reason text NOT NULL,
    said_at timestamptz NOT NULL,
    PRIMARY KEY (trend_id, kind)
);
