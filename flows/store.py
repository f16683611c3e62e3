"""store: everything that was decided → the shards. Stateless; an upsert that comes twice changes nothing."""

from __future__ import annotations

from concurrent.futures import Future, wait
from typing import TypeVar

from flows.guard import Decoded
from flows.runtime import Wired, outbox, pipeline
from sinks.postgres import PostgresConfig, SyncWriter
from streams.dead_letters import count_letters, letter_of
from streams.io import Outbox
from streams.records import Reason, Record
from streams.session import FlowSpec, Session
from streams.table import CATALOG, ENRICHED, MENTIONS, SCORES, SUMMARIES, UPDATES

T = TypeVar("T")

SPEC = FlowSpec("store", (UPDATES, ENRICHED, MENTIONS, SUMMARIES, SCORES, CATALOG), ordered=False)


class StoreStep:
    """Writes a chunk to the shards before its offsets are committed: at least once, and idempotent."""

    def __init__(self, session: Session, writer: SyncWriter) -> None:
        self._session = session
        self._address = session.address
        self._writer = writer

    def open(self) -> None:
        """Brings the shards' tables up to date; waits for shards that are away."""
        self._awaited(self._writer.begin_open())

    def __call__(self, decoded: Decoded[Record]) -> Outbox:
        out = outbox(decoded, self._address)
        if not decoded.oks:
            return out
        report = self._awaited(self._writer.begin([r.record for r in decoded.oks]))
        if report.refused:
            why = {id(record): error for record, error in report.refused}
            letters = [
                letter_of(r.message, Reason.STORE_REFUSED, why[id(r.record)], SPEC.name)
                for r in decoded.oks
                if id(r.record) in why
            ]
            count_letters(letters)
            out.records.extend(self._address.dead_letters(letters))
        return out

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
    step = StoreStep(session, writer)
    return Wired(pipeline(session, step, stateless=True), before_run=step.open, close=writer.close)
