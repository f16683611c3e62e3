-- scope: generation
-- The category of the tracked subjects that most items of a topic belong to.

ALTER TABLE {g}.topic_summaries ADD COLUMN category text;
