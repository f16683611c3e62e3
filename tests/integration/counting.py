"""A flow of the tests' own, run as a process: counts keys, keeps the counts in state, writes each count out."""

import argparse
import logging
import sys
import time
from collections.abc import Iterable

from confluent_kafka.admin import AdminClient, NewTopic

from flows.guard import Decoded
from flows.runtime import Wired, outbox, pipeline, run
from streams.config import KafkaConfig
from streams.io import Outbox, Outgoing
from streams.records import TrendDefinition
from streams.session import FlowSpec, Limits, OnGap, Session
from streams.table import CLUSTER_ROLE, DEAD_LETTERS, GAPS, Stream

GENERATION = "g1"
IN = Stream("count.in", "key", TrendDefinition, "what is counted")
OUT = Stream("count.out", "key", None, "every count")
STATE = Stream("count.state", "key", None, "the counts", retention_ms=None)
SINGLE_STATE = Stream("count.single", "key", None, "the counts of the one process", partitions=2, retention_ms=None)
ALL = (IN, OUT, STATE, SINGLE_STATE, CLUSTER_ROLE, DEAD_LETTERS, GAPS)


def create(kafka: KafkaConfig, streams: Iterable[Stream] = ALL) -> None:
    new = [NewTopic(s.physical(kafka, GENERATION), s.count(kafka), 1, config=s.broker_config(kafka)) for s in streams]
    admin = AdminClient(kafka.client())
    for future in admin.create_topics(new).values():
        future.result(30)


def spec(single: bool, state_version: int = 1) -> FlowSpec:
    if single:
        return FlowSpec("single", (IN,), SINGLE_STATE, CLUSTER_ROLE, state_version=state_version)
    return FlowSpec("count", (IN,), STATE, state_version=state_version)


class Counter:
    """The flow's step and its state."""

    def __init__(
        self, session: Session, sleep_s: float, bad: frozenset[int] = frozenset(), restore_s: float = 0.0
    ) -> None:
        self._session = session
        self._sleep_s = sleep_s
        self._bad = bad
        self._restore_s = restore_s
        self.counts: dict[bytes, int] = {}

    def restore(self, key: bytes, value: bytes | None) -> None:
        assert value is not None
        time.sleep(self._restore_s)
        self.counts[key] = int(value)

    def __call__(self, decoded: Decoded[TrendDefinition]) -> Outbox:
        time.sleep(self._sleep_s * len(decoded.oks))
        out = outbox(decoded, self._session.address)
        state = self._session.spec.state
        assert state is not None
        touched: dict[bytes, int] = {}
        for received in decoded.oks:
            key, partition = received.message.key(), received.message.partition()
            self.counts[key] = self.counts.get(key, 0) + 1
            if received.record.version in self._bad:
                raise ZeroDivisionError(f"cannot count {received.record.version}")
            touched[key] = partition
            count = b"%d" % self.counts[key]
            out.records.append(Outgoing(self._session.address.name(OUT), partition, key, count))
        for key, partition in touched.items():
            place = partition % state.count(self._session.kafka)
            out.records.append(self._session.address.state(state, place, key, b"%d" % self.counts[key]))
        return out


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--single", action="store_true")
    parser.add_argument("--sleep-s", type=float, default=0.0)
    parser.add_argument("--restore-s", type=float, default=0.0, help="that each record of the state takes")
    parser.add_argument("--broker-gone-s", type=float, default=60.0)
    parser.add_argument("--bad", type=int, nargs="*", default=[], help="records that it fails on, in the middle")
    parser.add_argument("--session-timeout-ms", type=int, default=3_000)
    parser.add_argument("--state-version", type=int, default=1)
    parser.add_argument("--on-gap", type=OnGap, default=OnGap.STOP)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    kafka = KafkaConfig(args.bootstrap, stack=args.stack, partitions=args.partitions,
                        session_timeout_ms=args.session_timeout_ms, transaction_timeout_ms=10_000)  # fmt: skip
    limits = Limits(commit_records=2_000, chunk_records=200, broker_gone_s=args.broker_gone_s)

    def wire(session: Session) -> Wired:
        counter = Counter(session, args.sleep_s, frozenset(args.bad), args.restore_s)
        return Wired(pipeline(session, counter), counter.restore)

    session = Session(kafka, GENERATION, spec(args.single, args.state_version), args.name, limits, args.on_gap)
    return run(session, wire)


if __name__ == "__main__":
    sys.exit(main())
