"""cluster: where all items meet. One process decides, others stand by; the log is its state."""

from __future__ import annotations

from flows.guard import Decoded
from flows.runtime import Wired, outbox, pipeline
from models.engine import ClusterEngine
from models.state import STATE_VERSION
from streams import metrics
from streams.dead_letters import count_letters, letter_of
from streams.feedback import FeedbackFollower
from streams.forgotten import ForgottenFollower
from streams.io import Outbox
from streams.keys import murmur2
from streams.records import EmbeddedItem, Life, Reason
from streams.session import Session
from streams.spec import FlowSpec
from streams.state import InBatches
from streams.table import CLUSTER_ROLE, CLUSTER_STATE, EMBEDDED, ENRICHED, MENTIONS, UPDATES

SPEC = FlowSpec("cluster", (EMBEDDED,), CLUSTER_STATE, CLUSTER_ROLE, state_version=STATE_VERSION)


def state_partition(key: bytes, partitions: int) -> int:
    """Where a state record stands; all partitions are read together, so only the load is spread."""
    return murmur2(key) % partitions


class ClusterStep:
    """Embedded items to decisions about them, and the state that they leave behind."""

    def __init__(
        self, session: Session, engine: ClusterEngine, forgotten: ForgottenFollower, feedback: FeedbackFollower
    ) -> None:
        self._forgotten = forgotten
        self._feedback = feedback
        self._address = session.address
        self._engine = engine
        self._state_partitions = CLUSTER_STATE.count(session.kafka)

    def __call__(self, decoded: Decoded[EmbeddedItem]) -> Outbox:
        out = outbox(decoded, self._address)
        address, records = self._address, out.records
        self._feedback.poll()
        decisions = self._engine.apply([r.record for r in self._forgotten.without_denied(decoded.oks)])
        records.extend(address.record(ENRICHED, item, item.trend_id) for item in decisions.enriched)
        records.extend(address.record(MENTIONS, mention, mention.trend_id) for mention in decisions.mentions)
        records.extend(address.record(UPDATES, topic, topic.topic_id, topic.trend_id) for topic in decisions.updates)
        for key, value in decisions.state:
            partition = state_partition(key, self._state_partitions)
            records.append(address.state(CLUSTER_STATE, partition, key, value))
        if decisions.failed:
            why = {id(item): error for item, error in decisions.failed}
            letters = [
                letter_of(r.message, Reason.INVALID_VALUE, why[id(r.record)], SPEC.name)
                for r in decoded.oks
                if id(r.record) in why
            ]
            count_letters(letters)
            records.extend(address.dead_letters(letters))
        _tell_size(self._engine)
        metrics.MERGED_TOPICS.inc(sum(topic.life is Life.MERGED for topic in decisions.updates))
        return out


def _tell_size(engine: ClusterEngine) -> None:
    metrics.ACTIVE_TOPICS.set(engine.active_topics)
    metrics.INDEXED_ITEMS.set(engine.indexed_items)


def wire(session: Session, engine: ClusterEngine) -> Wired:
    """read items.embedded → decode → cluster → items.enriched, trends.mentions, topics.updates, cluster.state."""
    forgotten = ForgottenFollower(session.kafka, SPEC.name)
    feedback = FeedbackFollower(session.kafka, engine.obey)
    step = ClusterStep(session, engine, forgotten, feedback)

    def restored() -> None:
        forgotten.catch_up()
        feedback.catch_up()
        engine.finish_restore()
        _tell_size(engine)

    def close() -> None:
        forgotten.close()
        feedback.close()

    flow = pipeline(session, step)
    return Wired(flow, InBatches(engine.restore), before_run=restored, close=close)
