"""Writing outside of flows: observations, cursors, the catalogue. Idempotent, acknowledged by all replicas.

Not transactional: a connector is at least once, and cluster settles repeats by identity.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec
from confluent_kafka import KafkaException, Producer

from streams import metrics
from streams.codec import refuse_key
from streams.config import KafkaConfig
from streams.dead_letters import Clock, count_letters, now_utc, unsent_letter
from streams.errors import UnavailableError
from streams.forgotten import Forgotten, ForgottenFollower
from streams.io import Addresser, Outgoing
from streams.partitions import LOOK_S, VIEW_S, PartitionsView, learn_partitions
from streams.records import Feedback, Observation, Reason, SourceCursor, SourceGap, TrendDefinition
from streams.state import ControlReader
from streams.table import CATALOG, CURSORS, DEAD_LETTERS, FEEDBACK, RAW, SOURCE_GAPS, raw

DELIVERY_TIMEOUT_S: Final = 60.0
QUEUE_RECORDS: Final = 50_000
QUEUE_KBYTES: Final = 65_536


class _Delivery:
    """Counts the acknowledgements of one batch, from the producer's thread."""

    def __init__(self, expected: int, done: Callable[[str | None], None]) -> None:
        self._left = expected
        self._error: str | None = None
        self._done = done

    def __call__(self, error: Any, message: Any) -> None:
        if error is not None:
            self._error = f"{message.topic()}: {error.str()}"
        self._left -= 1
        if self._left == 0:
            self._done(self._error)


class Publisher:
    """An async context manager around one idempotent producer. Safe to use from several tasks of one event loop."""

    def __init__(self, kafka: KafkaConfig, generation: str, flow: str = "collect", clock: Clock = now_utc) -> None:
        self._kafka = kafka
        self._flow = flow
        self._clock = clock
        self._address = Addresser(kafka, generation)
        self._producer = Producer(
            kafka.client(
                **{
                    "client.id": kafka.id_of(flow),
                    "enable.idempotence": True,
                    "compression.type": "lz4",
                    "linger.ms": 5,
                    "message.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
                    "message.max.bytes": DEAD_LETTERS.largest_bytes(kafka),
                    "queue.buffering.max.messages": QUEUE_RECORDS,
                    "queue.buffering.max.kbytes": QUEUE_KBYTES,
                }
            )
        )
        self._view = PartitionsView(kafka)
        self._looking = asyncio.Lock()
        self._follower: ForgottenFollower | None = None
        self._sent: set[asyncio.Future[None]] = set()
        """Batches that are not acknowledged yet."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=f"{flow}-deliveries", daemon=True)

    async def __aenter__(self) -> Publisher:
        """Returns at once: the broker is first asked when something is published."""
        self._thread.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self._producer.flush, 10.0)
        self._closed.set()
        await asyncio.to_thread(self._thread.join)
        await asyncio.to_thread(self._view.close)
        if self._follower is not None:
            await asyncio.to_thread(self._follower.close)
        del self._producer  # its threads end with it

    def _serve(self) -> None:
        while not self._closed.is_set():
            self._producer.poll(0.1)

    async def publish(self, observations: Sequence[Observation]) -> None:
        """Writes observations to the raw streams of their sources; returns once all are acknowledged.

        An observation over the size limit goes to dead letters instead, one that is to be forgotten nowhere; their
        neighbours arrive.

        Raises:
            UnavailableError: some were not acknowledged in time, or nobody says how many partitions there are. All may
                be sent again: repeats settle by identity.
        """
        await self._look()
        forgotten = await self._forgotten()
        wanted = [o for o in observations if not forgotten.denies(o)]
        if len(wanted) < len(observations):
            metrics.FORGOTTEN.labels(self._flow).inc(len(observations) - len(wanted))
        await self._send([self._outgoing(o) for o in wanted])

    async def _forgotten(self) -> Forgotten:
        """What must not be written again, as it stands now."""
        async with self._looking:
            if self._follower is None:
                follower = ForgottenFollower(self._kafka, self._flow)
                try:
                    await asyncio.to_thread(follower.catch_up)
                except BaseException:
                    follower.close()
                    raise
                self._follower = follower
            return self._follower.poll()

    async def _look(self) -> None:
        """Learns the number of partitions anew once a second. After a change, what was sent before arrives first: so
        that a trend's later observations cannot overtake its earlier ones, which stand in another partition."""
        async with self._looking:
            if self._view.age_s < LOOK_S:
                return
            try:
                changed = await asyncio.to_thread(self._view.refresh)
            except UnavailableError:
                if self._view.age_s < VIEW_S:
                    return
                raise
            if changed or self._kafka.partitions != self._view.growth.count:
                if self._sent:
                    await asyncio.wait(set(self._sent), timeout=2 * DELIVERY_TIMEOUT_S)
                grown = replace(self._kafka, partitions=self._view.growth.count)
                keyed = [self._address.name(s) for s in RAW]
                await asyncio.to_thread(learn_partitions, self._producer, keyed, grown.partitions)
                self._kafka = self._address.kafka = grown

    def _outgoing(self, observation: Observation) -> Outgoing:
        out = self._address.record(raw(observation.source), observation, observation.trend_id)
        size = len(out.value or b"")
        if size <= self._kafka.max_record_bytes:
            return out
        letter = unsent_letter(
            out.stream, observation.external_id, observation.trend_id, out.value or b"", Reason.TOO_LARGE,
            f"{size:,} bytes; a record may have {self._kafka.max_record_bytes:,}", self._flow, self._clock,
        )  # fmt: skip
        count_letters([letter])
        return self._address.dead_letters([letter])[0]

    async def define(self, definition: TrendDefinition) -> None:
        """Writes a tracked subject to the catalogue; connectors and stores follow it within a second."""
        await self._send([self._address.record(CATALOG, definition, definition.trend_id)])

    async def say(self, feedback: Feedback) -> None:
        """Writes what somebody says about a trend or two items; connectors, flows and stores follow within a second."""
        await self._send([self._address.record(FEEDBACK, feedback, feedback.key)])

    async def load_cursor(self, connector: str) -> bytes | None:
        """The connector's own JSON as it was saved last; None where there is none yet."""
        return await asyncio.to_thread(read_cursor, self._kafka, connector)

    async def save_cursor(self, connector: str, cursor: bytes, items: int) -> None:
        """Saves a cursor (JSON), after what it covers was acknowledged.

        Raises:
            UnavailableError: it was not acknowledged in time; the old one stands.
        """
        record = SourceCursor(connector=connector, cursor=msgspec.Raw(cursor), saved_at=self._clock(), items=items)
        await self._send([self._address.record(CURSORS, record, connector)])

    async def save_gap(self, gap: SourceGap) -> None:
        """Says when a source could not be read, or that it still cannot be.

        Raises:
            UnavailableError: it was not acknowledged in time.
        """
        await self._send([self._address.record(SOURCE_GAPS, gap, gap.key)])

    async def _send(self, batch: Sequence[Outgoing]) -> None:
        if not batch:
            return
        loop = asyncio.get_running_loop()
        acknowledged: asyncio.Future[None] = loop.create_future()
        self._sent.add(acknowledged)
        try:
            await self._produce(batch, acknowledged)
            await asyncio.wait_for(acknowledged, 2 * DELIVERY_TIMEOUT_S)
        except TimeoutError:
            raise UnavailableError(f"no acknowledgement from {self._kafka.bootstrap}") from None
        finally:
            acknowledged.cancel()
            self._sent.discard(acknowledged)

    async def _produce(self, batch: Sequence[Outgoing], acknowledged: asyncio.Future[None]) -> None:
        """Hands a batch to the producer; waits where its queue is full."""
        loop = asyncio.get_running_loop()

        def done(error: str | None) -> None:
            loop.call_soon_threadsafe(_settle, acknowledged, error)

        delivery = _Delivery(len(batch), done)
        deadline = time.monotonic() + DELIVERY_TIMEOUT_S
        for out in batch:
            while True:
                try:
                    self._producer.produce(
                        out.stream, out.value, out.key, out.partition,
                        on_delivery=delivery, headers=out.headers,  # type: ignore[arg-type]
                    )  # fmt: skip
                    break
                except BufferError:
                    if time.monotonic() > deadline:
                        raise UnavailableError(f"{self._kafka.bootstrap} takes nothing: the queue stays full") from None
                    await asyncio.sleep(0.02)
                except KafkaException as error:
                    raise UnavailableError(f"sending to {out.stream}: {error}") from None


