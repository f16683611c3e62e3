"""Forgetting an item, or all that an author wrote: recorded, carried out everywhere, and looked after.

The request comes first, so that nothing comes back meanwhile; then the deletions, through the pipeline, so that counts
stay exact; then what the pipeline cannot reach: rows of generations that no flow writes, topics that have ended, dead
letters. All of it may be done again, any number of times: what is gone stays gone.
"""

from __future__ import annotations

import asyncio
import base64
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

import asyncpg
import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from msgspec.structs import asdict
from msgspec.structs import replace as changed

from models.summaries import OWED_ATTEMPTS, Summary, extract
from sinks.postgres import PostgresConfig
from sinks.postgres.config import SHARED_SCHEMA
from sinks.postgres.shards import connect
from streams.broker import passes, patiently
from streams.codec import RecordError, decode, encode, headers_of
from streams.dead_letters import now_utc
from streams.errors import SettingsError, UnavailableError
from streams.forgotten import FORGOTTEN_TAG, Forgotten, ForgottenFollower, author_hash
from streams.ids import item_id_of
from streams.letters import LetterBox, Selection
from streams.producer import Publisher
from streams.records import (
    DeadLetter,
    ForgetKind,
    ForgetRequest,
    Kind,
    Life,
    Observation,
    TopicSummary,
    TopicUpdate,
)
from streams.table import CLUSTER_STATE, FORGOTTEN, SOURCES, SUMMARIES, TABLE, UPDATES, Stream
from trends.flows import summary_store_of
from trends.settings import Settings

CALL_S: Final = 30.0
"""Bound on one question to the broker, and on the acknowledgement of one batch."""
STALL_S: Final = 60.0
ROUND_S: Final = 1.0
"""Between two looks at what is left."""
STATEMENT_S: Final = 600.0
"""A statement may read whole tables: mentions have no index on their items."""
SEGMENT: Final = timedelta(days=7)
"""A segment goes as a whole, a retention after its last record; this is how long Kafka fills one, by default."""
CHAIN: Final = 64
"""Merges that are followed, one after the other."""
NOTHING_LEFT: Final = Summary(
    headline="(removed on request)", headline_of=None, summary="", keywords=(), method="extractive", model="none"
)
"""The headline of a topic whose only items were forgotten."""

