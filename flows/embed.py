"""embed: observations of all sources → items with vectors. Stateless; scales by processes."""

from __future__ import annotations

from collections.abc import Sequence

from flows.runtime import Decoded, Wired, outbox, pipeline
from models.embed_step import EmbedEngine, check
from streams.codec import RecordError
from streams.dead_letters import FailureLimit, Received, count_letters, letter_of
from streams.errors import TrendsError
from streams.io import Outbox
from streams.records import DeadLetter, EmbeddedItem, Observation, Reason
from streams.session import FlowSpec, Session
from streams.table import EMBEDDED, RAW

SPEC = FlowSpec("embed", RAW)


class EmbedStep:
    """Valid observations to embedded items; what our own code fails on goes to dead letters, up to a limit."""

    def __init__(self, session: Session, engine: EmbedEngine) -> None:
        self._address = session.address
        self._engine = engine
        self._limit = FailureLimit()

    def __call__(self, decoded: Decoded[Observation]) -> Outbox:
        out = outbox(decoded, self._address)
        good, letters = _check_identity(decoded.oks)
        items, failed = self._embed(good)
        letters += failed
        count_letters(letters)
        out.records.extend(self._address.dead_letters(letters))
        out.records.extend(self._address.record(EMBEDDED, item, item.item.trend_id) for item in items)
        return out

    def _embed(self, received: Sequence[Received[Observation]]) -> tuple[list[EmbeddedItem], list[DeadLetter]]:
        """The whole batch at once; where that fails, each half by itself, down to the record that is to blame."""
        if not received:
            return [], []
        try:
            items = self._engine.apply([r.record for r in received])
        except TrendsError:  # the model cannot be reached: no fault of a record
            raise
        except Exception as error:
            if len(received) > 1:
                half = len(received) // 2
                left, right = self._embed(received[:half]), self._embed(received[half:])
                return left[0] + right[0], left[1] + right[1]
            message = received[0].message
            self._limit.note((message.topic(), message.partition()), failed=True)
            return [], [letter_of(message, Reason.OUR_FAILURE, f"{type(error).__name__}: {error}", SPEC.name)]
        for r in received:
            self._limit.note((r.message.topic(), r.message.partition()), failed=False)
        return items, []


def _check_identity(
    oks: Sequence[Received[Observation]],
) -> tuple[list[Received[Observation]], list[DeadLetter]]:
    """Good and bad apart: an observation must be what its id claims."""
    good, letters = [], []
    for received in oks:
        try:
            check(received.record)
        except RecordError as error:
            letters.append(letter_of(received.message, error.reason, str(error), SPEC.name))
        else:
            good.append(received)
    return good, letters


def wire(session: Session, engine: EmbedEngine) -> Wired:
    """read raw streams → decode → embed → items.embedded."""
    return Wired(pipeline(session, EmbedStep(session, engine)), close=engine.close)