def _settle(future: asyncio.Future[None], error: str | None) -> None:
    if future.done():  # cancelled meanwhile
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(UnavailableError(f"not acknowledged: {error}"))


def read_cursor(kafka: KafkaConfig, connector: str) -> bytes | None:
    """A cursor (JSON) as it was saved last; None where there is none yet.

    Raises:
        UnavailableError: the broker does not answer.
    """
    found: bytes | None = None

    def take(key: bytes, record: SourceCursor | None) -> None:
        nonlocal found
        if key == connector.encode():
            if record is not None:
                refuse_key(key, record.connector)
            found = None if record is None else bytes(record.cursor)

    reader = ControlReader(kafka, CURSORS, SourceCursor, take)
    try:
        reader.catch_up(lambda: None)
    finally:
        reader.close()
    return found


def read_catalogue(kafka: KafkaConfig, generation: str) -> dict[str, TrendDefinition]:
    """The newest definition of every tracked subject, by its trend, as of now."""
    known: dict[str, TrendDefinition] = {}
    follower = CatalogFollower(kafka, generation, lambda d: known.__setitem__(d.trend_id, d))
    try:
        follower.catch_up()
    finally:
        follower.close()
    return known


class CatalogFollower:
    """The catalogue of tracked subjects: first all of it, then every change. Call :meth:`poll` now and then."""

    def __init__(self, kafka: KafkaConfig, generation: str, update: Callable[[TrendDefinition], None]) -> None:
        self._update = update
        self._reader = ControlReader(kafka, CATALOG, TrendDefinition, self._take)

    def _take(self, key: bytes, definition: TrendDefinition | None) -> None:
        if definition is not None:
            refuse_key(key, definition.trend_id)
            self._update(definition)

    def catch_up(self) -> None:
        """Reads to the present end."""
        self._reader.catch_up(lambda: None)

    def poll(self, timeout_s: float = 0.0) -> int:
        """Applies what is new; the number of records."""
        return self._reader.poll(timeout_s)

    def close(self) -> None:
        """Leaves the broker."""
        self._reader.close()
