-- scope: shared
-- A trend that is another name of one: readers show both as one, and nothing that is stored changes.

ALTER TABLE {s}.catalogue ADD COLUMN alias_of text, ADD COLUMN alias_reason text;
COMMENT ON COLUMN {s}.catalogue.alias_of IS 'The trend that this one is shown as; null: it stands by itself.';
CREATE INDEX catalogue_alias_of ON {s}.catalogue (alias_of) WHERE alias_of IS NOT NULL;
