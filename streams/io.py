"""What travels between the steps of a flow: chunks of messages in, outboxes of messages out, offsets with both."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from msgspec.structs import replace

from streams.codec import Headers, encode, headers_of
from streams.config import KafkaConfig
from streams.keys import partition_of
from streams.records import DeadLetter, Record
from streams.table import DEAD_LETTERS, Stream

Partition: TypeAlias = tuple[str, int]
"""A stream's name on the broker, and a partition of it."""
Positions: TypeAlias = dict[Partition, int]
"""The next offset to read, by partition."""


class Outgoing(NamedTuple):
    """One message to write."""

    stream: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Messages as they came from the broker (never errors among them), and the positions after them."""

    messages: list[Any]
    positions: Positions


@dataclass(frozen=True, slots=True)
class Outbox:
    """What one chunk became. ``positions`` are committed together with ``records``, or neither is."""

    positions: Positions
    records: list[Outgoing] = field(default_factory=list)


class Addresser:
    """Addresses records: the stream's name on the broker, the partition of the trend, key, headers."""

    def __init__(self, kafka: KafkaConfig, generation: str) -> None:
        self.kafka = kafka
        self.generation = generation
        self._names: dict[str, str] = {}

    def name(self, stream: Stream) -> str:
        """The stream's name on the broker."""
        if stream.name not in self._names:
            self._names[stream.name] = stream.physical(self.kafka, self.generation)
        return self._names[stream.name]

    def record(self, stream: Stream, record: Record, key: str, placed_by: str | None = None) -> Outgoing:
        """A record under ``key``; in the partition of ``placed_by`` (a trend_id) where that is not the key."""
        partition = partition_of(placed_by or key, stream.count(self.kafka))
        return Outgoing(self.name(stream), partition, key.encode(), encode(record), headers_of(record))

    def state(self, stream: Stream, partition: int, key: bytes, value: bytes | None) -> Outgoing:
        """A state record; None deletes the key."""
        return Outgoing(self.name(stream), partition, key, value)

    def dead_letters(self, letters: Iterable[DeadLetter]) -> list[Outgoing]:
        """Dead letters under their ids, so that repeats of one collapse; cut where they would not fit their stream."""
        return [self._letter(letter) for letter in letters]

    def _letter(self, letter: DeadLetter) -> Outgoing:
        out = self.record(DEAD_LETTERS, letter, letter.letter_id)
        most = DEAD_LETTERS.record_limits * self.kafka.max_record_bytes
        if len(out.value or b"") <= most:
            return out
        # 4 characters of base64 are 3 bytes, so a whole number of them is still base64.
        cut = replace(letter, value=(letter.value or "")[: most // 8 * 4], headers=(), header_bytes=None, whole=False)
        out = self.record(DEAD_LETTERS, cut, letter.letter_id)
        return (
            out
            if len(out.value or b"") <= most
            else self.record(DEAD_LETTERS, replace(cut, key=None, value=None), letter.letter_id)
        )


def ranges(partitions: Iterable[Partition]) -> str:
    """``raw.rss/0-3,5 raw.file/0``: partitions for a person."""
    by_stream: dict[str, list[int]] = {}
    for stream, partition in sorted(partitions):
        by_stream.setdefault(stream, []).append(partition)
    return " ".join(f"{stream}/{spans(numbers)}" for stream, numbers in by_stream.items()) or "nothing"


def spans(numbers: Iterable[int]) -> str:
    """``0-3,5``: numbers, in ascending order, for a person."""
    found: list[list[int]] = []
    for n in numbers:
        if found and n == found[-1][1] + 1:
            found[-1][1] = n
        else:
            found.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in found)