_ITEM_IDS = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Known:
    """An item that a store knows."""

    generation: str
    item_id: str
    source: str
    external_id: str
    trend_id: str
    mentions: tuple[str, ...]
    publisher: str | None
    topic_id: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be forgotten: an item by its id (where they are known, with source and external id), or an author."""

    item_id: str | None = None
    external: tuple[str, str] | None = None
    author: str | None = None
    source: str | None = None

    @classmethod
    def item(cls, text: str) -> Wanted:
        """From an item_id, or SOURCE/EXTERNAL_ID."""
        source, slash, external_id = text.partition("/")
        if slash and source in SOURCES and external_id:
            return cls(item_id_of(source, external_id), (source, external_id))
        if _ITEM_IDS.fullmatch(text.encode()):
            return cls(text)
        raise SettingsError(
            f"{text!r} is no item: give its id, or SOURCE/EXTERNAL_ID with one of {', '.join(SOURCES)} as the source"
        )


@dataclass(frozen=True, slots=True)
class Left:
    """Something of a request that is still somewhere."""

    where: str
    what: str
    count: int


@dataclass(frozen=True, slots=True)
class Report:
    """How a request stands."""

    request: ForgetRequest
    items: int
    left: tuple[Left, ...]
    """Nothing: it is gone from all that can be read …"""
    bytes_until: datetime
    """… and at this time from the retained streams as well, whose readers pass it over until then."""

    @property
    def done(self) -> bool:
        return not self.left


@dataclass(slots=True)
class _Scope:
    """What all steps of one request look for."""

    request_id: str
    requested_at: datetime
    items: set[str] = field(default_factory=set)
    topics: set[str] = field(default_factory=set)


class Forgetter:
    """Carries requests out over one stack: all generations on the broker and in the shards."""

    def __init__(self, settings: Settings, say: Say = lambda _: None) -> None:
        self._settings = settings
        self._kafka = settings.kafka()
        self._postgres = replace(settings.postgres(), statement_timeout_s=STATEMENT_S)
        self._say = say

    # -- asking -------------------------------------------------------------------------------------------------

    def requests(self) -> Forgotten:
        """All requests as they are recorded.

        Raises:
            UnavailableError: the broker does not answer, or the stream does not exist.
        """
        with closing(ForgottenFollower(self._kafka, "forget")) as follower:
            follower.catch_up()
            return follower.now

    def find(self, wanted: Wanted) -> list[Known]:
        """The items that are meant, as far as the stores know them."""
        return asyncio.run(_Shards(self._postgres).find(wanted))

    def check(self, request_id: str) -> Report:
        """What is left of a request.

        Raises:
            SettingsError: there is no such request.
            UnavailableError: the broker or a shard does not answer.
        """
        request, scope = self._scope(request_id)
        return self._report(request, scope, self._left(scope))

    def _scope(self, request_id: str) -> tuple[ForgetRequest, _Scope]:
        mine = [r for r in self.requests().requests if r.request_id == request_id]
        if not mine:
            raise SettingsError(f"there is no request {request_id!r}: `trends forget list` shows them")
        head = next((r for r in mine if r.kind is ForgetKind.AUTHOR), mine[0])
        scope = _Scope(request_id, head.requested_at)
        for request in mine:
            if request.item_id:
                scope.items.add(request.item_id)
            scope.topics.update(request.topics)
        return head, scope

    def _report(self, request: ForgetRequest, scope: _Scope, left: Sequence[Left]) -> Report:
        kept_ms = max(s.retention_ms or 0 for s in TABLE)
        until = request.requested_at + timedelta(milliseconds=kept_ms) + SEGMENT
        return Report(request, len(scope.items), tuple(left), until)

    # -- doing --------------------------------------------------------------------------------------------------

    def forget(self, wanted: Wanted, reason: str, wait_s: float) -> Report:
        """Records the request, carries it out, and waits until nothing is left, for ``wait_s`` at most.

        Raises:
            SettingsError: nobody knows what is meant.
            UnavailableError: the broker or a shard does not answer; the same call goes on where this one stopped.
        """
        recorded = self.requests()
        request = self._new(wanted, reason, recorded)
        if wanted.author is not None and recorded.salt is None:
            request, recorded = self._first_of_authors(request, wanted)
        known = self.find(wanted)
        self._record(request, known, wanted, recorded)
        asyncio.run(self._delete(known, wanted))
        self._say(f"recorded as {request.request_id}: {len({k.item_id for k in known}):,} items")
        self._purge_letters(request.request_id, known, wanted)
        deadline = time.monotonic() + wait_s
        while True:
            report = self.carry_out(request.request_id)
            # An author's items may have been on their way to the stores when the request was recorded.
            late = [k for k in self.find(wanted) if k.item_id not in {known.item_id for known in known}]
            if late:
                known += late
                self._record(request, late, wanted, self.requests())
                asyncio.run(self._delete(late, wanted))
                continue
            if report.done or time.monotonic() >= deadline:
                return report
            self._say("; ".join(f"{left.count:,} {left.what} in {left.where}" for left in report.left))
            time.sleep(ROUND_S)

    def carry_out(self, request_id: str) -> Report:
        """Removes what the pipeline does not, and reports what is left."""
        request, scope = self._scope(request_id)
        asyncio.run(_Shards(self._postgres).remove(scope))
        with closing(summary_store_of(self._settings)) as store:
            store.forget(sorted(scope.items))
        for generation in self._generations():
            self._redact(generation, scope)
        return self._report(request, scope, self._left(scope))

    def _new(self, wanted: Wanted, reason: str, recorded: Forgotten) -> ForgetRequest:
        salt = recorded.salt or secrets.token_hex(16)
        request = ForgetRequest(
            request_id=f"forget-{uuid4().hex[:12]}",
            kind=ForgetKind.ITEM if wanted.author is None else ForgetKind.AUTHOR,
            item_id=wanted.item_id,
            author_hash=None if wanted.author is None else author_hash(salt, wanted.source, wanted.author),
            salt=None if wanted.author is None else salt,
            source=wanted.source,
            requested_at=now_utc(),
            reason=reason[:200],
        )
        before = recorded.request_for(request.key)
        return request if before is None else changed(request, request_id=before.request_id)

    def _first_of_authors(self, request: ForgetRequest, wanted: Wanted) -> tuple[ForgetRequest, Forgotten]:
        """Makes a key for the hashes of authors; where somebody else's came first, every reader knows that one."""
        self._send_requests([request])
        recorded = self.requests()
        if recorded.request_for(request.key) is not None:
            return request, recorded
        name = FORGOTTEN.physical(self._kafka, "")
        self._send([(name, 0, request.key.encode(), None, None)])
        return changed(self._new(wanted, request.reason, recorded), requested_at=request.requested_at), recorded

    def _record(self, request: ForgetRequest, known: Sequence[Known], wanted: Wanted, recorded: Forgotten) -> None:
        topics: dict[str, set[str]] = {} if wanted.item_id is None else {wanted.item_id: set()}
        for each in known:
            topics.setdefault(each.item_id, set()).add(each.topic_id)
        chains = asyncio.run(_Shards(self._postgres).survivors({t for found in topics.values() for t in found}))
        records = []
        if request.kind is ForgetKind.AUTHOR:
            before = recorded.request_for(request.key)
            records.append(changed(request, items=len(topics) + (before.items if before else 0)))
        for item_id, found in topics.items():
            one = changed(request, kind=ForgetKind.ITEM, item_id=item_id, author_hash=None, salt=None, source=None)
            before = recorded.request_for(one.key)
            all_topics = {t for topic in found for t in chains.get(topic, (topic,))} | set(
                before.topics if before else ()
            )
            records.append(changed(one, topics=tuple(sorted(all_topics))))
        self._send_requests(records)

    def _send_requests(self, requests: Iterable[ForgetRequest]) -> None:
        name = FORGOTTEN.physical(self._kafka, "")
        self._send([(name, 0, r.key.encode(), encode(r), headers_of(r)) for r in requests])

    async def _delete(self, known: Sequence[Known], wanted: Wanted) -> None:
        """A deletion of each item, through the pipeline, without a word of its text."""
        items = {each.item_id: each for each in known}
        if wanted.external and wanted.item_id and wanted.item_id not in items:
            # Not stored: where it is on its way, cluster takes it out, and remembers it where it comes later.
            source, external_id = wanted.external
            items[wanted.item_id] = Known("", wanted.item_id, source, external_id, "term:forgotten", (), None, "")
        at = now_utc()
        deletions = [
            Observation(
                item_id=each.item_id, source=each.source, external_id=each.external_id, kind=Kind.DELETED, title="",
                observed_at=at, published_at=at, trend_id=each.trend_id, mentions=each.mentions,
                publisher=each.publisher, tags=(FORGOTTEN_TAG,),
            )
            for each in items.values()
        ]  # fmt: skip
        async with Publisher(self._kafka, self._settings.generation, "forget") as publisher:
            for begin in range(0, len(deletions), 1_000):
                await publisher.publish(deletions[begin : begin + 1_000])

    def _purge_letters(self, request_id: str, known: Sequence[Known], wanted: Wanted) -> None:
        items = {each.item_id for each in known} | ({wanted.item_id} if wanted.item_id else set())
        names = {(each.source, each.external_id) for each in known} | ({wanted.external} if wanted.external else set())
        with closing(ForgottenFollower(self._kafka, "forget")) as follower:
            follower.catch_up()
            forgotten = follower.now
            box = LetterBox(self._kafka, self._settings.generation)
            purged = box.purge(
                Selection(), where=lambda letter: _holds(letter, items, names, forgotten), because=request_id
            )
        if purged.done:
            self._say(f"{purged.done:,} dead letters purged")

    # -- streams ------------------------------------------------------------------------------------------------

    def _generations(self) -> list[str]:
        return sorted({self._settings.generation, *asyncio.run(_Shards(self._postgres).generations())})

    def _redact(self, generation: str, scope: _Scope) -> None:
        """Topics that have ended are told once more without the item, and what was said of its topics is said anew. In
        grown streams, a record that a newer one in another partition replaces is taken away: nothing else ever would.
        """
        quoting = self._quoting(UPDATES, generation, scope)
        scope.topics.update(key.decode("utf-8", "replace") for _, key in quoting)
        said = self._said(generation, scope)
        updates = self._newest_updates(generation, {key for _, key in (*quoting, *said)})
        name = UPDATES.physical(self._kafka, generation)
        records: list[tuple[Any, ...]] = []
        for partition, key in quoting:
            if (found := updates.get(key)) is None:
                continue
            at, update = found
            if at != partition:
                records.append((name, partition, key, None, None))
            elif update.life in (Life.MERGED, Life.FADED):  # nobody writes about it any more
                record = _without(update, scope.items)
                records.append((name, partition, key, encode(record), headers_of(record)))
        self._send(records)
        name, records = SUMMARIES.physical(self._kafka, generation), []
        for (partition, key), (summary, is_newest) in said.items():
            if is_newest:
                anew = _said_anew(summary, _without(updates[key][1], scope.items) if key in updates else None)
                records.append((name, partition, key, encode(anew), headers_of(anew)))
            else:
                records.append((name, partition, key, None, None))
        self._send(records)

    def _newest_updates(self, generation: str, keys: set[bytes]) -> dict[bytes, tuple[int, TopicUpdate]]:
        """The newest updates of some topics, by version and not by the order of reading, with their partitions."""
        newest: dict[bytes, tuple[int, TopicUpdate]] = {}
        for partition, key, value in self._compacted(UPDATES, generation) if keys else ():
            if key in keys and value is not None and (update := _read(TopicUpdate, value)) is not None:
                known = newest.get(key)
                if known is None or (update.seq, partition) >= (known[1].seq, known[0]):
                    newest[key] = partition, update
        return newest

    def _quoting(self, stream: Stream, generation: str, scope: _Scope) -> set[tuple[int, bytes]]:
        """Where (partition, key) the last record names an item of the request."""
        found: set[tuple[int, bytes]] = set()
        for partition, key, value in self._compacted(stream, generation):
            if value is not None and _mentions(value, scope.items):
                found.add((partition, key))
            else:
                found.discard((partition, key))
        return found

    def _said(self, generation: str, scope: _Scope) -> dict[tuple[int, bytes], tuple[TopicSummary, bool]]:
        """The last summaries by partition and key of topics that the request touches, as far as they were made before
        it, and whether each is the topic's newest."""
        last: dict[tuple[int, bytes], TopicSummary] = {}
        newest: dict[bytes, tuple[tuple[int, int], int]] = {}
        wanted = {topic.encode() for topic in scope.topics}
        for partition, key, value in self._compacted(SUMMARIES, generation):
            if key not in wanted:
                continue
            if value is None:
                last.pop((partition, key), None)
            elif (summary := _read(TopicSummary, value)) is not None:
                last[partition, key] = summary
        for (partition, key), summary in last.items():
            place = ((summary.topic_seq, summary.attempt), partition)
            newest[key] = max(newest.get(key, place), place)
        return {
            (partition, key): (summary, newest[key][1] == partition)
            for (partition, key), summary in last.items()
            if summary.created_at < scope.requested_at
        }

    def _left(self, scope: _Scope) -> list[Left]:
        left = asyncio.run(_Shards(self._postgres).left(scope))
        for generation in self._generations():
            for stream in (UPDATES, CLUSTER_STATE):
                if quoting := self._quoting(stream, generation, scope):
                    left.append(Left(stream.physical(self._kafka, generation), "records that quote it", len(quoting)))
            if said := self._said(generation, scope):
                name = SUMMARIES.physical(self._kafka, generation)
                left.append(Left(name, "summaries that may quote it", len(said)))
        return left

    def _compacted(self, stream: Stream, generation: str) -> Iterator[tuple[int, bytes, bytes | None]]:
        """All records of a stream up to its present end: partition, key, value. None where there is no such stream."""
        name = stream.physical(self._kafka, generation)
        with closing(
            Consumer(
                self._kafka.client(
                    **{
                        "group.id": self._kafka.id_of("forget"),  # never joined, never committed to
                        "isolation.level": "read_committed",
                        "enable.partition.eof": True,
                        "enable.auto.commit": False,
                        "auto.offset.reset": "earliest",
                        "fetch.wait.max.ms": 20,
                    }
                )
            )
        ) as consumer:
            topics = _answer(lambda: consumer.list_topics(timeout=CALL_S), "asking for the streams").topics
            if name not in topics:
                return
            left = set(topics[name].partitions)
            consumer.assign([TopicPartition(name, p, 0) for p in left])
            heard_at = time.monotonic()
            while left:
                message: Any
                for message in consumer.consume(1_000, 0.05):
                    heard_at = time.monotonic()
                    error = message.error()
                    if error is None:
                        yield message.partition(), message.key() or b"", message.value()
                    elif error.code() == KafkaError._PARTITION_EOF:
                        left.discard(message.partition())
                    elif not passes(error):
                        raise UnavailableError(f"reading {name}: {error.str()}")
                if time.monotonic() - heard_at > STALL_S:
                    raise UnavailableError(f"reading {name}: nothing has come for {STALL_S:.0f} s")

    def _send(self, records: Iterable[tuple[Any, ...]]) -> None:
        """Acknowledged when this returns."""
        producer = Producer(
            self._kafka.client(**{"enable.idempotence": True, "message.timeout.ms": int(CALL_S * 1000)})
        )
        failed: list[str] = []

        def delivered(error: KafkaError | None, message: Any) -> None:
            if error is not None:
                failed.append(f"{message.topic()}: {error.str()}")

        for stream, partition, key, value, headers in records:
            while True:
                try:
                    producer.produce(stream, value, key, partition, headers=headers, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.1)
        if producer.flush(2 * CALL_S) or failed:
            raise UnavailableError(f"not acknowledged: {failed[0] if failed else self._kafka.bootstrap}")


