"""What people say: its keys, its versions, and what is taken back."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from streams.codec import RecordError, decode, encode
from streams.feedback import FeedbackBook
from streams.records import Feedback, FeedbackKind

AT = datetime(2026, 3, 1, tzinfo=UTC)
MUTED = Feedback(kind=FeedbackKind.MUTE, trend_id="term:giveaway", said_at=AT, version=1)


def take(book: FeedbackBook, feedback: Feedback) -> Feedback | None:
    return book.take(feedback.key.encode(), feedback)


def test_the_newest_word_on_a_matter_holds_and_an_older_one_that_comes_late_is_refused() -> None:
    book = FeedbackBook()
    assert take(book, MUTED) == MUTED
    back = replace(MUTED, active=False, version=2)
    assert take(book, back) == back
    with pytest.raises(RecordError, match="version 2"):
        take(book, MUTED)
    assert list(book.said) == [back]


def test_a_word_whose_key_is_gone_is_taken_back() -> None:
    book = FeedbackBook()
    take(book, MUTED)
    gone = book.take(MUTED.key.encode(), None)
    assert gone == replace(MUTED, active=False)
    assert book.take(MUTED.key.encode(), None) is None
    assert not list(book.said)


def test_a_word_under_another_key_is_refused() -> None:
    book = FeedbackBook()
    with pytest.raises(RecordError):
        book.take(b"mute/term:other", MUTED)
    assert not list(book.said)


def test_two_items_are_one_matter_whichever_is_named_first() -> None:
    one = Feedback(kind=FeedbackKind.MERGE, items=("a", "b"), said_at=AT, version=1)
    other = replace(one, items=("b", "a"))
    assert one.key == other.key
    assert one.feedback_id == other.feedback_id != MUTED.feedback_id


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": FeedbackKind.MUTE},
        {"kind": FeedbackKind.MUTE, "trend_id": "x", "items": ("a", "b")},
        {"kind": FeedbackKind.MERGE, "items": ("a",)},
        {"kind": FeedbackKind.MERGE, "items": ("a", "a")},
        {"kind": FeedbackKind.MERGE, "items": ("a", "b"), "trend_id": "x"},
    ],
)
def test_a_word_about_something_else_than_its_kind_is_none(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="about"):
        Feedback(said_at=AT, version=1, **fields)  # type: ignore[arg-type]
    value = encode(MUTED).replace(b'"trend_id":"term:giveaway"', b'"trend_id":null')
    with pytest.raises(RecordError):
        decode(Feedback, value)
