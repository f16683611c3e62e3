"""One process of the `kafka` benchmark: copies a stream by the transactional pair, or by Bytewax's own source and sink.

Prints one line of JSON: records, and the seconds from the start of the dataflow until everything was acknowledged.
"""

from __future__ import annotations

import argparse
import json
import time

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource, KafkaSourceMessage
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from streams.config import KafkaConfig
from streams.io import Outbox, Outgoing, Positions
from streams.session import Session
from streams.sink import TICK
from streams.sink import KafkaSink as PairSink
from streams.source import KafkaSource as PairSource
from streams.spec import FlowSpec
from streams.table import Stream

GENERATION = "bench"
SOURCE = Stream("copy.in", "key", None, "what is copied")
TARGET = Stream("copy.out", "key", None, "the copy")
_TUNING = {"linger.ms": "5", "compression.type": "lz4"}


def pair(kafka: KafkaConfig, process: str, records: int) -> float:
    """Seconds of the pair: group membership, transactions, offsets committed with them."""

    class Counted(Session):
        done = 0

        def commit(self, records: object, positions: Positions) -> int:
            self.done += super().commit(records, positions)  # type: ignore[arg-type]
            if self.done >= total:
                self.stop()
            return 0

    total = records
    session = Counted(kafka, GENERATION, FlowSpec("copy", (SOURCE,), ordered=False), process)
    target = session.address.name(TARGET)

    def copy(chunk: object) -> tuple[str, Outbox]:
        out = Outbox(chunk.positions)  # type: ignore[attr-defined]
        for m in chunk.messages:  # type: ignore[attr-defined]
            out.records.append(Outgoing(target, m.partition(), m.key(), m.value()))
        return "only", out

    flow = Dataflow("copy")
    op.output("out", op.map("copy", op.input("in", flow, PairSource(session)), copy), PairSink(session))
    session.open()
    began = time.perf_counter()
    cli_main(flow, epoch_interval=TICK)  # type: ignore[no-untyped-call]
    seconds = time.perf_counter() - began
    session.close()
    if session.failure:
        raise session.failure
    return seconds


def stock(kafka: KafkaConfig) -> float:
    """Seconds of the stock source and sink, which commit nothing and recover nothing."""
    source = KafkaSource(
        [kafka.bootstrap], [SOURCE.physical(kafka, GENERATION)], tail=False,
        add_config={"isolation.level": "read_committed"},
    )  # fmt: skip
    sink = KafkaSink([kafka.bootstrap], TARGET.physical(kafka, GENERATION), add_config=_TUNING)

    def copy(message: object) -> KafkaSinkMessage[bytes | None, bytes | None]:
        assert isinstance(message, KafkaSourceMessage)
        return KafkaSinkMessage(message.key, message.value)

    flow = Dataflow("copy")
    op.output("out", op.map("copy", op.input("in", flow, source), copy), sink)
    began = time.perf_counter()
    cli_main(flow)  # type: ignore[no-untyped-call]
    return time.perf_counter() - began


def main() -> None:
    """Run one copy."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=["pair", "stock"])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--stack", required=True)
    parser.add_argument("--process", default="copy-0")
    parser.add_argument("--records", type=int, required=True)
    args = parser.parse_args()
    kafka = KafkaConfig(args.bootstrap, stack=args.stack)
    seconds = pair(kafka, args.process, args.records) if args.way == "pair" else stock(kafka)
    print(json.dumps({"way": args.way, "records": args.records, "seconds": seconds}))


if __name__ == "__main__":
    main()
