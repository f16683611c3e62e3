"""Merged reading: the order in which items were observed, or arrived, whatever order they were fetched in."""

from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError
from hypothesis import given
from hypothesis import strategies as st

from streams.codec import HEADER_SEEN_MS
from streams.merge import PAUSE_RECORDS, REORDER_S, REPLAY_WAIT_S, WAIT_S, Merge
from tests.unit.conftest import Clock

STREAM = "in"


class Message:
    def __init__(
        self, partition: int, offset: int, at: int, end: bool = False, size: int = 100, seen: bytes | None = None
    ) -> None:
        self._partition, self._offset, self._at, self._end, self._size = partition, offset, at, end, size
        self._headers = None if seen is None else [("schema", b"made"), (HEADER_SEEN_MS, seen)]

    def __len__(self) -> int:
        return self._size

    def topic(self) -> str:
        return STREAM

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 2, self._at

    def headers(self) -> Any:
        return self._headers

    def error(self) -> Any:
        return KafkaError(KafkaError._PARTITION_EOF) if self._end else None


class Consumer:
    """Remembers what is paused."""

    def __init__(self) -> None:
        self.paused: set[int] = set()

    def pause(self, partitions: Iterable[Any]) -> None:
        self.paused |= {p.partition for p in partitions}

    def resume(self, partitions: Iterable[Any]) -> None:
        self.paused -= {p.partition for p in partitions}


def merge(partitions: int, clock: Clock | None = None) -> tuple[Merge, Consumer]:
    consumer = Consumer()
    return Merge(consumer, [(STREAM, p) for p in range(partitions)], clock or Clock()), consumer


logs = st.lists(st.lists(st.integers(1, 1_000), max_size=30).map(sorted), min_size=1, max_size=5)


@given(logs, st.integers(1, 7), st.randoms(use_true_random=False))
def test_records_go_on_by_arrival_time_and_none_is_lost(logs: list[list[int]], bite: int, rng: Any) -> None:
    merged, _ = merge(len(logs))
    feeds = [
        [Message(p, i, at) for i, at in enumerate(log)] + [Message(p, len(log), 0, end=True)]
        for p, log in enumerate(logs)
    ]
    out: list[Any] = []
    while any(feeds):
        feed = rng.choice([f for f in feeds if f])
        bites, feed[:bite] = feed[:bite], []
        out += merged.take(bites, most=5)
    for _ in range(sum(map(len, logs)) + len(logs)):
        out += merged.take([], most=5)
    records = [m for m in out if not m.error()]
    assert [m.timestamp()[1] for m in records] == sorted(at for log in logs for at in log)
    for p, log in enumerate(logs):
        assert [m.offset() for m in out if m.partition() == p] == list(range(len(log) + 1))


def test_a_partition_that_brings_nothing_holds_the_others_back_only_for_a_while() -> None:
    clock = Clock()
    merged, _ = merge(2, clock)
    fetched = [Message(0, i, i + 1) for i in range(10)]
    assert merged.take(fetched, most=100) == []
    clock.now += WAIT_S / 2
    assert merged.take([], most=100) == []
    clock.now += WAIT_S
    assert merged.take([], most=100) == fetched


def test_a_partition_far_ahead_is_paused_and_resumed() -> None:
    clock = Clock()
    merged, consumer = merge(2, clock)
    merged.take([Message(0, i, i + 1) for i in range(PAUSE_RECORDS)], most=100)
    assert consumer.paused == {0}
    assert (merged.waiting, merged.bound) == (PAUSE_RECORDS, 2 * PAUSE_RECORDS)
    clock.now += 2 * WAIT_S
    merged.take([], most=100)
    clock.now += 2 * WAIT_S
    while merged.take([], most=500):
        pass
    assert consumer.paused == set()


def test_a_few_large_records_pause_their_partition_too() -> None:
    clock = Clock()
    merged, consumer = merge(2, clock)
    merged.take([Message(0, i, i + 1, size=1_048_576) for i in range(5)], most=100)
    assert consumer.paused == {0}
    clock.now += 2 * WAIT_S
    while merged.take([], most=1):
        clock.now += 2 * WAIT_S
    assert consumer.paused == set()


