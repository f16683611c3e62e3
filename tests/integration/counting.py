"""Flows of the tests' own, run as processes: one counts keys, keeps the counts in state and writes each count out (by
processes, or with a role); one keeps nothing and only copies.
"""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka.admin import AdminClient, NewTopic

from flows.guard import Decoded
from flows.runtime import Wired, outbox, pipeline, run
from streams.config import KafkaConfig
from streams.io import Outbox, Outgoing
from streams.keys import partition_of
from streams.records import TrendDefinition
from streams.session import Session
from streams.spec import FlowSpec, Limits, OnGap
from streams.table import CLUSTER_ROLE, DEAD_LETTERS, GAPS, PARTITIONS, Stream

GENERATION = "g1"
IN = Stream("count.in", "key", TrendDefinition, "what is counted")
OUT = Stream("count.out", "key", None, "every count")
SINGLE_OUT = Stream("single.out", "key", None, "every count of the one process")
COPY_OUT = Stream("copy.out", "key", None, "a copy")
STATE = Stream("count.state", "key", None, "the counts", retention_ms=None)
SINGLE_STATE = Stream("count.single", "key", None, "the counts of the one process", partitions=2, retention_ms=None)
ALL = (IN, OUT, SINGLE_OUT, COPY_OUT, STATE, SINGLE_STATE, CLUSTER_ROLE, DEAD_LETTERS, GAPS, PARTITIONS)


def create(kafka: KafkaConfig, streams: Iterable[Stream] = ALL) -> None:
    new = [NewTopic(s.physical(kafka, GENERATION), s.count(kafka), 1, config=s.broker_config(kafka)) for s in streams]
    admin = AdminClient(kafka.client())
    for future in admin.create_topics(new).values():
        future.result(30)


def spec(single: bool, state_version: int = 1) -> FlowSpec:
    if single:
        return FlowSpec("single", (IN,), SINGLE_STATE, CLUSTER_ROLE, state_version=state_version)
    return FlowSpec(
        "count", (IN,), STATE, state_version=state_version,
        trend_of=lambda definition: definition.trend_id, state_trend_of=lambda key, _: key.decode(),
    )  # fmt: skip


class Counter:
    """The flow's step and its state."""

    def __init__(
        self,
        session: Session,
        sleep_s: float,
        bad: frozenset[int] = frozenset(),
        restore_s: float = 0.0,
        out: Stream = OUT,
    ) -> None:
        self._session = session
        self._out = out
        self._sleep_s = sleep_s
        self._bad = bad
        self._restore_s = restore_s
        self.counts: dict[bytes, int] = {}

    def restore(self, key: bytes, value: bytes | None) -> None:
        time.sleep(self._restore_s)
        if value is None:
            self.counts.pop(key)
        else:
            self.counts[key] = int(value)

    def __call__(self, decoded: Decoded[TrendDefinition]) -> Outbox:
        time.sleep(self._sleep_s * len(decoded.oks))
        out = outbox(decoded, self._session.address)
        state = self._session.spec.state
        assert state is not None
        touched: set[bytes] = set()
        for received in decoded.oks:
            key = received.message.key()
            self.counts[key] = self.counts.get(key, 0) + 1
            if received.record.version in self._bad:
                raise ZeroDivisionError(f"cannot count {received.record.version}")
            touched.add(key)
            count = b"%d" % self.counts[key]
            out.records.append(self._write(key, count, received.record.version))
        for key in touched:
            place = self._session.place(key.decode()) % state.count(self._session.kafka)
            out.records.append(self._session.address.state(state, place, key, b"%d" % self.counts[key]))
        return out

    def _write(self, key: bytes, value: bytes, version: int) -> Outgoing:
        """With the number of the record that it was made of, to tell whether they came in order."""
        kafka, headers = self._session.kafka, [("version", b"%d" % version)]
        partition = partition_of(key.decode(), self._out.count(kafka))
        return Outgoing(self._session.address.name(self._out), partition, key, value, headers)


class Copier(Counter):
    """Writes the number of each record."""

    def __call__(self, decoded: Decoded[TrendDefinition]) -> Outbox:
        out = outbox(decoded, self._session.address)
        for received in decoded.oks:
            version = received.record.version
            out.records.append(self._write(received.message.key(), b"%d" % version, version))
        return out


class DiesInTheSplit(Session):
    """Killed when the state has been moved to a new partition, and the transaction is still open."""

    _splitting = 0

    def _split_one(self, *arguments: Any) -> None:
        self._splitting = 1
        super()._split_one(*arguments)

    def _may_write(self) -> None:
        super()._may_write()
        if self._splitting:
            self._splitting += 1
        if self._splitting == 3:
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--single", action="store_true")
    parser.add_argument("--copy", action="store_true")
    parser.add_argument("--own-out", action="store_true", help="not all of them into one stream")
    parser.add_argument("--die-in-split", action="store_true")
    parser.add_argument("--sleep-s", type=float, default=0.0)
    parser.add_argument("--restore-s", type=float, default=0.0, help="that each record of the state takes")
    parser.add_argument("--broker-gone-s", type=float, default=60.0)
    parser.add_argument("--bad", type=int, nargs="*", default=[], help="records that it fails on, in the middle")
    parser.add_argument("--transaction-s", type=float, default=20.0)
    parser.add_argument("--session-timeout-ms", type=int, default=3_000)
    parser.add_argument("--state-version", type=int, default=1)
    parser.add_argument("--on-gap", type=OnGap, default=OnGap.STOP)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    kafka = KafkaConfig(args.bootstrap, stack=args.stack, partitions=args.partitions,
                        session_timeout_ms=args.session_timeout_ms, transaction_timeout_ms=10_000)  # fmt: skip
    limits = Limits(commit_records=2_000, chunk_records=200, broker_gone_s=args.broker_gone_s,
                    transaction_s=args.transaction_s)  # fmt: skip

    def wire(session: Session) -> Wired:
        if args.copy:
            return Wired(pipeline(session, Copier(session, args.sleep_s, out=COPY_OUT), stateless=True))
        out = SINGLE_OUT if args.single and args.own_out else OUT
        counter = Counter(session, args.sleep_s, frozenset(args.bad), args.restore_s, out)
        return Wired(pipeline(session, counter), counter.restore)

    kind = DiesInTheSplit if args.die_in_split else Session
    which = FlowSpec("copy", (IN,)) if args.copy else spec(args.single, args.state_version)
    session = kind(kafka, GENERATION, which, args.name, limits, args.on_gap)
    return run(session, wire)


if __name__ == "__main__":
    sys.exit(main())
