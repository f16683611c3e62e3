"""Topics and echoes found in a synthetic world against the true ones: router, embedder and engine as deployed.

Left out is what moves records between them; the end-to-end test has that.
"""

from __future__ import annotations

from benchmarks.echoes import agreement, echoes, synthetic_copies
from benchmarks.trends import of_world
from connectors.synthetic import COPIES, SyntheticOptions, World
from models.embedding import EmbeddingCache, create
from models.quality import Agreement
from streams.ids import item_id_of
from trends.evaluation import alone

FLOOR = 0.88
"""BCubed F1; .95 is usual."""
ECHO_FLOOR = 0.95
"""F1; .99 is usual."""
CACHE = EmbeddingCache()
"""Both tests look at the same items."""


def found_in(world: World) -> Agreement:
    """How well the topics agree with the truth, merges followed."""
    sightings = list(world)
    placed = alone(sightings, create("onnx", threads=1), CACHE)
    labels = {item_id_of(s.source, s.external_id): world.truth[s.external_id].topic for s in sightings}
    assert placed.topics.keys() == labels.keys()
    return placed.agreements(labels)[1]


def test_the_stories_of_a_small_world_are_found() -> None:
    found = found_in(World(SyntheticOptions(items=1_200)))
    assert found.f1 >= FLOOR, found
    assert found.f1 < 0.995, "the world tells its truth"


def test_bursts_have_a_story_behind_them_and_stories_burst() -> None:
    rows = {row.name: row.values for row in of_world(World(SyntheticOptions(items=700)), lambda _: None).rows}
    assert rows["trends"]["precision"] >= 0.9, rows
    assert rows["topics"]["precision"] >= 0.95, rows
    assert rows["either"]["recall"] >= 0.9, rows
    assert rows["either"]["h after the fifth"] <= 1.0, rows
    assert rows["either"]["h before the peak"] > 0.0, rows


def test_copies_in_a_small_world_are_found_and_laid_to_their_originals() -> None:
    copies = synthetic_copies(1_200, 1)
    every, *kinds = agreement(echoes(copies.sightings, create("onnx", threads=1), CACHE), copies)
    assert every.values["F1"] >= ECHO_FLOOR, every
    assert every.values["right original"] >= ECHO_FLOOR
    assert {kind.name for kind in kinds} == set(COPIES)
    assert all(kind.values["recall"] >= 0.8 for kind in kinds), kinds
