"""Dead letters: what could not be processed, with its reason and its bytes, and the limit that stops a bad deploy."""

from __future__ import annotations

import base64
import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from streams import metrics
from streams.codec import (
    HEADER_ATTEMPTS,
    HEADER_FIRST_FAILED,
    HEADER_FIRST_LETTER,
    HEADER_REDRIVEN_FOR,
    HEADER_REDRIVEN_FROM,
    OWN_HEADERS,
    RecordError,
    decode,
)
from streams.errors import FailureLimitError
from streams.io import Chunk, Partition
from streams.keys import is_place_of, partition_of
from streams.records import DeadLetter, Observation, Reason, Record
from streams.table import TABLE

R = TypeVar("R", bound=Record)

WHOLE_BYTES: Final = 1_048_576
"""Up to here the original travels whole …"""
HEAD_BYTES: Final = 65_536
"""… else this much of it, and its sha256; also what is kept of a key, and of all headers together."""
DERIVED_BYTES: Final = 65_536
"""What a derived record may have more than the observation in it: a vector and what was decided."""
ERROR_CHARS: Final = 1_000
HEADERS: Final = 32
HEADER_CHARS: Final = 200
"""Of the original's headers, so many, and so much of each name and value, are shown."""
COMPACTED: Final = frozenset(stream.record for stream in TABLE if stream.compacted and stream.record)
"""Of these records the newest of a key counts, and one without a value says that the key is gone."""
WINDOW_RECORDS: Final = 1_000
IN_A_ROW: Final = 200

Clock = Callable[[], datetime]


def now_utc() -> datetime:
    """The wall clock, UTC."""
    return datetime.now(UTC)


def _base64(data: bytes | None) -> str | None:
    return None if data is None else base64.b64encode(data).decode("ascii")


class _Kept(NamedTuple):
    """What is kept of an original's bytes."""

    data: str | None
    """base64."""
    length: int
    sha256: str | None
    whole: bool


def _kept(value: bytes | None) -> _Kept:
    if value is None:
        return _Kept(None, 0, None, True)
    whole = len(value) <= WHOLE_BYTES
    kept = value if whole else value[:HEAD_BYTES]
    return _Kept(_base64(kept), len(value), hashlib.sha256(value).hexdigest(), whole)


_Headers = list[tuple[str, bytes | None]]


def _headers(message: Any) -> tuple[_Headers, bool]:
    """A message's headers, as many as fit into ``HEAD_BYTES``, and whether these are all."""
    try:
        found: _Headers = [(str(name), value) for name, value in message.headers() or ()]
    except Exception:  # a name that is no UTF-8: the client cannot hand it out
        return [], False
    kept: _Headers = []
    size = 0
    for name, value in found:
        size += len(name) + len(value or b"")
        if size > HEAD_BYTES:
            return kept, False
        kept.append((name, value))
    return kept, True


def logged_at(message: Any) -> datetime | None:
    """When a message was appended to its stream; None where the broker does not say."""
    kind, logged_ms = message.timestamp()
    return datetime.fromtimestamp(logged_ms / 1000, UTC) if kind else None


def headers_of_message(message: Any) -> list[tuple[str, bytes | None]] | None:
    """The headers of a message; None where they cannot be read (names that are not UTF-8), or there are none."""
    try:
        found: list[tuple[str, bytes | None]] | None = message.headers()
    except (UnicodeError, SystemError):
        return None
    return found


def letter_of(message: Any, reason: Reason, error: str, flow: str, clock: Clock = now_utc) -> DeadLetter:
    """The dead letter of a message that was read from a stream; one that was redriven keeps its history."""
    value, key = _kept(message.value()), message.key()
    headers, all_headers = _headers(message)
    shown = tuple(
        (_printable(name)[:HEADER_CHARS], _printable((v or b"").decode("utf-8", "replace"))[:HEADER_CHARS])
        for name, v in headers[:HEADERS]
    )
    exact = headers == [(name, v.encode()) for name, v in shown]
    return DeadLetter(
        letter_id=f"{message.topic()}/{message.partition()}/{message.offset()}",
        stream=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        reason=reason,
        error=_printable(error),
        flow=flow,
        key=_base64(key if key is None else key[:HEAD_BYTES]),
        value=value.data,
        value_bytes=value.length,
        value_sha256=value.sha256,
        headers=shown,
        header_bytes=None if exact else tuple((name, _base64(v)) for name, v in headers),
        whole=value.whole and all_headers and len(key or b"") <= HEAD_BYTES,
        logged_at=logged_at(message),
        failed_at=clock(),
        **_history(dict(headers)),
    )


def _history(headers: Mapping[str, bytes | None]) -> dict[str, Any]:
    """What the headers of a redriven record tell of its failures; nothing where anybody has put rubbish there."""
    try:
        before = (headers.get(HEADER_REDRIVEN_FROM) or b"").decode()[:1024]
        first_failed = (headers.get(HEADER_FIRST_FAILED) or b"").decode()
        if not before or not first_failed.endswith("+00:00"):
            return {}
        return {
            "attempts": min(int(headers.get(HEADER_ATTEMPTS) or b"1"), 1_000_000) + 1,
            "redriven_from": before,
            "first_letter": (headers.get(HEADER_FIRST_LETTER) or b"").decode()[:1024] or before,
            "first_failed_at": datetime.fromisoformat(first_failed),
        }
    except ValueError:
        return {}


def for_another(headers: Sequence[tuple[str, Any]], flow: str) -> bool:
    """Whether a record was redriven for another flow: this one has dealt with the original."""
    return any(name == HEADER_REDRIVEN_FOR and value != flow.encode() for name, value in headers)


