"""The found topics of a synthetic world against the true ones: router, embedder and engine as they are deployed.

Left out is what moves records between them; the end-to-end test has that.
"""

from __future__ import annotations

from connectors.base import routing
from connectors.synthetic import SyntheticOptions, World
from models.clustering import ClusterConfig
from models.embed_step import EmbedEngine
from models.embedding import create
from models.engine import ClusterEngine
from models.quality import Agreement, agreement
from models.routing import Router

FLOOR = 0.88
"""BCubed F1; .95 is usual."""
CHUNK = 256


def found_in(world: World) -> Agreement:
    """How well the topics agree with the truth, merges followed."""
    route = routing(Router())
    embed, cluster = EmbedEngine(create("onnx", threads=1)), ClusterEngine(ClusterConfig(), "g1")
    observations = [seen.routed(route(seen)) for seen in world]
    topic: dict[str, str] = {}
    merged: dict[str, str] = {}
    for begin in range(0, len(observations), CHUNK):
        decided = cluster.apply(embed.apply(observations[begin : begin + CHUNK]))
        topic.update((each.item.external_id, each.topic_id) for each in decided.enriched)
        merged.update((each.topic_id, each.merged_into) for each in decided.updates if each.merged_into)

    def final(topic_id: str) -> str:
        while topic_id in merged:
            topic_id = merged[topic_id]
        return topic_id

    assert topic.keys() == world.truth.keys()
    return agreement([final(topic[i]) for i in topic], [world.truth[i].topic for i in topic])


def test_the_stories_of_a_small_world_are_found() -> None:
    found = found_in(World(SyntheticOptions(items=1_200)))
    assert found.f1 >= FLOOR, found
    assert found.f1 < 0.995, "the world tells its truth"
