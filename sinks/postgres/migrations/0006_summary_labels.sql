-- scope: generation
-- What a summary is made of, names, language, and whether it stands in for a model's.

ALTER TABLE {g}.topic_summaries
    ADD COLUMN headline_of text,
    ADD COLUMN quotes text[] NOT NULL DEFAULT '{}',
    ADD COLUMN entities text[] NOT NULL DEFAULT '{}',
    ADD COLUMN lang text,
    ADD COLUMN confidence double precision,
    ADD COLUMN fallback text;
