-- scope: shared
-- Summaries by a model, by the hash of what they were made from (models.summaries.llm): all processes and generations
-- share them. A key stands on the shard that its first byte names. Tokens are counted on shard 0.

CREATE TABLE {s}.summary_cache (
    key bytea PRIMARY KEY,
    summary bytea NOT NULL,
    items text[] NOT NULL,
    expires timestamptz NOT NULL
);
CREATE INDEX summary_cache_items ON {s}.summary_cache USING gin (items);
CREATE INDEX summary_cache_expires ON {s}.summary_cache (expires);
COMMENT ON COLUMN {s}.summary_cache.items IS 'The items that it was made from: forgetting one of them deletes it.';

CREATE TABLE {s}.summary_tokens (
    day date PRIMARY KEY,
    tokens bigint NOT NULL
);