class _Shards:
    """What is asked of the stores: every generation's schema, on every shard."""

    def __init__(self, config: PostgresConfig) -> None:
        self._config = config

    async def _ask(self, sql: str, *arguments: Any) -> list[tuple[str, Any]]:
        """Rows of all generations and shards, with their generation; ``{g}`` is its schema."""
        rows: list[tuple[str, Any]] = []
        for shard in range(self._config.shards):
            connection = await connect(self._config, shard)
            try:
                for generation in await _generations_of(connection):
                    query = sql.replace("{g}", f'"{generation}"')
                    found = await connection.fetch(query, *arguments, timeout=STATEMENT_S)
                    rows += [(generation, row) for row in found]
            except (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError) as error:
                raise UnavailableError(f"PostgreSQL shard {shard}: {error}") from None
            finally:
                await connection.close(timeout=self._config.connect_timeout_s)
        return rows

    async def generations(self) -> set[str]:
        """All that have tables."""
        found: set[str] = set()
        for shard in range(self._config.shards):
            connection = await connect(self._config, shard)
            try:
                found.update(await _generations_of(connection))
            finally:
                await connection.close(timeout=self._config.connect_timeout_s)
        return found

    async def find(self, wanted: Wanted) -> list[Known]:
        """The items, by id or by author."""
        columns = "item_id, source, external_id, trend_id, mentions, publisher, topic_id"
        if wanted.author is None:
            rows = await self._ask(f"SELECT {columns} FROM {{g}}.items WHERE item_id = $1", wanted.item_id)
        else:
            # Names are compared here, not by the server: its notion of letters depends on its locale.
            key = "00"
            mine = author_hash(key, None, wanted.author)
            names = {
                row["author"]
                for _, row in await self._ask("SELECT DISTINCT author FROM {g}.items WHERE author IS NOT NULL")
                if author_hash(key, None, row["author"]) == mine
            }
            rows = await self._ask(
                f"SELECT {columns} FROM {{g}}.items WHERE author = ANY($1) AND ($2::text IS NULL OR source = $2)",
                sorted(names), wanted.source,
            ) if names else []  # fmt: skip
        return [
            Known(
                g, r["item_id"], r["source"], r["external_id"], r["trend_id"], tuple(r["mentions"]), r["publisher"],
                r["topic_id"],
            )
            for g, r in rows
        ]  # fmt: skip

    async def survivors(self, topics: set[str]) -> dict[str, tuple[str, ...]]:
        """Each topic with those that it was merged into, one after the other."""
        into: dict[str, str] = {}
        ask = set(topics)
        for _ in range(CHAIN):
            rows = await self._ask(
                "SELECT topic_id, merged_into FROM {g}.topics WHERE topic_id = ANY($1) AND merged_into IS NOT NULL",
                sorted(ask),
            )
            ask = {row["merged_into"] for _, row in rows} - into.keys() - topics
            into |= {row["topic_id"]: row["merged_into"] for _, row in rows}
            if not ask:
                break
        chains = {}
        for topic in topics:
            chain = [topic]
            while (following := into.get(chain[-1])) and following not in chain:
                chain.append(following)
            chains[topic] = tuple(chain)
        return chains

    async def remove(self, scope: _Scope) -> None:
        """Rows of the items, what topics show of them, and summaries that may quote them."""
        items = sorted(scope.items)
        for sql in (
            "DELETE FROM {g}.items WHERE item_id = ANY($1)",
            "DELETE FROM {g}.mentions WHERE item_id = ANY($1)",
        ):
            await self._ask(sql, items)
        rows = await self._ask(
            "UPDATE {g}.topics SET leading_items = (SELECT coalesce(jsonb_agg(e ORDER BY n), '[]'::jsonb) FROM "
            "jsonb_array_elements(leading_items) WITH ORDINALITY AS t (e, n) WHERE NOT e->>'item_id' = ANY($1)) "
            "WHERE EXISTS (SELECT 1 FROM jsonb_array_elements(leading_items) AS e WHERE e->>'item_id' = ANY($1)) "
            "RETURNING topic_id",
            items,
        )
        scope.topics.update(row["topic_id"] for _, row in rows)
        await self._ask(
            "DELETE FROM {g}.topic_summaries WHERE topic_id = ANY($1) AND created_at < $2",
            sorted(scope.topics), scope.requested_at,
        )  # fmt: skip

    async def left(self, scope: _Scope) -> list[Left]:
        """What :meth:`remove` would find."""
        items, left = sorted(scope.items), []
        for table, sql, arguments in (
            ("items", "SELECT count(*) AS n FROM {g}.items WHERE item_id = ANY($1)", (items,)),
            ("mentions", "SELECT count(*) AS n FROM {g}.mentions WHERE item_id = ANY($1)", (items,)),
            (
                "topics",
                "SELECT count(*) AS n FROM {g}.topics WHERE EXISTS (SELECT 1 FROM "
                "jsonb_array_elements(leading_items) AS e WHERE e->>'item_id' = ANY($1))",
                (items,),
            ),
            (
                "topic_summaries",
                "SELECT count(*) AS n FROM {g}.topic_summaries WHERE topic_id = ANY($1) AND created_at < $2",
                (sorted(scope.topics), scope.requested_at),
            ),
        ):
            counts: dict[str, int] = {}
            for generation, row in await self._ask(sql, *arguments):
                counts[generation] = counts.get(generation, 0) + row["n"]
            left += [Left(f"PostgreSQL {g}.{table}", "rows", n) for g, n in counts.items() if n]
        return left


