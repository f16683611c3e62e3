-- scope: generation
-- More of how a trend stands: the hour beside the day, its growth, its peak; what of its counts came after their slice
-- had closed, and what could not be seen of it. Arrays end where counts ends, and stand without leading zeros.

ALTER TABLE {g}.trends
    ADD COLUMN hour_expected double precision NOT NULL DEFAULT 0,
    ADD COLUMN hour_burst double precision NOT NULL DEFAULT 0,
    ADD COLUMN acceleration double precision NOT NULL DEFAULT 0,
    ADD COLUMN engagement_velocity double precision NOT NULL DEFAULT 0,
    ADD COLUMN peak double precision NOT NULL DEFAULT 0,
    ADD COLUMN peaked_at timestamptz,
    ADD COLUMN story bigint,
    ADD COLUMN late integer[] NOT NULL DEFAULT '{}',
    ADD COLUMN hidden smallint[] NOT NULL DEFAULT '{}';
ALTER TABLE {g}.trend_scores
    ADD COLUMN hour_expected double precision NOT NULL DEFAULT 0,
    ADD COLUMN hour_burst double precision NOT NULL DEFAULT 0,
    ADD COLUMN acceleration double precision NOT NULL DEFAULT 0,
    ADD COLUMN engagement_velocity double precision NOT NULL DEFAULT 0,
    ADD COLUMN peak double precision NOT NULL DEFAULT 0,
    ADD COLUMN peaked_at timestamptz,
    ADD COLUMN story bigint,
    ADD COLUMN late integer[] NOT NULL DEFAULT '{}',
    ADD COLUMN hidden smallint[] NOT NULL DEFAULT '{}';
