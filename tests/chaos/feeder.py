"""The feeder of a chaos run, as a process of its own: sends the world's messages at a rate, and may be killed.

What was acknowledged is journalled; started again, it goes on from there, as a connector does from its cursor: messages
that were sent and not acknowledged are sent again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaException, Producer

from streams.config import KafkaConfig
from streams.errors import UnavailableError
from streams.keys import partition_of
from streams.partitions import LOOK_S, VIEW_S, PartitionsView, learn_partitions
from streams.table import raw
from tests.chaos.world import SOURCE, World

JOURNAL_S: Final = 0.1
QUEUE_RECORDS: Final = 20_000
ACK_TIMEOUT_MS: Final = 120_000
ASK_S: Final = 1.0
"""How long the broker is waited for that is asked for the number of partitions."""
UNAVAILABLE: Final = 69


def acknowledged(journal: Path) -> int:
    """How many messages, from message 0 on without a gap, were acknowledged."""
    try:
        return int(json.loads(journal.read_text())["acknowledged"])
    except FileNotFoundError:
        return 0


class Feeder:
    """Sends messages in their order until it is told to stop."""

    def __init__(self, world: World, kafka: KafkaConfig, journal: Path, began: float, rate: float) -> None:
        self._world = world
        self._journal = journal
        self._began = began
        self._rate = rate
        self._count = 0
        """Partitions; none: not asked yet."""
        self._view = PartitionsView(kafka)
        self._stream = raw(SOURCE).physical(kafka, "")
        self._acked = acknowledged(journal)
        self._beyond: set[int] = set()
        self._failed: str | None = None
        self._stopping = False
        self._producer = Producer(
            kafka.client(
                **{
                    "enable.idempotence": True,
                    "linger.ms": 5,
                    "compression.type": "lz4",
                    "message.timeout.ms": ACK_TIMEOUT_MS,
                    "queue.buffering.max.messages": QUEUE_RECORDS,
                }
            )
        )

    def stop(self, *_: object) -> None:
        """Sends nothing new; what was sent is waited for."""
        self._stopping = True

    def run(self) -> int:
        """Until it is stopped: 0; where a message was not taken, 69."""
        number, journalled = self._acked, 0.0
        while not self._stopping and self._failed is None:
            due = int((time.time() - self._began) * self._rate) if self._knows_partitions() else 0
            while number < due and not self._stopping and self._send(number):
                number += 1
            self._producer.poll(0.01)
            if time.monotonic() - journalled > JOURNAL_S:
                self._write()
                journalled = time.monotonic()
        self._producer.flush(ACK_TIMEOUT_MS / 1000)
        self._write()
        if self._failed or self._acked < number:
            print(f"feeder: {number - self._acked} messages not acknowledged: {self._failed}", file=sys.stderr)
            return UNAVAILABLE
        return 0

    def _knows_partitions(self) -> bool:
        """Whether it is known where messages belong; looks once a second, as every publisher does. What was sent by a
        former number arrives before anything is sent by the new one."""
        if self._view.age_s >= LOOK_S:
            with contextlib.suppress(UnavailableError):
                self._view.refresh(ASK_S)
        if self._view.age_s >= VIEW_S:
            return False
        if (count := self._view.growth.count) != self._count:
            if self._producer.flush(ACK_TIMEOUT_MS / 1000):
                return False
            learn_partitions(self._producer, [self._stream], count)
            self._count = count
        return True

    def _send(self, number: int) -> bool:
        made = self._world.message(number)

        def done(error: Any, _message: Any) -> None:
            if error is not None:
                self._failed = str(error)
                return
            self._beyond.add(number)
            while self._acked in self._beyond:
                self._beyond.remove(self._acked)
                self._acked += 1

        try:
            self._producer.produce(
                self._stream, made.value, made.trend_id.encode(), partition_of(made.trend_id, self._count),
                on_delivery=done,
            )  # fmt: skip
        except BufferError:
            return False
        except KafkaException as error:
            self._failed = str(error)
            return False
        self._producer.poll(0)
        return True

    def _write(self) -> None:
        new = self._journal.with_name(f"{self._journal.name}.{os.getpid()}")
        new.write_text(json.dumps({"acknowledged": self._acked}))
        new.replace(self._journal)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--partitions", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--began", type=float, required=True, help="Unix time of message 0")
    parser.add_argument("--rate", type=float, required=True, help="messages a second")
    parser.add_argument("--journal", type=Path, required=True)
    args = parser.parse_args()
    world = world_of(args.seed, args.began, args.rate)
    kafka = KafkaConfig(args.bootstrap, partitions=args.partitions)
    feeder = Feeder(world, kafka, args.journal, args.began, args.rate)
    signal.signal(signal.SIGTERM, feeder.stop)
    return feeder.run()


def world_of(seed: int, began: float, rate: float) -> World:
    """The world of a run: message n was observed when it was due."""
    return World(seed, datetime.fromtimestamp(began).astimezone(), timedelta(seconds=1 / rate))


if __name__ == "__main__":
    sys.exit(main())
