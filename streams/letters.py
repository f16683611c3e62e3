"""What people do with dead letters: look, send the originals again, remove. Constant memory, however many there are.

A letter is known by its id, and its newest version counts (the stream is compacted, but only now and then): so a
selection first reads ids and offsets, a bounded number of ids at a time, then the letters themselves.
"""

from __future__ import annotations

import base64
import heapq
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from msgspec.structs import replace

from streams.broker import passes, patiently
from streams.codec import (
    HEADER_ATTEMPTS,
    HEADER_FIRST_FAILED,
    HEADER_FIRST_LETTER,
    HEADER_REDRIVEN_FOR,
    HEADER_REDRIVEN_FROM,
    REDRIVE_HEADERS,
    Headers,
    RecordError,
    decode,
)
from streams.config import KafkaConfig
from streams.dead_letters import Clock, headers_of_message, now_utc
from streams.errors import TrendsError, UnavailableError
from streams.io import Addresser, Outgoing
from streams.keys import partition_of
from streams.records import DeadLetter, EmbeddedItem, LetterStatus, Reason, Record
from streams.table import DEAD_LETTERS, TABLE, Stream

T = TypeVar("T")

PASS_LETTERS: Final = 200_000
"""Ids that are held at once, about 150 bytes each; more letters than that are gone through in several passes."""
READ_RECORDS: Final = 100
"""Taken from the client at once: letters can be of 1.4 MB."""
STALL_S: Final = 60.0
"""Nothing comes for so long although the end is not reached."""
CALL_S: Final = 30.0
BATCH_RECORDS: Final = 1_000
BATCH_BYTES: Final = 8 * 1_048_576
"""What one transaction of a redrive or purge holds at most, by whichever is reached first."""
HEADER_PURGED_AT: Final = "purged-at"
HEADER_PURGED_BY: Final = "purged-by"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters; everything that is given must hold."""

    reasons: frozenset[Reason] = frozenset()
    flows: frozenset[str] = frozenset()
    streams: frozenset[str] = frozenset()
    """With or without stack and generation: ``raw.rss``, ``g1.items.embedded``."""
    partition: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    """When it failed: from (with) … to (without)."""
    text: str = ""
    """Part of the error, whatever its case."""
    ids: frozenset[str] = frozenset()
    statuses: frozenset[LetterStatus] = frozenset(LetterStatus)

    def __contains__(self, letter: DeadLetter) -> bool:
        return (
            (not self.reasons or letter.reason in self.reasons)
            and (not self.flows or letter.flow in self.flows)
            and (not self.streams or any(_named(letter.stream, name) for name in self.streams))
            and (self.partition is None or letter.partition == self.partition)
            and (self.since is None or letter.failed_at >= self.since)
            and (self.until is None or letter.failed_at < self.until)
            and (not self.text or self.text.casefold() in letter.error.casefold())
            and (not self.ids or letter.letter_id in self.ids)
            and letter.status in self.statuses
        )

    def __str__(self) -> str:
        """For the record of a purge."""
        given = {
            "reason": ",".join(sorted(self.reasons)),
            "flow": ",".join(sorted(self.flows)),
            "stream": ",".join(sorted(self.streams)),
            "partition": "" if self.partition is None else str(self.partition),
            "from": self.since.isoformat() if self.since else "",
            "to": self.until.isoformat() if self.until else "",
            "text": self.text,
            "ids": ",".join(sorted(self.ids)),
            "status": ",".join(sorted(self.statuses)) if self.statuses != frozenset(LetterStatus) else "",
        }
        return (" ".join(f"{name}={value}" for name, value in given.items() if value) or "all")[:2_000]


def _named(stream: str, name: str) -> bool:
    return stream == name or stream.endswith("." + name)


@dataclass(slots=True)
class Group:
    """Letters with one reason, flow, stream and status."""

    reason: Reason
    flow: str
    stream: str
    status: LetterStatus
    letters: int = 0
    value_bytes: int = 0
    cut: int = 0
    """Of these, how many cannot be redriven because their bytes were cut."""
    first_failed_at: datetime | None = None
    last_failed_at: datetime | None = None
    example: str = ""
    """The error of the last one."""

    def add(self, letter: DeadLetter) -> None:
        self.letters += 1
        self.value_bytes += letter.value_bytes
        self.cut += not letter.whole
        if self.first_failed_at is None or letter.failed_at < self.first_failed_at:
            self.first_failed_at = letter.failed_at
        if self.last_failed_at is None or letter.failed_at >= self.last_failed_at:
            self.last_failed_at, self.example = letter.failed_at, letter.error


@dataclass(frozen=True, slots=True)
class Overview:
    """What a selection holds."""

    groups: list[Group]
    """The largest first."""
    newest: list[DeadLetter]
    """The last that failed, the very last first."""
    letters: int
    purged: int
    """Letters of any kind that were removed, as long as their stream remembers."""


@dataclass(slots=True)
class Outcome:
    """What a redrive or a purge has done, or (dry run) would do."""

    done: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    """Why some were left alone, and how many."""

    def skip(self, why: str) -> None:
        self.skipped[why] = self.skipped.get(why, 0) + 1


Progress = Callable[[int], None]
"""Told how many letters have been looked at."""


def _quiet(_: int) -> None:
    return None


class LetterBox:
    """The dead letters of one stack."""

    def __init__(
        self, kafka: KafkaConfig, generation: str, clock: Clock = now_utc, pass_letters: int = PASS_LETTERS
    ) -> None:
        self._kafka = kafka
        self._clock = clock
        self._pass_letters = pass_letters
        self._address = Addresser(kafka, generation)
        self._name = self._address.name(DEAD_LETTERS)
        self._places = Places(kafka)
        self.purged = 0
        """Tombstones that the last selection came across."""

    # -- looking ------------------------------------------------------------------------------------------------

    def select(self, selection: Selection, progress: Progress = _quiet) -> Iterator[DeadLetter]:
        """The newest version of every selected letter, in no particular order.

        Raises:
            UnavailableError: the broker does not answer.
        """
        partitions = range(DEAD_LETTERS.count(self._kafka))
        if selection.ids:
            partitions_of_ids = {partition_of(i, DEAD_LETTERS.count(self._kafka)) for i in selection.ids}
            partitions = sorted(partitions_of_ids)  # type: ignore[assignment]
        self.purged, looked_at = 0, 0
        with closing(_Log(self._kafka, self._name)) as log:
            spans = log.spans(partitions)
            passes_needed = max(1, -(-sum(end - begin for begin, end in spans.values()) // self._pass_letters))
            for number in range(passes_needed):
                newest: dict[int, int] = {}
                for message in log.read(spans):
                    name = _hash(message.key())
                    if name % passes_needed == number:
                        newest[name] = message.offset()
                for message in log.read(spans):
                    name = _hash(message.key())
                    if newest.get(name) != message.offset():
                        continue
                    looked_at += 1
                    progress(looked_at)
                    if message.value() is None:
                        self.purged += 1
                        continue
                    letter = _decoded(message)
                    if letter is not None and letter in selection:
                        yield letter

    def overview(self, selection: Selection, newest: int, progress: Progress = _quiet) -> Overview:
        """Groups of the selected letters, and the newest of them."""
        groups: dict[tuple[str, str, str, str], Group] = {}
        last: list[tuple[datetime, str, DeadLetter]] = []
        letters = 0
        for letter in self.select(selection, progress):
            letters += 1
            key = (letter.reason, letter.flow, letter.stream, letter.status)
            group = groups.get(key)
            if group is None:
                group = groups[key] = Group(letter.reason, letter.flow, letter.stream, letter.status)
            group.add(letter)
            entry = (letter.failed_at, letter.letter_id, letter)
            if len(last) < newest:
                heapq.heappush(last, entry)
            elif newest:
                heapq.heappushpop(last, entry)
        return Overview(
            sorted(groups.values(), key=lambda g: -g.letters),
            [letter for _, _, letter in sorted(last, key=lambda entry: entry[:2], reverse=True)],
            letters,
            self.purged,
        )

    def find(self, letter_id: str) -> DeadLetter | None:
        """One letter; None where there is none (any more)."""
        return next(self.select(Selection(ids=frozenset({letter_id}))), None)

    # -- doing --------------------------------------------------------------------------------------------------

    def redrive(
        self, selection: Selection, *, again: bool = False, dry_run: bool = False, progress: Progress = _quiet
    ) -> Outcome:
        """Sends the originals to the streams that they came from, and marks their letters: both or neither.

        A record goes to the partition of its trend as it is now; one that cannot be decoded to the partition where it
        was. Only the flow that gave it up reads it again (the others have dealt with it), and where that fails again,
        the new letter knows its history.

        Args:
            again: also what was redriven before.

        Raises:
            UnavailableError: the broker does not answer. What was sent is marked; the same call goes on with the rest.
        """
        outcome = Outcome()
        with self._transactions(dry_run) as send:
            for letter in self.select(selection, progress):
                if letter.status is LetterStatus.REDRIVEN and not again:
                    outcome.skip("redriven before (--again sends it once more)")
                    continue
                sent = self._original(letter)
                if isinstance(sent, str):
                    outcome.skip(sent)
                    continue
                marked = replace(letter, status=LetterStatus.REDRIVEN, redriven_at=self._clock())
                send([sent, *self._address.dead_letters([marked])])
                outcome.done += 1
        return outcome

    def purge(
        self,
        selection: Selection,
        *,
        dry_run: bool = False,
        progress: Progress = _quiet,
        where: Callable[[DeadLetter], bool] = lambda _: True,
        because: str = "",
    ) -> Outcome:
        """Removes letters for good. What is left of each, until its time is over, is its id, when, and by which
        selection (or ``because`` of what).

        Raises:
            UnavailableError: the broker does not answer; the same call goes on with the rest.
        """
        outcome = Outcome()
        headers: Headers = [
            (HEADER_PURGED_AT, self._clock().isoformat().encode()),
            (HEADER_PURGED_BY, (because or str(selection)).encode("utf-8", "replace")),
        ]
        with self._transactions(dry_run) as send:
            for letter in self.select(selection, progress):
                if not where(letter):
                    continue
                partition = partition_of(letter.letter_id, DEAD_LETTERS.count(self._kafka))
                send([Outgoing(self._name, partition, letter.letter_id.encode(), None, headers)])
                outcome.done += 1
        return outcome

    def _original(self, letter: DeadLetter) -> Outgoing | str:
        """The record as it is to be sent again; or why it cannot be."""
        if not letter.whole:
            return "its bytes were cut (over 1 MiB, or too many headers): only its source can send it again"
        value = None if letter.value is None else base64.b64decode(letter.value)
        stream = self._places.stream_of(letter.stream)
        limit = (stream.record_limits if stream else 1) * self._kafka.max_record_bytes + 65_536
        if letter.reason is Reason.TOO_LARGE and len(value or b"") > self._kafka.max_record_bytes:
            return f"it is larger than a record may be ({self._kafka.max_record_bytes:,} bytes)"
        if len(value or b"") > limit:
            return f"it is larger than its stream takes ({limit:,} bytes)"
        partitions = self._places.partitions(letter.stream)
        if not partitions:
            return f"its stream {letter.stream} is not there any more"
        headers = _headers_of(letter)
        partition = self._placed(stream, value, headers, partitions)
        if partition is None:
            partition = letter.partition if 0 <= letter.partition < partitions else 0
        history: list[tuple[str, bytes]] = [
            (HEADER_REDRIVEN_FROM, letter.letter_id.encode()),
            (HEADER_ATTEMPTS, str(letter.attempts).encode()),
            (HEADER_FIRST_LETTER, (letter.first_letter or letter.letter_id).encode()),
            (HEADER_FIRST_FAILED, (letter.first_failed_at or letter.failed_at).isoformat().encode()),
        ]
        if letter.partition >= 0:  # it was read from its stream, by this flow
            history.append((HEADER_REDRIVEN_FOR, letter.flow.encode()))
        key = None if letter.key is None else base64.b64decode(letter.key)
        return Outgoing(letter.stream, partition, key, value, [*headers, *history])

    def _placed(self, stream: Stream | None, value: bytes | None, headers: Headers, partitions: int) -> int | None:
        """The partition of its trend; None where nobody can tell."""
        if stream is None or stream.record is None or stream.partitions is not None:
            return None
        try:
            record: Record = decode(stream.record, value, headers)
        except RecordError:
            return None
        home = record.item if isinstance(record, EmbeddedItem) else record
        return partition_of(home.trend_id, partitions)  # type: ignore[attr-defined]

    @contextmanager
    def _transactions(self, dry_run: bool) -> Iterator[Callable[[Sequence[Outgoing]], None]]:
        """What is sent through this is committed in batches, each letter's records together."""
        if dry_run:
            yield lambda _: None
            return
        with _Transactions(self._kafka) as transactions:
            yield transactions.send
            transactions.commit()


