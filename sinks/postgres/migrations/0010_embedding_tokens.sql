-- scope: shared
-- What embeddings by a model behind an API have cost, by days of UTC: counted on shard 0, as summary_tokens is.

CREATE TABLE {s}.embedding_tokens (
    day date PRIMARY KEY,
    tokens bigint NOT NULL
);
