"""Records on the wire: golden bytes, schemas, evolution, and what happens to bytes that are no record."""

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import uuid5

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.codec import RecordError, decode, encode, headers_of, json_schema
from streams.ids import NAMESPACE, item_id_of, stable_id, topic_id_of
from streams.records import RECORD_TYPES, Engagement, Kind, Observation, Reason, Record
from streams.vectors import decode_vector, encode_vector
from tests.golden.make import GOLDEN, SCHEMAS, examples

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def observation(**changes: Any) -> Observation:
    fields: dict[str, Any] = {
        "item_id": item_id_of("rss", "1"), "source": "rss", "external_id": "1", "kind": Kind.POST, "title": "A title",
        "observed_at": AT, "published_at": AT, "trend_id": "term:title",
    }  # fmt: skip
    return Observation(**fields | changes)


@pytest.mark.parametrize("record", examples(), ids=lambda r: r.SCHEMA)
def test_bytes_on_the_wire_are_the_golden_ones(record: Record) -> None:
    golden = (GOLDEN / f"{record.SCHEMA}.json").read_bytes().rstrip(b"\n")
    assert encode(record) == golden
    assert decode(type(record), golden, headers_of(record)) == record


def test_every_record_type_has_a_golden_record() -> None:
    assert {type(r) for r in examples()} == set(RECORD_TYPES)


@pytest.mark.parametrize("kind", RECORD_TYPES, ids=lambda k: k.SCHEMA)
def test_exported_json_schema_is_the_golden_one(kind: type[Record]) -> None:
    assert json.loads(json.dumps(json_schema(kind))) == json.loads((SCHEMAS / f"{kind.SCHEMA}.schema.json").read_text())


@pytest.mark.parametrize("record", examples(), ids=lambda r: r.SCHEMA)
def test_readers_ignore_fields_that_they_do_not_know(record: Record) -> None:
    newer = json.loads(encode(record)) | {"added_in_a_later_release": {"x": [1]}}
    assert decode(type(record), json.dumps(newer, separators=(",", ":")).encode()) == record


@pytest.mark.parametrize("record", examples(), ids=lambda r: r.SCHEMA)
def test_record_id_is_stable_and_a_uuid(record: Record) -> None:
    again = decode(type(record), encode(record))
    assert again.record_id == record.record_id
    assert len(record.record_id) == 36


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", Reason.NOT_JSON),
        (b"not json", Reason.NOT_JSON),
        (b'{"title": "\xff"}', Reason.NOT_JSON),
        (b'{"title": "\\ud800"}', Reason.NOT_JSON),
        (b"[]", Reason.WRONG_TYPE),
        (b"{}", Reason.MISSING_FIELD),
        (b'{"new_field":' + b"[" * 100_000, Reason.INVALID_VALUE),
    ],
)
def test_rubbish_becomes_an_error_with_its_reason(value: bytes, reason: Reason) -> None:
    with pytest.raises(RecordError) as error:
        decode(Observation, value)
    assert error.value.reason is reason


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("title", 5, Reason.WRONG_TYPE),
        ("title", None, Reason.WRONG_TYPE),
        ("tags", "a", Reason.WRONG_TYPE),
        ("kind", "sonnet", Reason.INVALID_VALUE),
        ("observed_at", "yesterday", Reason.INVALID_VALUE),
        ("observed_at", "2026-03-01T12:00:00", Reason.INVALID_VALUE),
        ("item_id", "", Reason.INVALID_VALUE),
        ("external_id", "x" * 513, Reason.INVALID_VALUE),
        ("title", "x" * 10_001, Reason.INVALID_VALUE),
        ("url", "https://x.example/" + "x" * 8_192, Reason.INVALID_VALUE),
        ("tags", ["x"] * 101, Reason.INVALID_VALUE),
        ("engagement", {"points": 2**60}, Reason.INVALID_VALUE),
        ("engagement", {"points": 1.5}, Reason.WRONG_TYPE),
        ("title", "a\x00b", Reason.NUL_CHARACTER),
        ("tags", ["ok", "\x00"], Reason.NUL_CHARACTER),
    ],
)
def test_a_wrong_field_is_named_with_the_reason(field: str, value: Any, reason: Reason) -> None:
    raw = json.loads(encode(observation())) | {field: value}
    with pytest.raises(RecordError) as error:
        decode(Observation, json.dumps(raw).encode())
    assert error.value.reason is reason
    assert field in str(error.value)


