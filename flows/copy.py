"""copy: the vectors of one generation into another of the same model, in the order in which they arrived."""

from __future__ import annotations

from flows.guard import Decoded
from flows.runtime import Wired, outbox, pipeline
from flows.since import Since
from streams.dead_letters import count_letters, letter_of
from streams.forgotten import ForgottenFollower
from streams.io import Outbox
from streams.records import EmbeddedItem, Reason
from streams.session import Session
from streams.spec import FlowSpec
from streams.table import EMBEDDED, of_generation


def spec_of(source: str) -> FlowSpec:
    """The specification of a copy out of the generation ``source``."""
    return FlowSpec("copy", (of_generation(EMBEDDED, source),))


class CopyStep:
    """Embedded items as they are, without those that are to be forgotten.

    One of another model is a dead letter: two models' vectors must not meet.
    """

    def __init__(self, session: Session, dimensions: int, forgotten: ForgottenFollower, since: Since | None) -> None:
        self._address = session.address
        self._forgotten = forgotten
        self._dimensions = dimensions
        self._since = since
        self._flow = session.spec.name

    def __call__(self, decoded: Decoded[EmbeddedItem]) -> Outbox:
        out = outbox(decoded, self._address)
        for received in self._forgotten.without_denied(decoded.oks):
            record = received.record
            if self._since is not None and not self._since.keeps(record.item, received.message):
                continue
            if record.dimensions == self._dimensions:
                out.records.append(self._address.record(EMBEDDED, record, record.item.trend_id))
                continue
            why = f"a vector of {record.dimensions} dimensions, this generation has {self._dimensions}"
            letter = letter_of(received.message, Reason.INVALID_VALUE, why, self._flow)
            count_letters([letter])
            out.records.extend(self._address.dead_letters([letter]))
        return out


def wire(session: Session, dimensions: int, since: Since | None = None) -> Wired:
    """read another generation's items.embedded → decode → items.embedded."""
    forgotten = ForgottenFollower(session.kafka, session.spec.name)
    step = CopyStep(session, dimensions, forgotten, since)
    return Wired(pipeline(session, step, stateless=True), before_run=forgotten.catch_up, close=forgotten.close)
