"""The audit: waits for the flows, reads the stores and the streams once, joins them, and says what does not hold.

Memory does not grow with what is audited: records become fixed rows on disk (``trends.verify.spill``), and are judged
a bucket at a time (``trends.verify.judges``). What grows is 8 bytes a dead letter, and 8 bytes a bucket and run.

With live traffic there is a cut: what stood in the raw streams when the audit began must be accounted for, through
everything that follows from it. What is written meanwhile is read only to explain what is met.
"""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import msgspec

from flows.since import Since
from sinks.postgres import PostgresConfig
from streams.codec import RecordError, decode
from streams.dead_letters import headers_of_message
from streams.errors import UnavailableError
from streams.forgotten import Forgotten
from streams.generations import read_generations
from streams.partitions import growth
from streams.records import ForgetRequest, GenerationState
from streams.table import (
    DEAD_LETTERS,
    EMBEDDED,
    ENRICHED,
    FORGOTTEN,
    MENTIONS,
    SCORES,
    SUMMARIES,
    UPDATES,
    Stream,
)
from trends.flows import FLOWS, prepare, since_of
from trends.settings import Settings
from trends.verify import relations as rel
from trends.verify import stores
from trends.verify.book import Book, Pending
from trends.verify.intake import OBSERVED, Intake
from trends.verify.log import Log, Part, now
from trends.verify.report import EVERYTHING, Example, Report, Span, StreamPart
from trends.verify.spill import buckets_for
from trends.verify.verdict import judge

WAIT_S: Final = 60.0
WAIT_POLL_S: Final = 0.5
FORGOTTEN_AFTER: Final = timedelta(minutes=1)
"""A request to forget is recorded first and then carried out: rows may outlive it for so long."""
EXAMPLES: Final = 10

STREAMS: Final = (*OBSERVED, EMBEDDED, ENRICHED, MENTIONS, UPDATES, SUMMARIES, SCORES, FORGOTTEN, DEAD_LETTERS)
DERIVED: Final[dict[str, tuple[Stream, ...]]] = {
    "embed": (EMBEDDED,),
    "cluster": (ENRICHED, MENTIONS, UPDATES),
    "score": (SCORES,),
    "summarize": (SUMMARIES,),
    "store": (),
}
"""What each flow writes: what stands there when the flow has passed the cut of its inputs has to be accounted for."""

Progress = Callable[[str, int, int], None]
"""What is being done, how far it is, of how much."""


def audit(
    settings: Settings,
    span: Span = EVERYTHING,
    *,
    wait_s: float = WAIT_S,
    examples: int = EXAMPLES,
    progress: Progress = lambda _what, _done, _total: None,
    folder: Path | None = None,
) -> Report:
    """Audits what a generation has made of its raw records, in the streams and in the stores.

    Args:
        wait_s: how long the flows may take to pass what stands in their inputs.
        examples: how many of each check are shown.
        folder: where temporary files go (about 1 kB an item); the system's by default.

    Raises:
        UnavailableError: a flow does not catch up in time, the generation is still being built, or Kafka or PostgreSQL
            cannot be reached.
        StreamTableError, SettingsError: streams or tables of this generation are missing.
    """
    with ExitStack() as stack:
        return _Audit(settings, span, examples, progress, folder, stack).run(wait_s)


