"""store: everything that was decided → the shards. Stateless; an upsert that comes twice changes nothing."""

from __future__ import annotations

from flows.guard import Decoded
from flows.runtime import Wired, outbox, pipeline
from sinks.postgres import PostgresConfig, SyncWriter
from streams.dead_letters import count_letters, letter_of
from streams.io import Outbox
from streams.records import Reason, Record
from streams.session import FlowSpec, Session
from streams.table import CATALOG, ENRICHED, MENTIONS, SCORES, SUMMARIES, UPDATES

SPEC = FlowSpec("store", (UPDATES, ENRICHED, MENTIONS, SUMMARIES, SCORES, CATALOG), ordered=False)


class StoreStep:
    """Writes a chunk to the shards before its offsets are committed: at least once, and idempotent."""

    def __init__(self, session: Session, writer: SyncWriter) -> None:
        self._address = session.address
        self._writer = writer

    def __call__(self, decoded: Decoded[Record]) -> Outbox:
        out = outbox(decoded, self._address)
        if not decoded.oks:
            return out
        report = self._writer.write([r.record for r in decoded.oks])
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


def wire(session: Session, config: PostgresConfig) -> Wired:
    """read everything derived → decode → upsert into the shards."""
    writer = SyncWriter(config)
    return Wired(pipeline(session, StoreStep(session, writer), stateless=True), close=writer.close)
