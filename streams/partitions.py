"""How many partitions the keyed streams have now, as ``pipeline.partitions`` says, and how a writer stays up to date.

A writer looks every ``LOOK_S`` and writes by what it knows for ``VIEW_S`` at most. So ``LEASE_S`` after a change was
appended nobody places a key by the old number any more, although nobody was asked.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streams.broker import passes, patiently
from streams.codec import RecordError, decode
from streams.config import KafkaConfig
from streams.dead_letters import headers_of_message
from streams.errors import StreamTableError, UnavailableError
from streams.growth import Growth, Step, growth_of
from streams.records import PartitionChange
from streams.table import PARTITIONS, Stream

LOOK_S: Final = 1.0
"""How often a writer asks whether there has been a change."""
VIEW_S: Final = 4.0
"""How old an answer may be that a writer still writes by."""
LEASE_S: Final = 6.0
"""From a change until nobody writes by the old number: ``VIEW_S``, and what the clocks of two brokers may differ by."""
CLOCKS_S: Final = 60.0
"""What this machine's clock may differ from a broker's by."""
ANSWER_S: Final = 5.0
"""Bound on one question to the broker."""
READ_S: Final = 30.0
"""Bound on reading the changes, a handful of records, to their end."""

_MISSING: Final = {
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
}


class PartitionsView:
    """What is known of the number of partitions, and since when. A stack without the stream has never grown."""

    def __init__(self, kafka: KafkaConfig, client: Consumer | None = None) -> None:
        """``client``: any consumer that is open anyway; without one the view has its own (see :meth:`close`)."""
        self._kafka = kafka
        self._stream = PARTITIONS.physical(kafka, "")
        self._own = None if client is not None else Consumer(kafka.client(**{"group.id": kafka.id_of("partitions")}))
        self._client: Any = client or self._own
        self._end = 0
        self.growth = Growth(kafka.partitions)
        self.fresh_at: float | None = None
        """Monotonic time at which a change that had been appended would have been seen. None: never asked."""
        self._seen_at: dict[Step, float] = {}

    def ask_through(self, client: Consumer) -> None:
        """Another client, the former one is closed."""
        self._client = client

    @property
    def age_s(self) -> float:
        """How old the view is; infinite before the first answer."""
        return float("inf") if self.fresh_at is None else time.monotonic() - self.fresh_at

    def refresh(self, timeout_s: float = ANSWER_S) -> bool:
        """Asks whether there has been a change.

        Returns:
            Whether there are other partitions than before.

        Raises:
            UnavailableError: no answer in time; what was known before stands.
        """
        asked_at = time.monotonic()
        try:
            end = patiently(lambda: self._find_end(timeout_s), timeout_s)
            growth = self.growth
            if end != self._end:
                growth = growth_of(self._kafka.partitions, self._changes(end))
        except KafkaException as error:
            raise UnavailableError(f"asking {self._kafka.bootstrap} for the partitions: {error}") from None
        changed = growth.count != self.growth.count
        for step in growth.steps:
            self._seen_at.setdefault(step, time.monotonic())
        self.growth, self._end, self.fresh_at = growth, end, asked_at
        return changed

    def over(self, step: Step) -> bool:
        """Whether nobody writes any more by the number before a growth."""
        seen_at = self._seen_at.get(step)
        if seen_at is not None and time.monotonic() - seen_at >= LEASE_S:
            return True  # it was appended before it was seen
        return time.time() - step.at_ms / 1000 >= LEASE_S + CLOCKS_S

    def _find_end(self, timeout_s: float) -> int:
        try:
            return int(self._client.get_watermark_offsets(TopicPartition(self._stream, 0), timeout_s)[1])
        except KafkaException as error:
            if error.args[0].code() not in _MISSING:
                raise
        # librdkafka may say so from memory; this asks the broker.
        known = self._client.list_topics(self._stream, timeout=timeout_s).topics[self._stream]
        if known.error is None:
            return int(self._client.get_watermark_offsets(TopicPartition(self._stream, 0), timeout_s)[1])
        if known.error.code() in _MISSING:
            return 0
        raise KafkaException(known.error)

    def _changes(self, end: int) -> list[tuple[PartitionChange, int]]:
        """All changes up to the offset ``end``, in log order."""
        reader: Any = Consumer(
            self._kafka.client(
                **{
                    "group.id": self._kafka.id_of("partitions"),  # never joined, never committed to
                    "enable.auto.commit": False,
                    "enable.partition.eof": True,
                    "auto.offset.reset": "earliest",
                    "fetch.wait.max.ms": 20,
                }
            )
        )
        found: list[tuple[PartitionChange, int]] = []
        position, deadline = 0, time.monotonic() + READ_S
        try:
            reader.assign([TopicPartition(self._stream, 0, 0)])
            while position < end:
                if time.monotonic() > deadline:
                    raise UnavailableError(f"reading {self._stream}: at {position} of {end} after {READ_S:.0f} s")
                for message in reader.consume(1_000, 0.2):
                    error = message.error()
                    if error is None:
                        found += self._decoded(message)
                    elif error.code() != KafkaError._PARTITION_EOF:
                        if not passes(error):
                            raise KafkaException(error)
                        continue
                    position = max(position, message.offset() + (error is None))
        finally:
            reader.close()
        return found

    @staticmethod
    def _decoded(message: Any) -> list[tuple[PartitionChange, int]]:
        try:
            return [(decode(PartitionChange, message.value(), headers_of_message(message)), message.timestamp()[1])]
        except RecordError:
            return []  # somebody else's rubbish: no change

    def close(self) -> None:
        """Leaves the broker, where the view has a client of its own."""
        if self._own is not None:
            self._own.close()


def learn_partitions(client: Any, streams: Iterable[str], count: int, for_s: float = READ_S) -> None:
    """Has a client (a producer, a consumer) learn that streams have ``count`` partitions; it knows only what it once
    asked for, and refuses to send to others.

    Raises:
        UnavailableError: the broker does not say so in time.
    """
    deadline = time.monotonic() + for_s
    for stream in streams:
        while True:
            found = 0
            with contextlib.suppress(KafkaException):
                found = len(client.list_topics(stream, timeout=ANSWER_S).topics[stream].partitions)
            if found >= count:
                break
            if time.monotonic() > deadline:
                raise UnavailableError(f"{stream} still has {found} partitions on the broker, {count} are recorded")
            time.sleep(0.05)


def miscounted(
    streams: Mapping[str, Stream], known: Mapping[str, Any], kafka: KafkaConfig, growth: Growth
) -> StreamTableError | None:
    """What is to be said where a stream does not have the number of partitions that keys are placed by. (While a growth
    is prepared it may have as many as are coming.)

    Args:
        streams: those that are needed, by their names on the broker.
        known: the broker's metadata, by name.
    """
    for name, stream in streams.items():
        if name not in known:
            return StreamTableError(f"stream {name} does not exist; create the streams with `trends streams apply`")
        found, wanted = len(known[name].partitions), stream.count(kafka)
        most = wanted if stream.partitions else max(wanted, growth.coming or 0)
        if wanted <= found <= most:
            continue
        if growth.steps:
            return StreamTableError(
                f"stream {name} has {found} partitions, {wanted} are recorded since the streams grew; "
                "`trends streams describe` shows all, `trends streams grow` says what to do"
            )
        return StreamTableError(
            f"stream {name} has {found} partitions, the settings say {wanted}; "
            "set TRENDS_KAFKA_PARTITIONS to what the streams have"
        )
    return None


def current(kafka: KafkaConfig) -> KafkaConfig:
    """The same configuration, with the number of partitions that the stack has now instead of the configured one.

    Whoever reads keyed streams (or places keys once) starts from this; who goes on writing keeps a view.

    Raises:
        UnavailableError: the broker does not answer.
    """
    return replace(kafka, partitions=growth(kafka).count)


def growth(kafka: KafkaConfig) -> Growth:
    """How the stack has grown, asked of the broker.

    Raises:
        UnavailableError: the broker does not answer.
    """
    view = PartitionsView(kafka)
    try:
        view.refresh(READ_S)
    finally:
        view.close()
    return view.growth
