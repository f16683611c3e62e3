"""Records to bytes and back, with the schema in the Kafka headers. Bad bytes become a RecordError with a Reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final, TypeVar

import msgspec

from streams.errors import TrendsError
from streams.records import Reason, Record

R = TypeVar("R", bound=Record)

Headers = list[tuple[str, bytes]]

HEADER_SCHEMA: Final = "schema"
HEADER_VERSION: Final = "schema-version"
HEADER_RECORD_ID: Final = "record-id"
HEADER_SEEN_MS: Final = "seen-ms"
"""When what the record says was observed, milliseconds since 1970: readers merge partitions by it."""
OWN_HEADERS: Final = 3
"""A record with no more headers than these was never redriven."""
HEADER_REDRIVEN_FROM: Final = "redriven-from"
"""Of a record that was sent again: the letter_id of its last failure …"""
HEADER_REDRIVEN_FOR: Final = "redriven-for"
"""… the flow that had given it up, which alone reads it again: the others have dealt with it …"""
HEADER_ATTEMPTS: Final = "attempts"
"""… how often it has failed …"""
HEADER_FIRST_LETTER: Final = "first-letter"
HEADER_FIRST_FAILED: Final = "first-failed-at"
"""… and its first failure."""
REDRIVE_HEADERS: Final = frozenset(
    {HEADER_REDRIVEN_FROM, HEADER_REDRIVEN_FOR, HEADER_ATTEMPTS, HEADER_FIRST_LETTER, HEADER_FIRST_FAILED}
)

_encoder = msgspec.json.Encoder()
_NUL_ESCAPE = b"\\u0000"


class RecordError(TrendsError):
    """Bytes that are no valid record: ``reason`` from the closed list, and one line for a person."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def refuse_key(key: bytes, expected: str) -> None:
    """That a record of a control stream stands under the key that it says itself.

    Raises:
        RecordError: it does not, so it may be about something else than what it replaces.
    """
    if key != expected.encode():
        raise RecordError(Reason.INVALID_VALUE, f"it is about {expected!r}, and stands under {key[:80]!r}")


def encode(record: Record) -> bytes:
    """The record as UTF-8 JSON; the fields in the order in which the type declares them."""
    return _encoder.encode(record)


@cache
def _schema_headers(kind: type[Record]) -> tuple[tuple[str, bytes], ...]:
    return ((HEADER_SCHEMA, kind.SCHEMA.encode()), (HEADER_VERSION, str(kind.VERSION).encode()))


def headers_of(record: Record) -> Headers:
    """The Kafka headers of a record: schema name, schema version, record id, and when it was observed."""
    headers = [*_schema_headers(type(record)), (HEADER_RECORD_ID, record.record_id.encode())]
    if (seen_at := record.seen_at) is not None:
        headers.append((HEADER_SEEN_MS, b"%d" % (seen_at.timestamp() * 1_000)))
    return headers


@cache
def _decoder(kind: type[Record]) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def decode(kind: type[R], value: bytes | None, headers: Sequence[tuple[str, Any]] | None = None) -> R:
    """One record of type ``kind`` from its bytes.

    A record without headers is taken for the current version, so that any JSON producer can write to raw streams.

    Raises:
        RecordError: with the reason, for whatever is wrong with the bytes.
    """
    if headers:
        _check_schema(kind, headers)
    if value is None:
        raise RecordError(Reason.MISSING_FIELD, "the record has no value")
    try:
        record: R = _decoder(kind).decode(value)
    except msgspec.ValidationError as error:
        text = str(error)
        raise RecordError(_reason_of(text), text) from None
    except msgspec.DecodeError as error:
        raise RecordError(Reason.NOT_JSON, str(error)) from None
    except UnicodeDecodeError as error:
        raise RecordError(Reason.NOT_JSON, f"not UTF-8: {error}") from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise RecordError(Reason.INVALID_VALUE, str(error)) from None
    if _NUL_ESCAPE in value and (path := _nul_path(msgspec.to_builtins(record))):
        raise RecordError(Reason.NUL_CHARACTER, f"NUL character at `{path}`: no store can hold it")
    return record


def _check_schema(kind: type[Record], headers: Iterable[tuple[str, Any]]) -> None:
    for name, value in headers:
        if name == HEADER_SCHEMA and value != kind.SCHEMA.encode():
            raise RecordError(Reason.UNKNOWN_SCHEMA, f"expected schema {kind.SCHEMA}, got {value!r}")
        if name == HEADER_VERSION and value != str(kind.VERSION).encode():
            raise RecordError(
                Reason.UNKNOWN_SCHEMA, f"{kind.SCHEMA}: this reader knows version {kind.VERSION}, got {value!r}"
            )


_MISSING = re.compile(r"missing required field")
_VALUE = re.compile(r"Expected `.*` (?:[<>]=? |of length|matching)|Invalid (?!base64)|time zone|timezone|out of range")


def _reason_of(message: str) -> Reason:
    if _MISSING.search(message):
        return Reason.MISSING_FIELD
    return Reason.INVALID_VALUE if _VALUE.search(message) else Reason.WRONG_TYPE


def _nul_path(value: Any, path: str = "$") -> str | None:
    """Where in a decoded value a NUL character stands; None where there is none."""
    if isinstance(value, str):
        return path if "\x00" in value else None
    if isinstance(value, dict):
        for name, inner in value.items():
            if isinstance(name, str) and "\x00" in name:
                return path
            if found := _nul_path(inner, f"{path}.{name}"):
                return found
    elif isinstance(value, list | tuple):
        for i, inner in enumerate(value):
            if found := _nul_path(inner, f"{path}[{i}]"):
                return found
    return None


def json_schema(kind: type[Record]) -> dict[str, Any]:
    """The JSON Schema (2020-12) of a record type, with its version."""
    schema = msgspec.json.schema(kind)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "x-schema-version": kind.VERSION, **schema}
