"""score: mentions of a trend → how it stands against its own past. Scales by processes; state beside its partition."""

from __future__ import annotations

from flows.guard import Decoded
from flows.runtime import Wired, outbox, pipeline
from models.engine import AHEAD_OF_ARRIVAL
from models.scoring import STATE_VERSION, TrendScorer, trend_of_state
from streams import metrics
from streams.dead_letters import Received, apart, logged_at, misplaced
from streams.io import Outbox
from streams.outages import OutageFollower
from streams.records import Mention
from streams.session import Session
from streams.spec import FlowSpec
from streams.table import MENTIONS, SCORE_STATE, SCORES

SPEC = FlowSpec(
    "score",
    (MENTIONS,),
    SCORE_STATE,
    trend_of=lambda mention: mention.trend_id,
    state_version=STATE_VERSION,
    state_trend_of=lambda key, _: trend_of_state(key),
)


class ScoreStep:
    """Mentions to scores. State lies in the partition of its trend."""

    def __init__(self, session: Session, scorer: TrendScorer, outages: OutageFollower) -> None:
        self._outages = outages
        self._address = session.address
        self._session = session
        self._scorer = scorer

    def __call__(self, decoded: Decoded[Mention]) -> Outbox:
        out = outbox(decoded, self._address)
        good, letters = apart(decoded.oks, SPEC.name, self._fault)
        out.records.extend(self._address.dead_letters(letters))
        self._outages.poll()
        scored = self._scorer.apply([r.record for r in good])
        out.records.extend(self._address.record(SCORES, score, score.trend_id) for score in scored.scores)
        for key, value in scored.state:
            place = self._session.place(trend_of_state(key))
            out.records.append(self._address.state(SCORE_STATE, place, key, value))
        metrics.ACTIVE_TRENDS.set(len(self._scorer))
        return out

    def _fault(self, received: Received[Mention]) -> str | None:
        mention, message = received.record, received.message
        arrived = logged_at(message)
        if arrived is not None and mention.first_seen > arrived + 2 * AHEAD_OF_ARRIVAL:
            return f"first_seen {mention.first_seen.isoformat()} lies after its arrival: nothing is seen before it is"
        return misplaced(mention.trend_id, message.partition(), self._session.kafka.partitions)


def wire(session: Session, scorer: TrendScorer) -> Wired:
    """read trends.mentions → decode → score (knowing sources.gaps) → trends.scores, score.state."""
    outages = OutageFollower(session.kafka, lambda gap: scorer.was_down(gap.source, gap.since, gap.until))

    def restored() -> None:
        outages.catch_up()
        scorer.finish_restore()

    step = ScoreStep(session, scorer, outages)
    return Wired(pipeline(session, step), scorer.restore, before_run=restored, close=outages.close)
