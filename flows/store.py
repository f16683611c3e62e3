"""store: everything that was decided → the shards. Stateless; an upsert that comes twice changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, wait
from typing import Any, TypeVar

from msgspec.structs import replace

from flows.guard import Decoded
from flows.runtime import Wired, outbox, pipeline
from sinks.postgres import PostgresConfig, RowKey, SyncWriter
from streams.dead_letters import Received, count_letters, letter_of
from streams.forgotten import FORGOTTEN_TAG, ForgottenFollower
from streams.io import Outbox
from streams.records import EnrichedItem, Feedback, Mention, Reason, Record, TopicUpdate
from streams.session import Session
from streams.spec import FlowSpec
from streams.table import CATALOG, ENRICHED, FEEDBACK, MENTIONS, SCORES, SUMMARIES, UPDATES

T = TypeVar("T")

SPEC = FlowSpec("store", (UPDATES, ENRICHED, MENTIONS, SUMMARIES, SCORES, CATALOG, FEEDBACK), ordered=False)


class StoreStep:
    """Writes a chunk to the shards before its offsets are committed: at least once, and idempotent."""

    def __init__(self, session: Session, writer: SyncWriter, forgotten: ForgottenFollower) -> None:
        self._session = session
        self._forgotten = forgotten
        self._address = session.address
        self._writer = writer

    def open(self) -> None:
        """Brings the shards' tables up to date; waits for shards that are away."""
        self._forgotten.catch_up()
        self._awaited(self._writer.begin_open())

    def __call__(self, decoded: Decoded[Record]) -> Outbox:
        out = outbox(decoded, self._address)
        if not decoded.oks:
            return out
        kept, gone = self._apart(decoded.oks)
        report = self._awaited(self._writer.begin([record for record, _ in kept]))
        if gone:
            self._awaited(self._writer.begin_forget(gone))
        if report.refused:
            why = {id(record): error for record, error in report.refused}
            letters = [
                letter_of(message, Reason.STORE_REFUSED, why[id(record)], SPEC.name)
                for record, message in kept
                if id(record) in why
            ]
            count_letters(letters)
            out.records.extend(self._address.dead_letters(letters))
        return out

    def _apart(self, oks: Sequence[Received[Record]]) -> tuple[list[tuple[Record, Any]], list[RowKey]]:
        """What is stored, and the rows of what is to be forgotten: these go, whatever is read again."""
        forgotten = self._forgotten.poll()
        kept: list[tuple[Record, Any]] = []
        gone: list[RowKey] = []
        cut = beside = 0
        for received in oks:
            record = received.record
            if isinstance(record, Feedback) and record.trend_id is None:
                beside += 1  # about items: cluster's affair
                continue
            if isinstance(record, EnrichedItem):
                item = record.item
                if forgotten.item(item.item_id) or FORGOTTEN_TAG in item.tags:
                    gone.extend(RowKey(record.first_seen, t, item.item_id) for t in (item.trend_id, *item.mentions))
                    continue
            elif isinstance(record, Mention):
                if forgotten.item(record.item_id):
                    gone.append(RowKey(record.first_seen, record.trend_id, record.item_id))
                    continue
            elif isinstance(record, TopicUpdate) and (leading := forgotten.leading(record)) is not None:
                record = replace(record, items=leading)
                cut += 1
            kept.append((record, received.message))
        self._forgotten.count(len(oks) - len(kept) - beside + cut)
        return kept, gone

    def _awaited(self, begun: Future[T]) -> T:
        """A shard that is away holds back the whole chunk, in which other shards' rows are stored already: one offset
        covers both. Memory stays what it is, since nothing more is read."""
        try:
            self._session.wait_outside(
                lambda timeout_s: bool(wait([begun], timeout_s).done), lambda: self._writer.waits_for or "PostgreSQL"
            )
        except BaseException:
            begun.cancel()
            raise
        return begun.result()


def wire(session: Session, config: PostgresConfig) -> Wired:
    """read everything derived → decode → upsert into the shards."""
    writer = SyncWriter(config, opened=False)
    forgotten = ForgottenFollower(session.kafka, SPEC.name)
    step = StoreStep(session, writer, forgotten)

    def close() -> None:
        forgotten.close()
        writer.close()

    return Wired(pipeline(session, step, stateless=True), before_run=step.open, close=close)
