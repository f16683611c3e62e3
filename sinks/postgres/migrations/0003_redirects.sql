-- scope: shared
-- Where the topics of a generation went when another took its place: an old id leads to the topic that most of its
-- items are in now. On the shard on which the old topic stood; it outlives the old generation's schema.

CREATE TABLE {s}.redirects (
    topic_id text NOT NULL,
    new_generation text NOT NULL,
    generation text NOT NULL,
    bucket smallint NOT NULL,
    new_topic_id text NOT NULL,
    items bigint NOT NULL,
    of_items bigint NOT NULL,
    made_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic_id, new_generation)
);
CREATE INDEX redirects_generation ON {s}.redirects (new_generation, generation);
COMMENT ON COLUMN {s}.redirects.items IS 'Items of the old topic that are in the new one, of of_items that both generations have.';