def test_ends_go_on_at_once_although_another_partition_is_waited_for() -> None:
    merged, _ = merge(2)
    end = Message(0, 5, 0, end=True)
    assert merged.take([end], most=10) == [end]


def test_a_partition_that_is_added_later_is_read_with_the_others() -> None:
    merge = Merge(Consumer(), [(STREAM, 0)])
    assert len(merge.take([Message(0, 0, at=10)], 10)) == 1
    merge.add((STREAM, 1))
    out = merge.take([Message(0, 1, at=30), Message(1, 0, at=20)], 10)
    assert [(m.partition(), m.offset()) for m in out] == [(1, 0)]  # what may follow it is waited for


def in_order(*messages: Message) -> list[str]:
    """The headers ``seen`` of what two partitions bring, in the order in which it goes on."""
    clock = Clock()
    merged, _ = merge(2, clock)
    out = merged.take([*messages, *(Message(p, 9, 0, end=True) for p in (0, 1))], most=100)
    clock.now += REPLAY_WAIT_S
    out += merged.take([], most=100)
    return [dict(m.headers())[HEADER_SEEN_MS].decode() for m in out if not m.error()]


def test_what_was_written_at_once_goes_on_as_it_was_observed() -> None:
    now = 1_800_000_000_000
    seen = [now - 9_000 + n for n in range(8)]
    messages = [Message(n % 2, n, now + n % 2, seen=b"%d" % at) for n, at in enumerate(seen)]
    assert in_order(*sorted(messages, key=lambda m: m.partition())) == [str(at) for at in seen]


def test_an_archive_does_not_go_before_everything_that_happens_now_and_the_future_is_now() -> None:
    now, window = 1_800_000_000_000, int(REORDER_S * 1_000)
    old, live, wrong, later = b"1000", b"%d" % now, b"%d" % (now + 10**9), b"%d" % (now + 2)
    assert in_order(
        Message(0, 0, now, seen=live),
        Message(1, 0, now + window - 1, seen=old), Message(1, 1, now + window + 1, seen=old),
    ) == ["1000", live.decode(), "1000"]  # fmt: skip
    assert in_order(Message(0, 0, now + 1, seen=wrong), Message(1, 0, now + 2, seen=later)) == [
        wrong.decode(), later.decode(),
    ]  # fmt: skip


def test_a_replay_waits_for_a_partition_whose_writer_is_slower_and_live_records_do_not() -> None:
    clock = Clock()
    merged, _ = merge(2, clock)
    now = 1_800_000_000_000

    def bring(partition: int, offset: int, seen: int, arrived: int = now) -> list[int]:
        end = Message(partition, offset + 1, 0, end=True)
        out = merged.take([Message(partition, offset, arrived, seen=b"%d" % seen), end], most=100)
        return [m.offset() for m in out if not m.error()]

    merged.take([Message(0, 0, 0, end=True)], most=100)
    assert bring(1, 10, 1_000) == [10]  # nothing has ever come from the other
    assert bring(0, 1, 2_000) == []
    assert bring(0, 2, 4_000) == []
    assert bring(1, 11, 3_000) == [1, 11]
    clock.now += REPLAY_WAIT_S / 2
    assert merged.take([], most=100) == []
    clock.now += REPLAY_WAIT_S / 2
    assert [m.offset() for m in merged.take([], most=100) if not m.error()] == [2]
    assert bring(0, 3, 5_000) == [3]  # the other has brought nothing for long
    assert bring(1, 12, now - 1) == [12]
    assert bring(0, 4, 6_000) == []


@given(st.binary(max_size=40))
def test_whatever_stands_in_the_header_the_record_goes_on(seen: bytes) -> None:
    merged, _ = merge(1)
    assert len(merged.take([Message(0, 0, 5, seen=seen)], most=10)) == 1
