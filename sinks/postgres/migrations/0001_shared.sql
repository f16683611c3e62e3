-- scope: shared
-- What stands once on every shard, for all generations.

CREATE TABLE {s}.shard (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    shard integer NOT NULL CHECK (shard >= 0)
);
COMMENT ON TABLE {s}.shard IS 'Which shard this database is: refuses a list of DSNs in another order.';

CREATE TABLE {s}.bucket_map (
    version bigint PRIMARY KEY,
    shards smallint[] NOT NULL CHECK (array_length(shards, 1) = 1024 AND array_position(shards, NULL) IS NULL),
    made_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE {s}.bucket_map IS
    'Element b + 1 is the shard of bucket b. The highest version holds; every shard has the same copy.';

CREATE TABLE {s}.generations (
    generation text PRIMARY KEY,
    dimensions integer NOT NULL CHECK (dimensions BETWEEN 1 AND 4000),
    made_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE {s}.catalogue (
    trend_id text PRIMARY KEY,
    bucket smallint NOT NULL CHECK (bucket BETWEEN 0 AND 1023),
    version bigint NOT NULL,
    title text NOT NULL,
    keywords text[] NOT NULL,
    exclude text[] NOT NULL,
    langs text[] NOT NULL,
    category text,
    status text NOT NULL,
    updated_at timestamptz NOT NULL
);
COMMENT ON TABLE {s}.catalogue IS 'Tracked subjects, each on the shard of its trend.';

-- A partition of one month, made when its first row is about to arrive. Rows of that month that the default partition
-- has taken in meanwhile move over in the same transaction. Returns whether there was anything to make.
CREATE FUNCTION {s}.make_partition(parent regclass, month date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    schema_name text;
    table_name text;
    column_name text;
    child text;
    from_time timestamptz := month::timestamp AT TIME ZONE 'UTC';
    to_time timestamptz := (month + interval '1 month') AT TIME ZONE 'UTC';
BEGIN
    SELECT n.nspname, c.relname, a.attname INTO STRICT schema_name, table_name, column_name
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_partitioned_table p ON p.partrelid = c.oid
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
    WHERE c.oid = parent;
    child := format('%s_%s', table_name, to_char(month, 'YYYY_MM'));
    IF to_regclass(format('%I.%I', schema_name, child)) IS NOT NULL THEN
        RETURN false;
    END IF;
    -- LIKE and ATTACH, not PARTITION OF: readers and writers of the other months go on meanwhile.
    -- A tenth is left free, so that an updated row finds room on its own page.
    EXECUTE format('CREATE TABLE %I.%I (LIKE %s INCLUDING ALL) WITH (fillfactor = 90)', schema_name, child, parent);
    EXECUTE format('LOCK TABLE %I.%I IN ACCESS EXCLUSIVE MODE', schema_name, table_name || '_default');
    EXECUTE format(
        'WITH moved AS (DELETE FROM %1$I.%2$I WHERE %3$I >= $1 AND %3$I < $2 RETURNING *) '
        'INSERT INTO %1$I.%4$I SELECT * FROM moved',
        schema_name, table_name || '_default', column_name, child
    ) USING from_time, to_time;
    EXECUTE format(
        'ALTER TABLE %s ATTACH PARTITION %I.%I FOR VALUES FROM (%L) TO (%L)',
        parent, schema_name, child, from_time, to_time
    );
    RETURN true;
END $$;
