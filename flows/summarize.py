"""summarize: topics that have doubled or changed their leading items → what they say. Scales by processes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from typing import Final

from msgspec.structs import replace

from flows.guard import Decoded
from flows.runtime import LOCAL_MODEL_S, Wired, outbox, pipeline
from models.summaries import Summarised, Summariser, SummarizeEngine, home_of
from streams import metrics
from streams.dead_letters import Received, apart, misplaced, now_utc
from streams.forgotten import ForgottenFollower
from streams.io import Outbox
from streams.producer import CatalogFollower
from streams.records import TopicUpdate, TrendDefinition
from streams.session import Session
from streams.spec import FlowSpec
from streams.table import SUMMARIES, SUMMARIZE_STATE, UPDATES

MAX_CATEGORY_CHARS: Final = 100

SPEC = FlowSpec(
    "summarize",
    (UPDATES,),
    SUMMARIZE_STATE,
    ordered=False,
    trend_of=lambda update: update.trend_id,
    state_trend_of=home_of,
)


class SummarizeStep:
    """Topic updates to summaries. State keys are topic ids, placed as their topics are: by the home trend.

    The engine works on a thread of its own, where it may wait for a model; this one stays a member of its group in good
    standing meanwhile, and no transaction is open.
    """

    def __init__(self, session: Session, summariser: Summariser, forgotten: ForgottenFollower) -> None:
        self._categories: dict[str, str] = {}
        self._catalogue = CatalogFollower(session.kafka, session.generation, self._define)
        self._forgotten = forgotten
        self._seen = 0
        self._gone: set[str] = set()
        """Items of which nothing is kept any more."""
        self._address = session.address
        self._session = session
        self._summariser = summariser
        self.engine = SummarizeEngine(summariser, now_utc, categories=self._categories)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="summarize")

    def __call__(self, decoded: Decoded[TopicUpdate]) -> Outbox:
        out = outbox(decoded, self._address)
        self._catalogue.poll()
        good, letters = apart(decoded.oks, SPEC.name, self._fault)
        out.records.extend(self._address.dead_letters(letters))
        updates = self._without_forgotten([r.record for r in good])
        if not updates and not self.engine.waiting():
            return out
        summarised = self._applied(updates)
        out.records.extend(self._address.record(SUMMARIES, s, s.topic_id, s.trend_id) for s in summarised.summaries)
        for key, value in summarised.state:
            place = self._session.place(summarised.homes[key])
            out.records.append(self._address.state(SUMMARIZE_STATE, place, key, value))
        metrics.SUMMARIES_OWED.set(self.engine.owed)
        return out

    def catch_up(self) -> None:
        """Reads what steers it to the present end.

        Raises:
            UnavailableError: the broker does not answer, or a stream does not exist (`trends streams apply`).
        """
        self.engine.finish_restore()
        self._forgotten.catch_up()
        self._catalogue.catch_up()

    def close(self) -> None:
        """Ends what is under way; the engine is of no use any more."""
        self._catalogue.close()
        self._summariser.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _define(self, definition: TrendDefinition) -> None:
        """Retired subjects keep their category: their items are still there."""
        if definition.category:
            self._categories[definition.trend_id] = definition.category[:MAX_CATEGORY_CHARS]
        else:
            self._categories.pop(definition.trend_id, None)

    def _applied(self, updates: list[TopicUpdate]) -> Summarised:
        begun = self._thread.submit(self.engine.apply, updates, self._forgotten.now.hashed)
        self._session.wait_outside(
            lambda timeout_s: bool(wait([begun], timeout_s).done), lambda: "the summaries' model"
        )
        return begun.result()

    def _without_forgotten(self, updates: list[TopicUpdate]) -> list[TopicUpdate]:
        """Leading items that are to be forgotten are not spoken of; and what was said of them is not kept."""
        forgotten = self._forgotten.poll()
        if forgotten.version != self._seen:
            items = {request.item_id for request in forgotten.requests if request.item_id}
            self._summariser.forget(sorted(items - self._gone))
            self._seen, self._gone = forgotten.version, items
        kept = [(update, forgotten.leading(update)) for update in updates]
        self._forgotten.count(sum(leading is not None for _, leading in kept))
        return [update if leading is None else replace(update, items=leading) for update, leading in kept]

    def _fault(self, received: Received[TopicUpdate]) -> str | None:
        return misplaced(received.record.trend_id, received.message.partition(), self._session.kafka.partitions)


def wire(session: Session, summariser: Summariser) -> Wired:
    """read topics.updates → decode → summarize → topics.summaries, summarize.state."""
    forgotten = ForgottenFollower(session.kafka, SPEC.name)
    step = SummarizeStep(session, summariser, forgotten)

    def restored() -> None:
        step.catch_up()
        session.due = step.engine.waiting

    def close() -> None:
        session.due = lambda: False
        step.close()
        forgotten.close()

    return Wired(pipeline(session, step, bound_s=LOCAL_MODEL_S), step.engine.restore, before_run=restored, close=close)
