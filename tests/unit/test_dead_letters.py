"""Dead letters: what they carry, and the limit that stops a bad deploy from emptying a stream into them."""

import base64
import hashlib
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.codec import decode, encode
from streams.dead_letters import HEAD_BYTES, WHOLE_BYTES, FailureLimit, letter_of, unsent_letter
from streams.errors import FailureLimitError
from streams.records import DeadLetter, Reason

AT = datetime(2026, 3, 1, tzinfo=UTC)
PARTITION = ("raw.rss", 3)


class Message:
    """What confluent-kafka hands out, with any bytes."""

    def __init__(self, value: bytes | None, key: bytes | None = b"k", headers: Any = None) -> None:
        self._value, self._key, self._headers = value, key, headers

    def topic(self) -> str:
        return PARTITION[0]

    def partition(self) -> int:
        return PARTITION[1]

    def offset(self) -> int:
        return 17

    def timestamp(self) -> tuple[int, int]:
        return 2, int(AT.timestamp() * 1000)

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> Any:
        return self._headers


def letter(message: Message, error: str = "because") -> DeadLetter:
    return letter_of(message, Reason.NOT_JSON, error, "embed", lambda: AT)


@given(st.none() | st.binary(max_size=2_000), st.text(max_size=300), st.none() | st.binary(max_size=20))
def test_any_message_becomes_a_letter_that_can_be_sent_and_carries_it_whole(
    value: bytes | None, error: str, header: bytes | None
) -> None:
    made = letter(Message(value, headers=[("h", header)]), error)
    again = decode(DeadLetter, encode(made))
    assert again == made
    assert made.letter_id == "raw.rss/3/17"
    assert (None if made.value is None else base64.b64decode(made.value)) == value
    assert made.logged_at == AT


def test_an_original_over_a_mebibyte_leaves_its_head_and_its_hash() -> None:
    value = b"x" * (WHOLE_BYTES + 1)
    made = letter(Message(value))
    assert base64.b64decode(made.value or "") == value[:HEAD_BYTES]
    assert made.value_bytes == len(value)
    assert made.value_sha256 == hashlib.sha256(value).hexdigest()


def test_a_record_that_was_never_sent_is_named_by_its_external_id() -> None:
    made = unsent_letter("raw.rss", "post-9", "term:x", b"{}", Reason.TOO_LARGE, "too large", "collect", lambda: AT)
    assert (made.letter_id, made.partition, made.offset) == ("raw.rss/post-9", -1, -1)


def test_two_hundred_failures_in_a_row_stop_the_flow() -> None:
    limit = FailureLimit()
    for _ in range(199):
        limit.note(PARTITION, failed=True)
    with pytest.raises(FailureLimitError, match="200 in a row"):
        limit.note(PARTITION, failed=True)


def test_more_than_half_of_the_last_thousand_stop_the_flow() -> None:
    limit = FailureLimit()
    for i in range(1_000):
        limit.note(PARTITION, failed=i % 2 == 0)
    limit.note(PARTITION, failed=True)  # the oldest, a failure, leaves: 500 of 1,000 still
    with pytest.raises(FailureLimitError, match="501 of the last 1000"):
        limit.note(PARTITION, failed=True)


def test_failures_of_one_partition_do_not_count_for_another_and_are_forgotten() -> None:
    limit = FailureLimit()
    for i in range(5_000):
        limit.note(("raw.file", i % 8), failed=i % 3 == 0)
    for _ in range(3):
        for _ in range(199):
            limit.note(PARTITION, failed=True)
        for _ in range(1_000):
            limit.note(PARTITION, failed=False)