def unsent_letter(
    stream: str, external_id: str, key: str, value: bytes, reason: Reason, error: str, flow: str, clock: Clock = now_utc
) -> DeadLetter:
    """The dead letter of a record that never got into its stream (it has no offset)."""
    kept = _kept(value)
    return DeadLetter(
        letter_id=f"{stream}/{external_id}"[:1024],
        stream=stream,
        partition=-1,
        offset=-1,
        reason=reason,
        error=_printable(error),
        flow=flow,
        key=_base64(key.encode("utf-8", "replace")),
        value=kept.data,
        value_bytes=kept.length,
        value_sha256=kept.sha256,
        whole=kept.whole,
        failed_at=clock(),
    )


def _printable(error: str) -> str:
    """One line that any store and terminal can hold."""
    line = " ".join(error[: 2 * ERROR_CHARS].encode("utf-8", "replace").decode().split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)[:ERROR_CHARS]


class Received(msgspec.Struct, Generic[R], frozen=True):
    """A valid record, and the message that it came in."""

    record: R
    message: Any


def apart(
    received: Sequence[Received[R]], flow: str, fault: Callable[[Received[R]], str | None]
) -> tuple[list[Received[R]], list[DeadLetter]]:
    """Good and bad apart: records about which ``fault`` says something become (counted) dead letters."""
    good: list[Received[R]] = []
    letters: list[DeadLetter] = []
    for each in received:
        error = fault(each)
        if error is None:
            good.append(each)
        else:
            letters.append(letter_of(each.message, Reason.INVALID_VALUE, error, flow))
    count_letters(letters)
    return good, letters


def misplaced(trend_id: str, partition: int, partitions: int) -> str | None:
    """What is wrong where a record stands in a partition in which its trend never stood: whoever works there would
    write the state of a trend that is another's. None: nothing."""
    if is_place_of(trend_id, partition, partitions):
        return None
    return (
        f"trend {trend_id!r} belongs to partition {partition_of(trend_id, partitions)} of {partitions}, "
        f"the record stands in {partition}: leave placing to streams.keys"
    )


class FailureLimit:
    """Stops a flow whose own code fails too often: more than half of the last 1,000 records of a partition, or 200 in a
    row. Malformed input does not count: it may come in any number.
    """

    def __init__(self, window: int = WINDOW_RECORDS, in_a_row: int = IN_A_ROW) -> None:
        self._window = window
        self._in_a_row = in_a_row
        self._recent: dict[Partition, deque[bool]] = {}
        self._failed: dict[Partition, int] = {}
        self._row: dict[Partition, int] = {}

    def note(self, partition: Partition, failed: bool) -> None:
        """Counts one record of a partition.

        Raises:
            FailureLimitError: the limit is reached. What failed since the last commit is read again at the next start.
        """
        recent = self._recent.setdefault(partition, deque())
        recent.append(failed)
        self._failed[partition] = self._failed.get(partition, 0) + failed
        self._row[partition] = self._row.get(partition, 0) + 1 if failed else 0
        if len(recent) > self._window:
            self._failed[partition] -= recent.popleft()
        half = len(recent) == self._window and 2 * self._failed[partition] > self._window
        if half or self._row[partition] >= self._in_a_row:
            raise FailureLimitError(
                f"{partition[0]}/{partition[1]}: {self._failed[partition]} of the last {len(recent)} records failed "
                f"in our own code, {self._row[partition]} in a row. Mend the code and start the flow again: it goes on "
                "from its last commit. What was moved before that is in dead letters: `trends dead-letters redrive`."
            )


class Decoder(Generic[R]):
    """Messages to records, by the type that their stream carries: good and bad apart."""

    def __init__(
        self, kinds: Mapping[str, type[R]], flow: str, max_record_bytes: int = WHOLE_BYTES, clock: Clock = now_utc
    ) -> None:
        # The broker measures compressed batches, so a record can come out of it that no derived one would fit in.
        self._most = {
            name: max_record_bytes + (0 if kind is Observation else DERIVED_BYTES) for name, kind in kinds.items()
        }
        # Raw streams have one reader, and anybody may write to them, any header.
        self._raw = {name for name, kind in kinds.items() if kind is Observation}
        self._kinds = kinds
        self._flow = flow
        self._clock = clock

    def __call__(self, chunk: Chunk) -> tuple[list[Received[R]], list[DeadLetter]]:
        """The valid records of a chunk, and a dead letter for each of the others."""
        oks: list[Received[R]] = []
        errs: list[DeadLetter] = []
        for message in chunk.messages:
            try:
                record = self._decode(message)
                if record is None:
                    continue
            except RecordError as error:
                errs.append(letter_of(message, error.reason, str(error), self._flow, self._clock))
            except Exception as error:
                why = f"decoding: {type(error).__name__}: {error}"
                errs.append(letter_of(message, Reason.OUR_FAILURE, why, self._flow, self._clock))
            else:
                oks.append(Received(record, message))
        count_letters(errs)
        return oks, errs

    def _decode(self, message: Any) -> R | None:
        """The record; None where it was sent again for another flow, and for a key that is gone from its stream."""
        name, value = message.topic(), message.value()
        headers = headers_of_message(message)
        if headers and len(headers) > OWN_HEADERS and name not in self._raw and for_another(headers, self._flow):
            return None
        if value is None and self._kinds[name] in COMPACTED:
            return None
        if value is not None and len(value) > self._most[name]:
            raise RecordError(Reason.TOO_LARGE, f"{len(value):,} bytes; a record may have {self._most[name]:,}")
        return decode(self._kinds[name], value, headers)


def count_letters(letters: Sequence[DeadLetter]) -> None:
    """Counts dead letters in the metrics."""
    for letter in letters:
        metrics.DEAD_LETTERS.labels(letter.flow, letter.reason).inc()
