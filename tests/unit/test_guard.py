"""A record that our own code fails on becomes a dead letter, in flows with and without memory; never their end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.guard import Decoded, Guard
from streams.codec import decode, encode
from streams.config import KafkaConfig
from streams.dead_letters import IN_A_ROW, Decoder, Received
from streams.errors import FailureLimitError, MemoryUnknown, UnavailableError
from streams.failures import Failures
from streams.io import Addresser, Chunk, Outbox, Outgoing
from streams.records import DeadLetter, Observation, Reason, TrendDefinition

AT = datetime(2026, 3, 1, tzinfo=UTC)
STREAM = "count.in"


class Message:
    def __init__(self, offset: int, value: bytes = b"") -> None:
        self._offset, self._value = offset, value

    def topic(self) -> str:
        return STREAM

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self._offset

    def timestamp(self) -> tuple[int, int]:
        return 2, int(AT.timestamp() * 1000)

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return self._value

    def headers(self) -> None:
        return None


class Session:
    """What a guard needs of one."""

    def __init__(self) -> None:
        self.failures = Failures()
        self.address = Addresser(KafkaConfig("nowhere:9"), "g1")
        self.spec = type("Spec", (), {"name": "count"})


def record(number: int) -> TrendDefinition:
    return TrendDefinition(trend_id=f"k{number}", title="x", updated_at=AT, version=number)


def chunk(offsets: Sequence[int]) -> Decoded[TrendDefinition]:
    oks = [Received(record(o), Message(o, encode(record(o)))) for o in offsets]
    return Decoded(oks, [], {(STREAM, 0): offsets[-1] + 1})


class Adding:
    """A step with memory: a running sum, spoilt by a failure in the middle of a chunk."""

    def __init__(self, session: Session, bad: set[int], total: int = 0) -> None:
        self.session, self.bad, self.total = session, bad, total

    def __call__(self, decoded: Decoded[TrendDefinition]) -> Outbox:
        out = Outbox(decoded.positions, self.session.address.dead_letters(decoded.errs))
        for received in decoded.oks:
            self.total += received.record.version
            if received.record.version in self.bad:
                raise ZeroDivisionError(f"at {received.record.version}")
            out.records.append(Outgoing("out", 0, b"sum", b"%d" % self.total))
        return out


def letters_of(records: Sequence[Outgoing]) -> list[DeadLetter]:
    return [decode(DeadLetter, out.value) for out in records if out.stream == "dead.letters"]


def from_the_log(session: Session, bad: set[int], offsets: Sequence[int], sizes: Callable[[], int]) -> list[Outgoing]:
    """As ``flows.runtime.run`` does it: at each MemoryUnknown fresh memory from what is committed, then read again."""
    committed: list[Outgoing] = []
    done, total, readings = 0, 0, 0
    while done < len(offsets):
        readings += 1
        assert readings <= 2 * len(bad) + 2, "a bad record costs two readings at most"
        guard = Guard(session, Adding(session, bad, total), stateless=False)  # type: ignore[arg-type]
        try:
            while done < len(offsets):
                part = offsets[done : done + sizes()]
                out = guard(chunk(part))
                committed += out.records
                done += len(part)
                total = int(next((o.value for o in reversed(committed) if o.stream == "out"), None) or b"0")
        except MemoryUnknown:
            continue
    return committed


@given(st.sets(st.integers(0, 59), max_size=8), st.data())
def test_a_flow_with_memory_loses_its_bad_records_alone_and_remembers_all_others(bad: set[int], data: Any) -> None:
    session = Session()
    committed = from_the_log(session, bad, range(60), lambda: data.draw(st.integers(1, 20)))
    good = [n for n in range(60) if n not in bad]
    sums = [int(o.value or b"") for o in committed if o.stream == "out"]
    assert sums == [sum(good[: i + 1]) for i in range(len(good))]
    letters = letters_of(committed)
    assert sorted(letter.offset for letter in letters) == sorted(bad)
    assert {letter.reason for letter in letters} <= {Reason.OUR_FAILURE}
    assert all("ZeroDivisionError" in letter.error for letter in letters)


@given(st.sets(st.integers(0, 99), max_size=10))
def test_a_flow_without_memory_is_asked_again_by_halves_and_keeps_the_order(bad: set[int]) -> None:
    session, asked = Session(), []

    def step(decoded: Decoded[TrendDefinition]) -> Outbox:
        asked.append(len(decoded.oks))
        if any(r.record.version in bad for r in decoded.oks):
            raise ZeroDivisionError
        return Outbox(decoded.positions, [Outgoing("out", 0, b"k", b"%d" % r.record.version) for r in decoded.oks])

    out = Guard(session, step, stateless=True)(chunk(range(100)))  # type: ignore[arg-type]
    assert [int(o.value or b"") for o in out.records if o.stream == "out"] == [n for n in range(100) if n not in bad]
    assert {letter.offset for letter in letters_of(out.records)} == bad
    assert out.positions == {(STREAM, 0): 100}
    assert len(asked) <= 1 + 2 * len(bad) * 7  # 2·log2(100) for each


def test_what_was_raised_on_purpose_is_no_record_s_fault() -> None:
    def step(decoded: Decoded[TrendDefinition]) -> Outbox:
        raise UnavailableError("the store is away")

    for stateless in (True, False):
        with pytest.raises(UnavailableError):
            Guard(Session(), step, stateless=stateless)(chunk(range(4)))  # type: ignore[arg-type]


def test_code_that_fails_on_every_record_stops_the_flow() -> None:
    def step(decoded: Decoded[TrendDefinition]) -> Outbox:
        raise ZeroDivisionError

    with pytest.raises(FailureLimitError, match="200 in a row"):
        Guard(Session(), step, stateless=True)(chunk(range(512)))  # type: ignore[arg-type]
    session = Session()
    for _ in range(IN_A_ROW):
        with pytest.raises(MemoryUnknown):
            Guard(session, step, stateless=False)(chunk(range(512)))  # type: ignore[arg-type]
    with pytest.raises(FailureLimitError, match=f"{IN_A_ROW} records of one chunk"):
        Guard(session, step, stateless=False)(chunk(range(512)))  # type: ignore[arg-type]


def test_bad_records_that_come_one_by_one_for_ever_stop_a_flow_with_memory_too() -> None:
    session = Session()
    with pytest.raises(FailureLimitError, match="of the last 1000"):
        from_the_log(session, set(range(0, 6_000, 2)) | set(range(1, 6_000, 10)), range(6_000), lambda: 4)


def test_a_decoder_that_fails_unexpectedly_or_meets_a_giant_makes_a_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder: Decoder[Observation] = Decoder({STREAM: Observation}, "embed", 1_000)
    _, (letter,) = decoder(Chunk([Message(3, b"x" * 1_001)], {}))
    assert letter.reason is Reason.TOO_LARGE

    def broken(*_: object) -> None:
        raise KeyError("no such thing")

    monkeypatch.setattr("streams.dead_letters.decode", broken)
    _, (letter,) = decoder(Chunk([Message(4, b"{}")], {}))
    assert (letter.reason, letter.offset) == (Reason.OUR_FAILURE, 4)