@pytest.mark.parametrize("field", ["item_id", "source", "title", "observed_at", "trend_id"])
def test_a_missing_field_is_named(field: str) -> None:
    raw = json.loads(encode(observation()))
    del raw[field]
    with pytest.raises(RecordError, match=field) as error:
        decode(Observation, json.dumps(raw).encode())
    assert error.value.reason is Reason.MISSING_FIELD


def test_text_that_spells_a_nul_escape_is_no_nul() -> None:
    record = observation(title=r"what \u0000 means")
    assert decode(Observation, encode(record)) == record


@pytest.mark.parametrize(
    "headers", [[("schema", b"mention")], [("schema", b"observation"), ("schema-version", b"2")]]
)  # fmt: skip
def test_another_schema_or_version_is_refused(headers: list[tuple[str, bytes]]) -> None:
    with pytest.raises(RecordError) as error:
        decode(Observation, encode(observation()), headers)
    assert error.value.reason is Reason.UNKNOWN_SCHEMA


def test_times_are_utc_on_the_wire_whatever_their_offset_was() -> None:
    there = timezone(timedelta(hours=5, minutes=30))
    local = observation(observed_at=AT.astimezone(there))
    assert encode(local) == encode(observation())
    assert local.record_id == observation().record_id


def test_event_time_never_lies_after_the_observation() -> None:
    assert observation(published_at=AT + timedelta(days=9)).event_time == AT


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=80)
names = st.text("abcdefgh:-0123456789é", min_size=1, max_size=40)
counts = st.integers(-(2**53), 2**53)
times = st.datetimes(datetime(1, 1, 2), datetime(9998, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds it
observations = st.builds(
    observation,
    external_id=names, title=texts, body=texts, url=st.none() | texts, tags=st.lists(texts, max_size=3).map(tuple),
    published_at=times, observed_at=times, engagement=st.builds(Engagement, points=counts, views=counts),
    mentions=st.lists(names, max_size=2).map(tuple),
)  # fmt: skip


@given(observations)
def test_what_is_encoded_is_decoded(record: Observation) -> None:
    assert decode(Observation, encode(record), headers_of(record)) == record


@given(st.binary(max_size=300))
def test_any_bytes_are_a_record_or_a_record_error(value: bytes) -> None:
    with pytest.raises(RecordError):
        decode(Observation, value)


@given(st.lists(texts, min_size=1, max_size=4), st.lists(texts, min_size=1, max_size=4))
def test_ids_are_equal_only_for_equal_parts(a: list[str], b: list[str]) -> None:
    if "\x1f" not in "".join(a + b):
        assert (stable_id(*a) == stable_id(*b)) == (a == b)


@given(st.lists(texts, min_size=1, max_size=4))
def test_ids_are_uuids_of_version_5(parts: list[str]) -> None:
    assert stable_id(*parts) == str(uuid5(NAMESPACE, "\x1f".join(parts)))


def test_ids_never_change() -> None:
    item_id = item_id_of("hackernews", "1")
    assert item_id == "d0313026-c004-52a9-8819-8d2cc4f4c63d"
    assert topic_id_of("g1", item_id) == "db7d8846-9776-5e79-ac98-aeabf85cb9ed"


@given(st.lists(st.floats(-1, 1, width=16), min_size=1, max_size=50))
def test_vectors_travel_as_float16_exactly(values: list[float]) -> None:
    vector = np.array(values, np.float32)
    assert (decode_vector(encode_vector(vector), len(values)) == vector).all()


@pytest.mark.parametrize("text", ["%%%", "AAAA", encode_vector(np.array([np.inf], np.float32))])
def test_a_vector_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="vector"):
        decode_vector(text, 1)


def test_schemas_tell_what_a_time_is() -> None:
    schema = json_schema(Observation)
    assert schema["x-schema-version"] == 1
    assert schema["$defs"]["Observation"]["properties"]["observed_at"]["format"] == "date-time"
