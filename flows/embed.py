"""embed: observations of all sources → items with vectors. Stateless; scales by processes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

from flows.guard import Decoded
from flows.runtime import LOCAL_MODEL_S, Wired, outbox, pipeline
from flows.since import Since
from models.budget import BudgetSpentError
from models.embed_step import EmbedEngine, check
from streams import metrics
from streams.codec import RecordError
from streams.dead_letters import Received, count_letters, letter_of, logged_at, now_utc
from streams.forgotten import ForgottenFollower
from streams.io import Outbox
from streams.records import DeadLetter, EmbeddedItem, Observation
from streams.session import Session
from streams.spec import FlowSpec
from streams.table import EMBEDDED, HISTORY, RAW

SPEC = FlowSpec("embed", RAW)
HISTORY_SPEC = FlowSpec("history", (HISTORY,))
"""The same for items that the raw streams no longer hold; runs while a generation is built."""


class EmbedStep:
    """Valid observations to embedded items, without those that are to be forgotten."""

    def __init__(
        self, session: Session, engine: EmbedEngine, forgotten: ForgottenFollower, since: Since | None = None
    ) -> None:
        self._session = session
        self._address = session.address
        self._engine = engine
        self._forgotten = forgotten
        self._since = since
        self._flow = session.spec.name

    def __call__(self, decoded: Decoded[Observation]) -> Outbox:
        out = outbox(decoded, self._address)
        good, letters = _check_identity(self._forgotten.without_denied(decoded.oks), self._flow)
        if self._since is not None:
            good = [r for r in good if self._since.keeps(r.record, r.message)]
        items = self._embedded(good) if good else []
        count_letters(letters)
        out.records.extend(self._address.dead_letters(letters))
        out.records.extend(self._address.record(EMBEDDED, item, item.item.trend_id) for item in items)
        return out

    def _embedded(self, good: Sequence[Received[Observation]]) -> list[EmbeddedItem]:
        """Where the day's tokens are spent the items wait, uncommitted, for the next day: nothing is lost or passed on
        without a vector, and the process says what it waits for."""
        while True:
            try:
                return self._engine.apply([r.record for r in good], [logged_at(r.message) for r in good])
            except BudgetSpentError as spent:
                self._wait(spent)

    def _wait(self, spent: BudgetSpentError) -> None:
        metrics.EMBEDDING_WAITS.set(1)
        self._session.wait_outside(lambda timeout_s: _reached(spent.until, timeout_s), lambda: str(spent))
        metrics.EMBEDDING_WAITS.set(0)


def _reached(when: datetime, timeout_s: float) -> bool:
    """Whether it is then, after at most so many seconds."""
    left_s = (when - now_utc()).total_seconds()
    time.sleep(max(0.0, min(timeout_s, left_s)))
    return left_s <= timeout_s


def _check_identity(
    oks: Sequence[Received[Observation]], flow: str
) -> tuple[list[Received[Observation]], list[DeadLetter]]:
    """Good and bad apart: an observation must be what its id claims."""
    good, letters = [], []
    for received in oks:
        try:
            check(received.record)
        except RecordError as error:
            letters.append(letter_of(received.message, error.reason, str(error), flow))
        else:
            good.append(received)
    return good, letters


def wire(session: Session, engine: EmbedEngine, bound_s: float = LOCAL_MODEL_S, since: Since | None = None) -> Wired:
    """read raw streams → decode → embed → items.embedded.

    Args:
        bound_s: what one batch may take, at most.
        since: the generation leaves out what is older.
    """
    forgotten = ForgottenFollower(session.kafka, session.spec.name)
    step = EmbedStep(session, engine, forgotten, since)

    def close() -> None:
        forgotten.close()
        engine.close()

    return Wired(pipeline(session, step, stateless=True, bound_s=bound_s), before_run=forgotten.catch_up, close=close)
