"""summarize: topics that have doubled or changed their leading items → what they say. Scales by processes."""

from __future__ import annotations

from flows.guard import Decoded
from flows.runtime import LOCAL_MODEL_S, Wired, outbox, pipeline
from models.summaries import SummarizeEngine, home_of
from streams.dead_letters import Received, apart, misplaced
from streams.io import Outbox
from streams.records import TopicUpdate
from streams.session import FlowSpec, Session
from streams.table import SUMMARIES, SUMMARIZE_STATE, UPDATES

SPEC = FlowSpec(
    "summarize",
    (UPDATES,),
    SUMMARIZE_STATE,
    ordered=False,
    trend_of=lambda update: update.trend_id,
    state_trend_of=home_of,
)


class SummarizeStep:
    """Topic updates to summaries. State keys are topic ids, placed as their topics are: by the home trend."""

    def __init__(self, session: Session, engine: SummarizeEngine) -> None:
        self._address = session.address
        self._session = session
        self._engine = engine

    def __call__(self, decoded: Decoded[TopicUpdate]) -> Outbox:
        out = outbox(decoded, self._address)
        good, letters = apart(decoded.oks, SPEC.name, self._fault)
        out.records.extend(self._address.dead_letters(letters))
        summarised = self._engine.apply([r.record for r in good])
        out.records.extend(self._address.record(SUMMARIES, s, s.topic_id, s.trend_id) for s in summarised.summaries)
        for key, value in summarised.state:
            place = self._session.place(summarised.homes[key])
            out.records.append(self._address.state(SUMMARIZE_STATE, place, key, value))
        return out

    def _fault(self, received: Received[TopicUpdate]) -> str | None:
        return misplaced(received.record.trend_id, received.message.partition(), self._session.kafka.partitions)


def wire(session: Session, engine: SummarizeEngine) -> Wired:
    """read topics.updates → decode → summarize → topics.summaries, summarize.state."""
    return Wired(
        pipeline(session, SummarizeStep(session, engine), bound_s=LOCAL_MODEL_S),
        engine.restore,
        before_run=engine.finish_restore,
    )