async def _generations_of(connection: asyncpg.Connection) -> list[str]:
    try:
        rows = await connection.fetch(f"SELECT generation FROM {SHARED_SCHEMA}.generations ORDER BY generation")
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return []  # nothing was ever stored
    return [row["generation"] for row in rows]


def _holds(letter: DeadLetter, items: set[str], names: set[tuple[str, str]], forgotten: Forgotten) -> bool:
    """Whether the bytes of a dead letter are of what is to be forgotten."""
    raw = base64.b64decode(letter.value or "")
    if _mentions(raw, items) or any(letter.letter_id.endswith(f"raw.{s}/{name}") for s, name in names):
        return True
    try:
        fields = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    fields = fields.get("item", fields) if isinstance(fields, dict) else None
    if not isinstance(fields, dict):
        return False
    source, external_id, author = (fields.get(name) for name in ("source", "external_id", "author"))
    if not isinstance(source, str):
        return False
    return (source, external_id) in names or (isinstance(author, str) and forgotten.author(source, author))


def _without(update: TopicUpdate, items: set[str]) -> TopicUpdate:
    return changed(update, items=tuple(item for item in update.items if item.item_id not in items))


def _said_anew(before: TopicSummary, update: TopicUpdate | None) -> TopicSummary:
    """A summary that replaces one which may quote what is to be forgotten. A model is not asked: it is needed now."""
    found = extract(update) if update is not None and update.items else NOTHING_LEFT
    return changed(
        before,
        **asdict(found),
        # Above every further try of a summary that is owed: what is said here is the last word on that update.
        attempt=before.attempt + (OWED_ATTEMPTS if before.fallback else 1),
        created_at=now_utc(),
    )


def _mentions(value: bytes, items: set[str]) -> bool:
    return any(found.decode() in items for found in _ITEM_IDS.findall(value))


def _read(kind: type[Any], value: bytes) -> Any:
    try:
        return decode(kind, value)
    except RecordError:
        return None


def _answer(call: Callable[[], Any], doing: str) -> Any:
    try:
        return patiently(call, CALL_S)
    except KafkaException as error:
        raise UnavailableError(f"{doing}: {error}") from None
