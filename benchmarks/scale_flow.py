"""One flow process of the `scale` benchmark: the product's own flow, with work or latency added, or without its
transactions and state.

What is added here is no option of the product. Prints one line of JSON at its end: the wall clock of its last
commit.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from confluent_kafka import TopicPartition

from flows import embed, score, store
from flows.runtime import Wired, run
from models import scoring
from models.embed_step import EmbedEngine
from models.embedding.base import Floats
from models.embedding.null import NullEmbedder
from models.scoring import ScoringConfig, TrendScorer
from sinks.postgres import SyncWriter
from streams.clients import producer_config
from streams.errors import ExitCode
from streams.io import Outgoing, Positions
from streams.records import Record
from streams.session import Session
from streams.spec import FlowSpec, Limits
from streams.writer import Writer
from trends.flows import limits
from trends.health import FlowAccount, HealthServer
from trends.runfiles import announced
from trends.settings import Settings, load_settings

FLOWS: dict[str, FlowSpec] = {"embed": embed.SPEC, "store": store.SPEC, "score": score.SPEC}


class Measured(Session):
    """A session that knows when it last committed something."""

    last_commit = 0.0

    def commit(self, records: Iterable[Outgoing], positions: Positions) -> int:
        written = super().commit(records, positions)
        self.last_commit = time.time()
        return written


class Flushing(Writer):
    """A producer without transactions."""

    def take_over(self, timeout_s: float) -> None:
        """There is nobody to take over from."""

    def flush(self, records: Iterable[Outgoing]) -> int:
        count = self._produce(records)
        if left := self._producer.flush(60):
            raise RuntimeError(f"{left} records were not taken")
        return count


class Plain(Measured):
    """The same without transactions and without state: records are flushed, then offsets committed, at least once."""

    def __init__(self, *args: Any, state: str, **more: Any) -> None:
        super().__init__(*args, **more)
        self._left_out = self.address.kafka.id_of(self.generation, state)

    def _new_writer(self) -> Writer:
        config = producer_config(self.kafka, self.generation, self.spec, self.process, self.limits)
        del config["transactional.id"], config["transaction.timeout.ms"]
        return Flushing(config | {"enable.idempotence": True}, self.limits)

    def _write(self, records: Iterable[Outgoing], positions: Positions) -> int:
        assert isinstance(self._writer, Flushing)
        count = self._writer.flush(record for record in records if record.stream != self._left_out)
        offsets = [TopicPartition(stream, p, offset) for (stream, p), offset in positions.items()]
        if offsets:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        return count


class Working(NullEmbedder):
    """The null embedder, with so much work for each text as a model would have: time of the core, not of the clock."""

    def __init__(self, work_s: float) -> None:
        super().__init__()
        self._work_s = work_s

    def embed(self, texts: Sequence[str]) -> Floats:
        until = time.thread_time() + self._work_s * len(texts)
        vectors = super().embed(texts)
        while time.thread_time() < until:
            pass
        return vectors


class Distant(SyncWriter):
    """The writer, with a server that is a little further away: each batch waits before it is begun."""

    latency_s = 0.0

    def begin(self, batch: Sequence[Record]) -> Future[Any]:
        time.sleep(self.latency_s)
        return super().begin(batch)


def wire(session: Measured, args: argparse.Namespace, settings: Settings) -> Wired:
    """The product's flow, around what is measured."""
    if args.flow == "embed":
        return embed.wire(session, EmbedEngine(Working(args.work_us / 1e6)))
    if args.flow == "score":
        return score.wire(session, TrendScorer(ScoringConfig(), settings.generation))
    Distant.latency_s = args.latency_ms / 1e3
    vars(store)["SyncWriter"] = Distant  # the flow is wired as it is, with another writer
    return store.wire(session, settings.postgres())


def session_of(args: argparse.Namespace, settings: Settings, bounds: Limits) -> Measured:
    """The session: the product's, or without what it costs."""
    spec = FLOWS[args.flow]
    if not args.plain:
        return Measured(settings.kafka(), settings.generation, spec, args.name, bounds)
    assert spec.state is not None
    scoring._encode = lambda past: b""  # no state: none is encoded
    return Plain(
        settings.kafka(), settings.generation, replace(spec, state=None), args.name, bounds, state=spec.state.name
    )


def main() -> int:
    """Run one process until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("flow", choices=sorted(FLOWS))
    parser.add_argument("--name", required=True)
    parser.add_argument("--work-us", type=float, default=0.0, help="of the core, for each record (embed)")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="before each batch (store)")
    parser.add_argument("--batch", type=int, help="records of a batch at most (the product's setting)")
    parser.add_argument("--plain", action="store_true", help="without transactions and state (score)")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    settings = load_settings()
    bounds = limits(settings)
    session = session_of(args, settings, replace(bounds, chunk_records=args.batch or bounds.chunk_records))
    account = FlowAccount(session.status, settings.hang_s)
    with (
        HealthServer(settings.metrics_host, 0, account) as server,
        announced(settings.home, args.name, args.flow, server.address),
    ):
        code = run(session, lambda made: wire(session, args, settings))
    print(json.dumps({"last_commit": session.last_commit}), flush=True)
    return int(code or ExitCode.OK)


if __name__ == "__main__":
    sys.exit(main())
