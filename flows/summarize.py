"""summarize: topics that have doubled or changed their leading items → what they say. Scales by processes."""

from __future__ import annotations

from msgspec.structs import replace

from flows.guard import Decoded
from flows.runtime import LOCAL_MODEL_S, Wired, outbox, pipeline
from models.summaries import SummarizeEngine, home_of
from streams.dead_letters import Received, apart, misplaced
from streams.forgotten import ForgottenFollower
from streams.io import Outbox
from streams.records import TopicUpdate
from streams.session import Session
from streams.spec import FlowSpec
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

    def __init__(self, session: Session, engine: SummarizeEngine, forgotten: ForgottenFollower) -> None:
        self._forgotten = forgotten
        self._seen = 0
        self._address = session.address
        self._session = session
        self._engine = engine

    def __call__(self, decoded: Decoded[TopicUpdate]) -> Outbox:
        out = outbox(decoded, self._address)
        good, letters = apart(decoded.oks, SPEC.name, self._fault)
        out.records.extend(self._address.dead_letters(letters))
        summarised = self._engine.apply(self._without_forgotten([r.record for r in good]), self._forgotten.now.hashed)
        out.records.extend(self._address.record(SUMMARIES, s, s.topic_id, s.trend_id) for s in summarised.summaries)
        for key, value in summarised.state:
            place = self._session.place(summarised.homes[key])
            out.records.append(self._address.state(SUMMARIZE_STATE, place, key, value))
        return out

    def _without_forgotten(self, updates: list[TopicUpdate]) -> list[TopicUpdate]:
        """Leading items that are to be forgotten are not spoken of; and what was said of them is not kept."""
        forgotten = self._forgotten.poll()
        if forgotten.version != self._seen:
            self._seen = forgotten.version
            self._engine.forget()
        kept = [(update, forgotten.leading(update)) for update in updates]
        self._forgotten.count(sum(leading is not None for _, leading in kept))
        return [update if leading is None else replace(update, items=leading) for update, leading in kept]

    def _fault(self, received: Received[TopicUpdate]) -> str | None:
        return misplaced(received.record.trend_id, received.message.partition(), self._session.kafka.partitions)


def wire(session: Session, engine: SummarizeEngine) -> Wired:
    """read topics.updates → decode → summarize → topics.summaries, summarize.state."""
    forgotten = ForgottenFollower(session.kafka, SPEC.name)

    def restored() -> None:
        engine.finish_restore()
        forgotten.catch_up()

    step = SummarizeStep(session, engine, forgotten)
    return Wired(
        pipeline(session, step, bound_s=LOCAL_MODEL_S), engine.restore, before_run=restored, close=forgotten.close
    )