class Places:
    """Where the originals of letters belong: the stream of a name on the broker, and how many partitions it has."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._kafka = kafka
        self._counts: dict[str, int] | None = None
        self._streams: dict[str, Stream | None] = {}

    def stream_of(self, name: str) -> Stream | None:
        """The stream of the table that has this name in some generation; None where there is none."""
        if name not in self._streams:
            bare = name.removeprefix(f"{self._kafka.stack}.") if self._kafka.stack else name
            generation, _, rest = bare.partition(".")
            self._streams[name] = next(
                (s for s in TABLE if s.physical(self._kafka, generation) == name and s.name in (bare, rest)), None
            )
        return self._streams[name]

    def partitions(self, name: str) -> int:
        """Partitions on the broker; 0 where there is no such stream."""
        if self._counts is None:
            with closing(Consumer(self._kafka.client(**{"group.id": self._kafka.id_of("letters")}))) as client:
                topics = _answer(lambda: client.list_topics(timeout=CALL_S), "asking for the streams").topics
            self._counts = {name: len(topic.partitions) for name, topic in topics.items()}
        return self._counts.get(name, 0)


class _Span(NamedTuple):
    begin: int
    end: int


class _Log:
    """Reads spans of a stream's partitions, again and again, committed records only."""

    def __init__(self, kafka: KafkaConfig, name: str) -> None:
        self._name = name
        self._consumer = Consumer(
            kafka.client(
                **{
                    "group.id": kafka.id_of("letters"),  # never joined, never committed to
                    "isolation.level": "read_committed",
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 20,
                    "queued.max.messages.kbytes": 16_384,
                }
            )
        )

    def spans(self, partitions: Sequence[int]) -> dict[int, _Span]:
        """Where each partition begins and ends now."""
        return {
            p: _Span(
                *_answer(
                    lambda p=p: self._consumer.get_watermark_offsets(TopicPartition(self._name, p), CALL_S),  # type: ignore[misc]
                    f"asking for the ends of {self._name}",
                )
            )
            for p in partitions
        }

    def read(self, spans: dict[int, _Span]) -> Iterator[Any]:
        """The records of these spans, each partition's in order."""
        left = {p: span.end for p, span in spans.items() if span.end > span.begin}
        self._consumer.assign([TopicPartition(self._name, p, spans[p].begin) for p in left])
        heard_at = time.monotonic()
        while left:
            message: Any
            for message in self._consumer.consume(READ_RECORDS, 0.05):
                heard_at = time.monotonic()
                error, partition = message.error(), message.partition()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        left.pop(partition, None)
                    elif not passes(error):
                        raise UnavailableError(f"reading {self._name}/{partition}: {error.str()}")
                    continue
                if partition not in left:
                    continue
                if message.offset() < left[partition]:
                    yield message
                if message.offset() + 1 >= left[partition]:
                    del left[partition]
            if time.monotonic() - heard_at > STALL_S:
                raise UnavailableError(f"reading {self._name}: nothing has come for {STALL_S:.0f} s")
        self._consumer.unassign()

    def close(self) -> None:
        self._consumer.close()


