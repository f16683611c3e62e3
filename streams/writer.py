"""The writing half of a flow process: records, covers and offsets in one transaction, all of it or nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition

from streams.broker import in_transaction
from streams.errors import UnavailableError
from streams.io import Outgoing, Positions
from streams.partitions import learn_partitions
from streams.questions import CALL_TIMEOUT_S
from streams.spec import Limits

log = logging.getLogger(__name__)

ABORT_S: Final = 5.0
"""Bound on ending a transaction without its records."""


class Writer:
    """A transactional producer."""

    def __init__(self, config: dict[str, object], limits: Limits) -> None:
        self._producer: Any = Producer(config)
        self._limits = limits
        self._call_s = min(CALL_TIMEOUT_S, limits.transaction_s)

    def take_over(self, timeout_s: float) -> None:
        """Takes over the transactional id: whoever wrote under it is fenced, and what it left open is ended.

        Raises:
            KafkaException: it was not.
        """
        # A connection first: librdkafka looks for the transaction coordinator when it is asked to, and where no broker
        # is connected yet, again only half a second later.
        self._producer.list_topics(timeout=timeout_s)
        self._producer.init_transactions(timeout_s)

    def learn(self, streams: Iterable[str], count: int) -> None:
        """Learns that streams have ``count`` partitions.

        Raises:
            UnavailableError: the broker does not say so in time.
        """
        learn_partitions(self._producer, streams, count)

    def write(
        self,
        records: Iterable[Outgoing],
        covers: Iterable[Outgoing],
        positions: Positions,
        member: Callable[[], Any],
        check: Callable[[], None],
    ) -> int:
        """One transaction.

        Args:
            records: what the flow says.
            covers: what its state covers from then on.
            positions: the offsets that are committed with them, …
            member: … for whom: the consumer's group metadata, as it is when the records have been produced.
            check: raises where nothing may be committed after all; called when all has been appended.

        Returns:
            How many records were written, covers apart.

        Raises:
            KafkaException: nothing of it was committed (after an error of the commit itself it may have been).
            UnavailableError: the broker takes no records.
        """
        producer = self._producer
        producer.begin_transaction()
        try:
            count = self._produce(records)
            self._produce(covers)
            offsets = [TopicPartition(stream, p, offset) for (stream, p), offset in positions.items()]
            if offsets:
                whose = member()
                self._call(lambda: producer.send_offsets_to_transaction(offsets, whose, self._call_s))
            producer.flush(self._call_s)
            check()
            self._call(lambda: producer.commit_transaction(self._call_s))
        except BaseException:
            self._abort()
            raise
        return count

    def _call(self, call: Callable[[], None]) -> None:
        in_transaction(call, self._limits.transaction_s)

    def _produce(self, records: Iterable[Outgoing]) -> int:
        """Hands records to the producer; waits where its queue is full."""
        produce = self._producer.produce
        count = 0
        for stream, partition, key, value, headers in records:
            count += 1
            try:
                if headers is None:
                    produce(stream, value, key, partition)
                else:
                    produce(stream, value, key, partition, headers=headers)
            except BufferError:
                self._produce_when_free(stream, value, key, partition, headers)
            except KafkaException as error:
                if error.args[0].code() != KafkaError._UNKNOWN_PARTITION:
                    raise
                learn_partitions(self._producer, [stream], partition + 1)  # it has grown
                self._produce_when_free(stream, value, key, partition, headers)
        return count

    def _produce_when_free(self, *record: Any) -> None:
        deadline = time.monotonic() + self._limits.broker_gone_s
        while True:
            self._producer.poll(0.05)
            try:
                stream, value, key, partition, headers = record
                self._producer.produce(stream, value, key, partition, headers=headers)
                return
            except BufferError:
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        f"the producer's queue has been full for {self._limits.broker_gone_s:.0f} s"
                    ) from None

    def _abort(self) -> None:
        """Ends the transaction without its records. Where that fails too, the next start of this name does it."""
        try:
            self._producer.purge()
            self._producer.abort_transaction(ABORT_S)
        except KafkaException as error:
            log.warning("could not abort a transaction: %s", error)
