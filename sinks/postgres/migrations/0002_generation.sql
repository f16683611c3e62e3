-- scope: generation
-- Everything derived. Each row carries its bucket, and the version by which the newest wins.

-- items: on the shard of their home trend. version counts decisions; text_version is that of the columns which an
-- engagement update or a deletion leaves alone (text and vector).
CREATE TABLE {g}.items (
    first_seen timestamptz NOT NULL,
    item_id text NOT NULL,
    bucket smallint NOT NULL,
    version bigint NOT NULL,
    text_version bigint NOT NULL,
    trend_id text NOT NULL,
    topic_id text NOT NULL,
    similarity real NOT NULL,
    is_new_topic boolean NOT NULL,
    deleted boolean NOT NULL,
    echo_of text,
    mentions text[] NOT NULL,
    observed_at timestamptz NOT NULL,
    points bigint NOT NULL,
    comments bigint NOT NULL,
    shares bigint NOT NULL,
    stars bigint NOT NULL,
    views bigint NOT NULL,
    source text NOT NULL,
    external_id text NOT NULL,
    kind text NOT NULL,
    title text NOT NULL,
    body text NOT NULL,
    url text,
    author text,
    publisher text,
    lang text,
    tags text[] NOT NULL,
    category text,
    published_at timestamptz NOT NULL,
    text_hash text NOT NULL,
    model text NOT NULL,
    vector {v}.halfvec({d}),
    PRIMARY KEY (first_seen, item_id)
) PARTITION BY RANGE (first_seen);
CREATE TABLE {g}.items_default PARTITION OF {g}.items DEFAULT;
CREATE INDEX items_item_id ON {g}.items (item_id);
CREATE INDEX items_topic ON {g}.items (topic_id);
CREATE INDEX items_trend ON {g}.items (trend_id, first_seen);
-- An expression, not a stored column: an engagement update then neither computes it anew nor touches the index.
CREATE FUNCTION {g}.item_text(lang text, title text, body text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN coalesce(lang, 'en') LIKE 'en%'
        THEN setweight(to_tsvector('pg_catalog.english', title), 'A')
            || setweight(to_tsvector('pg_catalog.english', body), 'C')
        ELSE setweight(to_tsvector('pg_catalog.simple', title), 'A')
            || setweight(to_tsvector('pg_catalog.simple', body), 'C')
    END $$;
CREATE INDEX items_text ON {g}.items USING gin ({g}.item_text(lang, title, body));

-- mentions: every item of a trend, on that trend's shard. Whether it counts (not deleted) has a version of its own:
-- an engagement update leaves it as it is.
CREATE TABLE {g}.mentions (
    first_seen timestamptz NOT NULL,
    trend_id text NOT NULL,
    item_id text NOT NULL,
    bucket smallint NOT NULL,
    version bigint NOT NULL,
    present_version bigint NOT NULL,
    present boolean NOT NULL,
    topic_id text NOT NULL,
    home boolean NOT NULL,
    event_time timestamptz NOT NULL,
    publisher text,
    source text NOT NULL,
    echo boolean NOT NULL,
    PRIMARY KEY (first_seen, trend_id, item_id)
) PARTITION BY RANGE (first_seen);
CREATE TABLE {g}.mentions_default PARTITION OF {g}.mentions DEFAULT;
CREATE INDEX mentions_trend ON {g}.mentions (trend_id, first_seen);

-- trends: how each stands now. trend_scores: how it stood in each slice.
CREATE TABLE {g}.trends (
    trend_id text PRIMARY KEY,
    bucket smallint NOT NULL,
    version bigint NOT NULL,
    slice_start timestamptz NOT NULL,
    slice_s integer NOT NULL,
    counts integer[] NOT NULL,
    slices integer NOT NULL,
    items bigint NOT NULL,
    total bigint NOT NULL,
    publishers bigint NOT NULL,
    sources jsonb NOT NULL,
    expected double precision NOT NULL,
    burst double precision NOT NULL,
    velocity double precision NOT NULL,
    points bigint NOT NULL,
    comments bigint NOT NULL,
    shares bigint NOT NULL,
    stars bigint NOT NULL,
    views bigint NOT NULL,
    spread double precision NOT NULL,
    rank double precision,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL
) WITH (fillfactor = 80);
COMMENT ON COLUMN {g}.trends.counts IS
    'Items in the last slices, oldest first, without leading zeros; slices says how many there were with them.';
CREATE INDEX trends_rank ON {g}.trends (rank DESC NULLS LAST);
CREATE INDEX trends_last_seen ON {g}.trends (last_seen);

CREATE TABLE {g}.trend_scores (
    slice_start timestamptz NOT NULL,
    trend_id text NOT NULL,
    bucket smallint NOT NULL,
    version bigint NOT NULL,
    slice_s integer NOT NULL,
    counts integer[] NOT NULL,
    slices integer NOT NULL,
    items bigint NOT NULL,
    total bigint NOT NULL,
    publishers bigint NOT NULL,
    sources jsonb NOT NULL,
    expected double precision NOT NULL,
    burst double precision NOT NULL,
    velocity double precision NOT NULL,
    points bigint NOT NULL,
    comments bigint NOT NULL,
    shares bigint NOT NULL,
    stars bigint NOT NULL,
    views bigint NOT NULL,
    spread double precision NOT NULL,
    rank double precision,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL,
    PRIMARY KEY (slice_start, trend_id)
) PARTITION BY RANGE (slice_start);
CREATE TABLE {g}.trend_scores_default PARTITION OF {g}.trend_scores DEFAULT;
CREATE INDEX trend_scores_trend ON {g}.trend_scores (trend_id, slice_start);

-- topics: on the shard of the founding item's home trend.
CREATE TABLE {g}.topics (
    topic_id text PRIMARY KEY,
    bucket smallint NOT NULL,
    version bigint NOT NULL,
    trend_id text NOT NULL,
    life text NOT NULL,
    merged_into text,
    size bigint NOT NULL,
    publishers bigint NOT NULL,
    sources jsonb NOT NULL,
    trends jsonb NOT NULL,
    terms jsonb NOT NULL,
    leading_items jsonb NOT NULL,
    items bigint NOT NULL,
    echoes bigint NOT NULL,
    points bigint NOT NULL,
    comments bigint NOT NULL,
    shares bigint NOT NULL,
    stars bigint NOT NULL,
    views bigint NOT NULL,
    rank double precision,
    model text NOT NULL,
    first_seen timestamptz NOT NULL,
    last_seen timestamptz NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX topics_trend ON {g}.topics (trend_id, rank DESC NULLS LAST);
CREATE INDEX topics_merged_into ON {g}.topics (merged_into) WHERE merged_into IS NOT NULL;

-- topic_vectors: apart from topics, because a change in an HNSW index costs about a millisecond, and every change of a
-- row counts as one. It follows a topic in steps of its size (see rows.py); a merged topic has none. Three of four
-- topics stay at one item: those stand outside the index, and the newest of them are compared one by one.
CREATE TABLE {g}.topic_vectors (
    topic_id text PRIMARY KEY,
    bucket smallint NOT NULL,
    version bigint NOT NULL,
    step smallint NOT NULL,
    centroid {v}.halfvec({d})
);
CREATE INDEX topic_vectors_hnsw ON {g}.topic_vectors
    USING hnsw (centroid {v}.halfvec_cosine_ops) WITH (m = 12, ef_construction = 48) WHERE step >= 2;
CREATE INDEX topic_vectors_single ON {g}.topic_vectors (version) WHERE step < 2;

-- topic_summaries: the newest (version, attempt), where version is the topic's that was summarised.
CREATE TABLE {g}.topic_summaries (
    topic_id text PRIMARY KEY,
    bucket smallint NOT NULL,
    version bigint NOT NULL,
    attempt bigint NOT NULL,
    trend_id text NOT NULL,
    headline text NOT NULL,
    summary text NOT NULL,
    keywords text[] NOT NULL,
    method text NOT NULL,
    model text NOT NULL,
    cached boolean NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE FUNCTION {g}.summary_text(headline text, summary text, keywords text[]) RETURNS tsvector
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT setweight(to_tsvector('pg_catalog.english', headline), 'A')
        || setweight(to_tsvector('pg_catalog.english', array_to_string(keywords, ' ')), 'B')
        || setweight(to_tsvector('pg_catalog.english', summary), 'C') $$;
CREATE INDEX topic_summaries_text ON {g}.topic_summaries
    USING gin ({g}.summary_text(headline, summary, keywords));