class _Audit:
    def __init__(
        self, settings: Settings, span: Span, examples: int, progress: Progress, folder: Path | None, stack: ExitStack
    ) -> None:
        self._began, self._began_s = now(), time.monotonic()
        self._settings = settings
        self._span = span
        self._progress = progress
        self._folder = folder
        self._stack = stack
        self._config: PostgresConfig = settings.postgres()
        self._kafka = settings.kafka()
        self._book = Book(examples)
        self._log = stack.enter_context(closing(Log(self._kafka, settings.generation)))
        self._stores = stores.Stores(self._config)
        self._rows: dict[str, int] = {}
        self._forgotten = Forgotten()
        self._gone: set[str] = set()

    # -- in order -----------------------------------------------------------------------------------------------

    def run(self, wait_s: float) -> Report:
        self._since = self._find_since()
        parts = self._parts = self._log.parts(STREAMS, self._span.log_from, self._span.log_to)
        self._cut(time.monotonic() + wait_s)
        buckets = buckets_for(self._expected_rows())
        self._relations = self._stack.enter_context(closing(rel.Relations(buckets, self._folder)))
        self._intake = Intake(
            parts,
            self._relations,
            self._book,
            growth(self._kafka),
            self._in_events,
            self._config.title_chars,
            self._forgotten,
            self._since,
        )
        self._scan_stores()
        self._read_streams()
        facts = self._intake.facts(int(self._began.timestamp() * 1_000), self._rows)
        judge(self._relations, facts, self._book, lambda done, of: self._progress("comparing", done, of))
        self._name_examples()
        return self._report()

    def _find_since(self) -> Since | None:
        """What history the generation leaves out, by the record of its build."""
        name = self._settings.generation
        generations = read_generations(self._kafka)
        if generations.state_of(name) is GenerationState.BUILDING:
            raise UnavailableError(
                f"generation {name} is still being built: nothing can be said yet (`trends replay build --generation "
                f"{name}` says how far it is and goes on)"
            )
        return since_of(generations.named.get(name))

    def _cut(self, deadline: float) -> None:
        """Where each stream ends for this audit: behind all that follows from what was in raw when it began."""
        for stream in (*OBSERVED, FORGOTTEN, DEAD_LETTERS):
            self._parts[stream].cut(self._log.ends(self._parts[stream]))
        self._read_forgotten(self._parts[FORGOTTEN])
        for number, flow in enumerate(FLOWS):
            inputs = [s for s in prepare(flow, self._settings)[0].inputs if s in self._parts]
            wanted = {
                (self._parts[s].name, p): end for s in inputs for p, end in enumerate(self._parts[s].asked) if end
            }
            while (missing := self._log.behind(flow, wanted)) > 0:
                self._progress(f"waiting for {flow} ({missing:,} behind)", number, len(FLOWS))
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        f"{flow} is {missing:,} records behind and did not catch up in time: nothing can be said yet. "
                        "See that it runs (`trends lag`), then verify again, or wait longer with --wait"
                    )
                time.sleep(WAIT_POLL_S)
            for stream in DERIVED[flow]:
                self._parts[stream].cut(self._log.ends(self._parts[stream]))
            self._progress("looking how far the flows are", number + 1, len(FLOWS))

    def _read_forgotten(self, part: Part) -> None:
        """What was to be forgotten when the audit began; what was asked for just now may still be on its way."""
        part.ends = list(part.asked)

        def take(_part: Part, messages: list[Any]) -> None:
            for message in messages:
                with contextlib.suppress(RecordError):  # rubbish, which no flow takes either
                    request = None
                    if message.value() is not None:
                        request = decode(ForgetRequest, message.value(), headers_of_message(message))
                    self._forgotten.take(message.key() or b"", request)

        self._log.read({part.name: (part, take)}, lambda _: None)
        before = self._began - FORGOTTEN_AFTER
        self._gone = {r.item_id for r in self._forgotten.requests if r.item_id and r.requested_at < before}

    def _expected_rows(self) -> int:
        in_streams = sum(
            end - begin
            for part in self._parts.values()
            for begin, end in zip(part.begins, part.asked, strict=True)
        )  # fmt: skip
        self._stored_rows = self._stores.estimate()
        return 2 * in_streams + self._stored_rows

    # -- stores -------------------------------------------------------------------------------------------------

    def _scan_stores(self) -> None:
        seen, total = 0, self._stored_rows

        def take(table: stores.Table, shard: int, bucket_map: tuple[int, ...], rows: Sequence[Any]) -> None:
            nonlocal seen
            self._rows[table.name] = self._rows.get(table.name, 0) + len(rows)
            for row, why in stores.misplaced(rows, shard, bucket_map):
                where = stores.shown_place(table.name, rel.row_place(shard))
                self._book.off_one("store.shards", Example(stores.name_of(table, row), where, why))
            self._book.examined("store.shards", len(rows))
            if self._gone and table.name in ("items", "mentions"):
                self._look_for_forgotten(table, shard, rows)
            stores.fill(self._relations, table.name, rows, shard, self._in_events)
            seen += len(rows)
            self._progress("reading the stores", seen, max(seen, total))

        self._stores.scan(take)

    def _look_for_forgotten(self, table: stores.Table, shard: int, rows: Sequence[Any]) -> None:
        where = stores.shown_place(table.name, rel.row_place(shard))
        self._book.examined("store.forgotten", len(rows))
        for row in rows:
            if row["item_id"] in self._gone:
                what = "was to be forgotten: `trends forget --check REQUEST` says what else is left"
                self._book.off_one("store.forgotten", Example(stores.name_of(table, row), where, what))

    def _in_events(self, when: Any) -> bool:
        span = self._span
        return (span.event_from is None or when >= span.event_from) and (span.event_to is None or when < span.event_to)

    # -- streams ------------------------------------------------------------------------------------------------

    def _read_streams(self) -> None:
        parts = self._parts
        for part in parts.values():
            part.ends = [max(a, e) for a, e in zip(part.asked, self._log.ends(part), strict=True)]
        read = [part for stream, part in parts.items() if stream is not FORGOTTEN]
        total = sum(sum(part.ends) - sum(part.begins) for part in read)
        passed = 0

        def step(offsets: int) -> None:
            nonlocal passed
            passed += offsets
            self._progress("reading the streams", passed, total)

        letters = parts[DEAD_LETTERS]
        self._log.read({letters.name: (letters, self._intake.take_letters)}, step)
        self._intake.end_letters()
        takers = {parts[stream].name: (parts[stream], take) for stream, take in self._intake.takers.items()}
        self._log.read(takers, step)

    # -- what comes of it ---------------------------------------------------------------------------------------

    def _name_examples(self) -> None:
        """Looks up what the examples are called: records by their place, rows by reading their table once more."""
        book = self._book
        wanted: dict[str, set[int]] = {}
        for found in book.pending.values():
            for each in found:
                if each.place < 0:
                    wanted.setdefault(each.table, set()).add(each.key)
        names = {table: self._stores.names(table, keys) for table, keys in wanted.items()}
        for check, found in book.pending.items():
            for each in found:
                example = self._row_example(each, names) if each.place < 0 else self._record_example(each, check)
                if len(book.checks[check].examples) < book.examples:
                    book.checks[check].examples.append(example)

    def _row_example(self, each: Pending, names: dict[str, dict[tuple[int, int], str]]) -> Example:
        id_ = names[each.table].get((-1 - each.place, each.key), "(gone meanwhile)")
        return Example(id_, stores.shown_place(each.table, each.place), each.what)

    def _record_example(self, each: Pending, check: str) -> Example:
        number, partition, offset = rel.place_parts(each.place)
        part = next(p for p in self._parts.values() if p.number == number)
        message = self._log.one(part, partition, offset)
        where = f"{part.name}/{partition}/{offset}"
        return Example(
            _id_of(message.value(), _NAMED_BY.get(check, _IDS)) if message is not None else "(gone meanwhile)",
            where,
            each.what,
        )

    def _report(self) -> Report:
        return Report(
            generation=self._settings.generation,
            span=self._span,
            began=self._began,
            seconds=time.monotonic() - self._began_s,
            checks=tuple(self._book.checks.values()),
            streams=tuple(
                StreamPart(p.name, len(p.begins), tuple(p.begins), tuple(p.asked), p.records, p.whole)
                for p in self._parts.values()
            ),
            rows=dict(sorted(self._rows.items())),
            dead_letters=self._intake.letters,
            forgotten=len(list(self._forgotten.requests)),
            since=None if self._since is None else self._since.event_time,
            left_out=self._intake.left_out,
            peak_mib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_024,
        )


_IDS: Final = ("item_id", "topic_id", "trend_id")
_NAMED_BY: Final = {"scores": ("trend_id",), "store.mentions": ("trend_id", "item_id")}
"""What examples of a check are called by, where that is not the first id that a record has."""


def _id_of(value: bytes | None, names: tuple[str, ...]) -> str:
    """What a record calls the thing that it is about."""
    try:
        fields = msgspec.json.decode(value or b"")
        inner = fields.get("item", fields)
        found = [str(inner[name]) for name in names if inner.get(name)]
        return found[0] if names is _IDS else " ".join(found)
    except (msgspec.MsgspecError, ValueError, AttributeError, IndexError, RecursionError):
        return "(unreadable)"
