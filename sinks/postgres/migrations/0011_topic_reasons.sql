-- scope: generation
-- Why a topic takes no more items: what it was alike to and by how much, or how long nothing came.

ALTER TABLE {g}.topics ADD COLUMN reason text;