class _Transactions:
    """Batches of records, each committed whole. A second process that does the same ends the first."""

    def __init__(self, kafka: KafkaConfig) -> None:
        self._producer = Producer(
            kafka.client(
                **{
                    "transactional.id": kafka.id_of("letters"),
                    "transaction.timeout.ms": kafka.transaction_timeout_ms,
                    "compression.type": "lz4",
                    "linger.ms": 5,
                    "message.max.bytes": 2 * kafka.max_record_bytes + 65_536,
                    "queue.buffering.max.kbytes": 65_536,
                }
            )
        )
        self._held: list[Outgoing] = []
        self._bytes = 0

    def __enter__(self) -> _Transactions:
        _answer(lambda: self._producer.init_transactions(CALL_S), "beginning")
        return self

    def __exit__(self, *_: object) -> None:
        """What is still held was not sent, and its letters are not marked."""

    def send(self, records: Sequence[Outgoing]) -> None:
        """Adds records that belong together. They wait in memory: an open transaction would hold up all readers."""
        size = sum(len(r.value or b"") for r in records)
        if self._held and (len(self._held) >= BATCH_RECORDS or self._bytes + size > BATCH_BYTES):
            self.commit()
        self._held.extend(records)
        self._bytes += size

    def commit(self) -> None:
        """What was sent counts from now on."""
        if not self._held:
            return
        _answer(self._producer.begin_transaction, "beginning")
        try:
            for r in self._held:  # BATCH_RECORDS and BATCH_BYTES lie within the queue's bounds: it never is full
                self._producer.produce(r.stream, r.value, r.key, r.partition, headers=r.headers)  # type: ignore[arg-type]
            _answer(lambda: self._producer.commit_transaction(CALL_S), "committing")
        except BaseException:
            with suppress(KafkaException):  # else its timeout, or the next start, ends it
                self._producer.purge()
                self._producer.abort_transaction(5.0)
            raise
        self._held, self._bytes = [], 0


def _answer(call: Callable[[], T], doing: str) -> T:
    try:
        return patiently(call, CALL_S)
    except KafkaException as error:
        cause: KafkaError = error.args[0]
        if cause.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
            raise TrendsError("another process has begun to redrive or purge dead letters: this one ends") from None
        raise UnavailableError(f"{doing}: {cause.str()}") from None


def _hash(key: bytes | None) -> int:
    return int.from_bytes(blake2b(key or b"", digest_size=8).digest(), "big")


def _decoded(message: Any) -> DeadLetter | None:
    try:
        return decode(DeadLetter, message.value(), headers_of_message(message))
    except RecordError:  # not ours: nobody can say what it was
        return None


def _headers_of(letter: DeadLetter) -> Headers:
    """The headers of the original, those of an earlier redrive apart."""
    if letter.header_bytes is not None:
        # A header without a value is one that the client takes too.
        found: list[Any] = [(name, None if v is None else base64.b64decode(v)) for name, v in letter.header_bytes]
    else:
        found = [(name, value.encode()) for name, value in letter.headers]
    return [(name, value) for name, value in found if name not in REDRIVE_HEADERS]
