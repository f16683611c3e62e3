"""Redriven records: where they go, and who reads them again."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import pytest

from streams.codec import HEADER_REDRIVEN_FOR, HEADER_REDRIVEN_FROM, encode, headers_of
from streams.config import KafkaConfig
from streams.dead_letters import Decoder, letter_of
from streams.io import Chunk
from streams.keys import partition_of
from streams.letters import LetterBox, Places, Selection
from streams.records import DeadLetter, Mention, Observation, Reason, TopicUpdate
from streams.table import EMBEDDED, MENTIONS, RAW
from tests.golden.make import examples

EXAMPLES = {type(record): record for record in examples()}
KAFKA = KafkaConfig("nowhere:9", stack="s", partitions=8)


class Message:
    def __init__(self, stream: str, record: Any, *headers: tuple[str, bytes]) -> None:
        self._stream, self._value, self._headers = stream, encode(record), [*headers_of(record), *headers]

    def topic(self) -> str:
        return self._stream

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 5

    def timestamp(self) -> tuple[int, int]:
        return 2, 1_800_000_000_000

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return self._value

    def headers(self) -> list[tuple[str, bytes]]:
        return self._headers


@pytest.mark.parametrize("flow", ["score", "store"])
def test_a_redriven_record_is_read_by_the_flow_that_gave_it_up_and_counted_by_no_other(flow: str) -> None:
    decoder: Decoder[Mention] = Decoder({"m": Mention}, flow)
    oks, errs = decoder(Chunk([Message("m", EXAMPLES[Mention], (HEADER_REDRIVEN_FOR, b"store"))], {}))
    assert (len(oks), errs) == (int(flow == "store"), [])


def test_nobody_hides_an_observation_by_a_header_that_anyone_can_set() -> None:
    decoder: Decoder[Observation] = Decoder({"r": Observation}, "embed")
    oks, _ = decoder(Chunk([Message("r", EXAMPLES[Observation], (HEADER_REDRIVEN_FOR, b"another"))], {}))
    assert len(oks) == 1


class Gone(Message):
    """A record that says that its key is gone."""

    def value(self) -> bytes:
        return None  # type: ignore[return-value]


def test_a_key_that_is_gone_from_a_compacted_stream_is_nothing_to_do_and_elsewhere_a_dead_letter() -> None:
    kinds = {"u": TopicUpdate, "m": Mention}
    decoder: Decoder[Any] = Decoder(kinds, "store")
    messages = [Gone("u", EXAMPLES[TopicUpdate]), Gone("m", EXAMPLES[Mention])]
    oks, errs = decoder(Chunk(messages, {}))
    assert oks == []
    assert [(e.stream, e.reason) for e in errs] == [("m", Reason.MISSING_FIELD)]


@pytest.mark.parametrize("headers", [{HEADER_REDRIVEN_FROM: b"\xff"}, {HEADER_REDRIVEN_FROM: b"x", "attempts": b"y"}])
def test_rubbish_in_the_history_is_no_history(headers: dict[str, bytes]) -> None:
    letter = letter_of(Message("r", EXAMPLES[Observation], *headers.items()), Reason.OUR_FAILURE, "e", "embed")
    assert (letter.attempts, letter.redriven_from) == (1, None)


def test_the_stream_of_a_letter_is_known_in_any_generation() -> None:
    places = Places(KAFKA)
    assert places.stream_of("s.raw.file") in RAW
    assert places.stream_of("s.g7.items.embedded") is EMBEDDED
    assert places.stream_of("s.g1.trends.mentions") is MENTIONS
    assert places.stream_of("g1.trends.mentions") is None
    assert places.stream_of("s.something.else") is None


@pytest.mark.parametrize(
    ("name", "kind", "trend"),
    [
        ("s.raw.rss", Observation, "term:orbit"),
        ("s.g1.trends.mentions", Mention, "term:moon"),
        ("s.g1.topics.updates", TopicUpdate, "term:orbit"),
    ],
)
def test_an_original_goes_to_the_partition_of_its_trend_as_it_is_now(name: str, kind: type, trend: str) -> None:
    box = LetterBox(KAFKA, "g1")
    box._places._counts = {name: 16}
    sent = box._original(letter_of(Message(name, EXAMPLES[kind]), Reason.OUR_FAILURE, "e", "score"))
    assert not isinstance(sent, str)
    assert sent.partition == partition_of(trend, 16)
    assert (sent.key, sent.value) == (b"k", encode(EXAMPLES[kind]))


def test_filters_add_up() -> None:
    letter = EXAMPLES[DeadLetter]
    assert isinstance(letter, DeadLetter)
    at = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
    for selection, holds in [
        (Selection(), True),
        (Selection(flows=frozenset({"embed"}), streams=frozenset({"rss"})), True),
        (Selection(streams=frozenset({"aw.rss"})), False),
        (Selection(since=at), True),
        (Selection(until=at), False),
        (Selection(partition=4), False),
        (Selection(reasons=frozenset({Reason.NOT_JSON}), text="MALFORMED"), True),
    ]:
        assert (letter in selection) == holds, selection
    assert base64.b64decode(letter.value or "") == b"not json"
