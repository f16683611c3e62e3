"""The file source: CSV and JSON Lines, plain or gzipped, or standard input, replayed as if it were seen happen.

Columns are found by well-known names or named by options. Memory is constant, whatever the file's size; a row that
cannot be read is counted and never stops the others; the cursor is the number of rows behind.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import hashlib
import io
import os
import re
import select
import sys
import threading
import zlib
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import msgspec
from msgspec import Meta, Struct

from connectors.base import (
    BATCH_CHARS,
    BATCH_SIGHTINGS,
    BadRow,
    Batch,
    Context,
    Limits,
    Sighting,
    SourceError,
    bad_line,
    count_of,
    host_of,
    one_line,
)
from connectors.times import parse_time
from streams.errors import SettingsError
from streams.ids import stable_id
from streams.records import Engagement, Kind
from streams.table import SOURCES

# -- options -----------------------------------------------------------------------------------------------------------


class Format(StrEnum):
    """How rows are written; ``auto`` looks at the name, then at the first bytes."""

    AUTO = "auto"
    CSV = "csv"
    JSONL = "jsonl"


class FileOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What can be said about a file."""

    source: Annotated[str, Meta(description="The source that the items count for, and whose ids these are.")] = "file"
    format: Annotated[Format, Meta(description="csv, jsonl, or auto: by name and first bytes.")] = Format.AUTO
    map: Annotated[
        dict[str, str], Meta(description="Which column is which field, where names do not tell: title=headline,id=nr.")
    ] = {}
    encoding: Annotated[str, Meta(description="Encoding of the text.")] = "utf-8"
    start: Annotated[
        datetime | None, Meta(description="Time of the first item where rows carry none; unset: the file's own time.")
    ] = None
    step_s: Annotated[float, Meta(gt=0, description="Time between items where rows carry none, seconds.")] = 10.0
    kind: Annotated[Kind, Meta(description="Kind of items whose rows do not tell.")] = Kind.POST


# -- bounds ------------------------------------------------------------------------------------------------------------

ROW_BYTES: Final = 8 * 1_048_576
"""A longer line or record is a bad row."""
ROW_LINES: Final = 2_000
"""A quoted field over more lines is an unclosed quote."""
HEAD_BYTES: Final = 65_536
"""The first bytes by which a file is known again (it may have grown since)."""
FUTURE: Final = timedelta(days=1)
"""A time further ahead of the clock is a mistake: it would move "now" for everybody."""
TITLE_FROM_BODY_CHARS: Final = 120
POLL_STDIN_S: Final = 0.2

COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "external_id", "item_id", "guid", "uuid", "objectid", "post_id"),
    "title": ("title", "headline", "name", "subject"),
    "url": ("url", "link", "href", "permalink", "story_url"),
    "body": ("body", "text", "selftext", "content", "description", "summary"),
    "author": ("author", "by", "creator", "username", "user"),
    "publisher": ("publisher", "site", "hostname", "domain", "subreddit", "channel"),
    "published_at": (
        "published_at", "created_at", "published", "published_ms", "time", "timestamp", "date", "datetime",
        "created_utc", "created", "pubdate",
    ),
    "observed_at": ("observed_at",),
    "points": ("points", "score", "ups", "likes", "upvotes"),
    "comments": ("comments", "num_comments", "descendants", "comment_count", "comments_count"),
    "shares": ("shares", "retweets", "reposts"),
    "stars": ("stars", "stargazers_count"),
    "views": ("views", "view_count"),
    "category": ("category", "section"),
    "tags": ("tags", "keywords", "labels", "topics"),
    "lang": ("lang", "language"),
    "kind": ("kind", "type"),
}  # fmt: skip
"""Field → the column names that mean it, best first; case, blanks and hyphens do not matter."""

KINDS: Final[Mapping[str, Kind]] = {
    **{kind.value: kind for kind in Kind},
    "story": Kind.POST,
    "link": Kind.POST,
    "tweet": Kind.POST,
    "news": Kind.ARTICLE,
    "repo": Kind.REPOSITORY,
    "ask": Kind.QUESTION,
    "removed": Kind.DELETED,
}

csv.field_size_limit(max(csv.field_size_limit(), ROW_BYTES))


class _Cursor(Struct, frozen=True, forbid_unknown_fields=False):
    """Rows that are behind, of which file (its first bytes), with which start of simulated times."""

    rows: int
    head_bytes: int
    head_sha256: str
    start: datetime
    timed: bool | None = None
    """Whether rows carry times, as far as that is known."""


class MissingColumnError(SettingsError):
    """A CSV file has no column for a field that it must have, or that was mapped."""

    def __init__(self, field: str, header: str) -> None:
        super().__init__(f"file: no column for {field} among {header}; say which one it is: --map {field}=COLUMN")
        self.field = field
        self.header = header


# -- the connector -----------------------------------------------------------------------------------------------------


class FileConnector:
    """Reads one file, or standard input for ``-``, once.

    Raises:
        SettingsError: no such file, an unknown source, field or encoding.
    """

    interval_s: float | None = None

    def __init__(self, target: str, options: FileOptions | None = None) -> None:
        self._options = options = options or FileOptions()
        self._path = None if target == "-" else Path(target)
        if self._path is not None and self._path.is_dir():
            raise SettingsError(f"file: {target} is a folder; name the files in it, one source each: file:PATH")
        if self._path is not None and not self._path.is_file():
            raise SettingsError(f"file: there is no file {target}")
        if options.source not in SOURCES:
            raise SettingsError(f"file: no source {options.source!r}; there are: {', '.join(SOURCES)}")
        if unknown := sorted(set(options.map) - set(COLUMNS)):
            raise SettingsError(f"file: no field {unknown[0]!r} to map; there are: {', '.join(COLUMNS)}")
        try:
            "".encode(options.encoding)
        except LookupError:
            raise SettingsError(f"file: no encoding {options.encoding!r}; utf-8, latin-1, cp1252, …") from None
        self.source = options.source
        self.name = self._named()
        self.limits = Limits(priority=2, attempts=1, stall_s=None if self._path is None else 120.0)

    def _named(self) -> str:
        """The same file, read the same way, has the same cursor."""
        if self._path is None:
            return "file:-"
        shape = msgspec.json.encode((str(self._path.resolve()), self._options), order="deterministic")
        return f"file:{one_line(self._path.name, 100)}:{hashlib.sha256(shape).hexdigest()[:12]}"

    async def batches(self, cursor: bytes | None, context: Context) -> AsyncGenerator[Batch, None]:
        """The rows after the cursor. A cursor of another file of this name counts as none."""
        reading = _Reading(self._path, self._options, context.now())
        try:
            await asyncio.to_thread(reading.open, cursor)
            while (batch := await asyncio.to_thread(reading.next_batch)) is not None:
                yield batch
        except (OSError, EOFError, zlib.error) as error:
            raise SourceError(f"{self._path or 'standard input'}: {error}", again=False) from error
        finally:
            reading.close()


class _Reading:
    """One pass over the file. Runs in a thread, one call at a time; `close` may come from outside."""

    def __init__(self, path: Path | None, options: FileOptions, now: datetime) -> None:
        self._path = path
        self._options = options
        self._now = now
        self._input: _Input | None = None
        self._rows: Iterator[_Row] = iter(())
        self._mapper = _Mapper(options)
        self._head = b""
        self._start = now
        self._skip = 0
        self._row = 0
        self._ended = False
        self._busy = threading.Lock()
        self._given_up = False

    def open(self, cursor: bytes | None) -> None:
        self._input = opened = _Input(self._path)
        self._head = opened.head
        self._start = self._options.start or self._own_time()
        if self._start.tzinfo is None:
            self._start = self._start.replace(tzinfo=UTC)
        known = self._known(cursor)
        if known is not None:
            self._skip, self._start, self._mapper.timed = known.rows, known.start, known.timed
            # A file that grows is known by the bytes that were there at first.
            self._head = self._head[: known.head_bytes]
        lines = _Lines(opened.text_stream(), self._options.encoding)
        form = self._options.format
        if form is Format.AUTO:
            form = _sniff(self._path, opened.peek())
        if form is Format.CSV:
            table = _CsvRows(lines)
            self._mapper.check_header(table.header)
            self._rows = iter(table)
        else:
            self._rows = _json_rows(lines)

    def _own_time(self) -> datetime:
        if self._path is None:
            return self._now.replace(microsecond=0)
        return datetime.fromtimestamp(int(self._path.stat().st_mtime), UTC)

    def _known(self, cursor: bytes | None) -> _Cursor | None:
        if cursor is None or self._path is None:
            return None
        try:
            known = msgspec.json.decode(cursor, type=_Cursor)
        except msgspec.MsgspecError:
            return None
        same = len(self._head) >= known.head_bytes and _sha256(self._head[: known.head_bytes]) == known.head_sha256
        return known if same else None

    def next_batch(self) -> Batch | None:
        """The next rows as a batch; None after the last."""
        with self._busy:
            try:
                return None if self._given_up else self._next_batch()
            finally:
                if self._given_up and self._input is not None:
                    self._input.close()

    def _next_batch(self) -> Batch | None:
        sightings: list[Sighting] = []
        bad: list[str] = []
        chars = 0
        if self._ended:
            return None
        while len(sightings) + len(bad) < BATCH_SIGHTINGS and chars < BATCH_CHARS:
            row = next(self._rows, None)
            if row is None:
                self._ended = True
                break
            self._row += 1
            if self._row <= self._skip:
                continue
            try:
                seen = self._sighting(row)
            except (BadRow, ValueError) as error:
                bad.append(bad_line(f"line {row.line}", error))
                chars += 1_000
            else:
                sightings.append(seen)
                chars += len(seen.body) + len(seen.title)
        if not sightings and not bad:
            return None
        return Batch(
            tuple(sightings), self._cursor(), tuple(bad), None if self._input is None else self._input.fraction
        )

    def _sighting(self, row: _Row) -> Sighting:
        if row.error is not None:
            raise BadRow(row.error)
        simulated = self._start + timedelta(seconds=self._options.step_s * (self._row - 1))
        seen = self._mapper.sighting(row.values, simulated)
        if seen.published_at > self._now + FUTURE and self._mapper.timed:
            raise BadRow(f"its time lies in the future: {seen.published_at.isoformat()}")
        return seen

    def _cursor(self) -> bytes:
        return msgspec.json.encode(
            _Cursor(
                rows=self._row, head_bytes=len(self._head), head_sha256=_sha256(self._head), start=self._start,
                timed=self._mapper.timed,
            )
        )  # fmt: skip

    def close(self) -> None:
        """Closes the file now, or, where a thread is still reading, as soon as that comes back. Never waits."""
        self._given_up = True
        if self._input is None:
            return
        self._input.give_up()
        if self._busy.acquire(blocking=False):
            try:
                self._input.close()
            finally:
                self._busy.release()


# -- bytes, lines, rows ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Row:
    """A row by column name, or why it is none."""

    line: int
    values: Mapping[str, Any]
    error: str | None = None


class _Stdin(io.RawIOBase):
    """Standard input that can be given up: a read looks every moment whether it still should wait."""

    def __init__(self) -> None:
        self._fd = sys.stdin.fileno()
        self._given_up = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._given_up:
            if select.select([self._fd], [], [], POLL_STDIN_S)[0]:
                data = os.read(self._fd, len(buffer))
                buffer[: len(data)] = data
                return len(data)
        return 0

    def give_up(self) -> None:
        self._given_up = True


class _Input:
    """The bytes of the file: its head, its place, decompressed where it is gzip (by its first bytes, not its name)."""

    def __init__(self, path: Path | None) -> None:
        raw: Any = _Stdin() if path is None else path.open("rb", buffering=0)
        self._raw = raw
        self._buffer: Any = io.BufferedReader(raw, buffer_size=HEAD_BYTES)
        self._bytes = 0 if path is None else path.stat().st_size
        self.head: bytes = b"" if path is None else self._buffer.peek(HEAD_BYTES)[:HEAD_BYTES]
        zipped = self._buffer.peek(2)[:2] == b"\x1f\x8b"
        self._stream: Any = (
            io.BufferedReader(gzip.GzipFile(fileobj=self._buffer), HEAD_BYTES) if zipped else self._buffer
        )

    def text_stream(self) -> BinaryIO:
        stream: BinaryIO = self._stream
        return stream

    def peek(self) -> bytes:
        """Some first bytes, decompressed; they stay to be read."""
        return bytes(self._stream.peek(HEAD_BYTES)[:HEAD_BYTES])

    @property
    def fraction(self) -> float | None:
        """How much of the file is behind, by bytes on disk."""
        if not self._bytes:
            return None
        try:
            return min(1.0, float(self._buffer.tell()) / self._bytes)
        except (OSError, ValueError):
            return None

    def give_up(self) -> None:
        """Ends a read that waits for standard input."""
        if isinstance(self._raw, _Stdin):
            self._raw.give_up()

    def close(self) -> None:
        self._raw.close()


class _Lines:
    """Lines as text, with their numbers; undecodable bytes become lone surrogates, to be found where they stand.

    A line over the bound is read past and comes as None. Lines may be put back.
    """

    def __init__(self, stream: BinaryIO, encoding: str) -> None:
        self._stream = stream
        self._encoding = encoding
        self._back: list[tuple[int, str]] = []
        self.number = 0

    def next(self) -> str | None:
        """The next line with its end; None for one that is too long.

        Raises:
            StopIteration: there are no more.
        """
        if self._back:
            self.number, text = self._back.pop()
            return text
        data = self._stream.readline(ROW_BYTES)
        if not data:
            raise StopIteration
        self.number += 1
        if len(data) >= ROW_BYTES and not data.endswith(b"\n"):
            while (more := self._stream.readline(ROW_BYTES)) and not more.endswith(b"\n"):
                pass
            return None
        if self.number == 1 and data.startswith(b"\xef\xbb\xbf"):
            data = data[3:]
        return data.decode(self._encoding, "surrogateescape")

    def put_back(self, lines: Sequence[tuple[int, str]]) -> None:
        """These come next, in this order."""
        self._back.extend(reversed(lines))


class _CsvRows:
    """The records of a CSV file (RFC 4180, with the delimiter that the header shows).

    A record that spans lines and does not fit the header has an unclosed quote: its first line is the bad row, the
    lines after it are read again.
    """

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines
        self._taken: list[tuple[int, str]] = []
        self._overlong = False
        self._delimiter = ","
        first = self._first()
        self._delimiter = max(",;\t|", key=lambda each: first.count(each))
        try:
            parsed = next(csv.reader([first], delimiter=self._delimiter), [])
        except csv.Error as error:
            raise SettingsError(f"file: the first line is no CSV header ({error}); JSON Lines: format=jsonl") from None
        self.header = [name.strip() for name in parsed]

    def _first(self) -> str:
        try:
            return self._lines.next() or ""
        except StopIteration:
            return ""

    def _feed(self) -> Iterator[str]:
        """The lines of one record, as the parser asks for them."""
        size = 0
        while len(self._taken) < ROW_LINES and size < ROW_BYTES:
            try:
                text = self._lines.next()
            except StopIteration:
                return
            if text is None:
                self._overlong = True
                return
            size += len(text)
            self._taken.append((self._lines.number, text))
            yield text

    def __iter__(self) -> Iterator[_Row]:
        width = len(self.header)
        while True:
            self._taken, self._overlong = [], False
            try:
                values = next(csv.reader(self._feed(), delimiter=self._delimiter), None)
                error = None
            except csv.Error as problem:
                values, error = [], str(problem)
            if values is None and not self._overlong:
                return
            if self._overlong:
                yield _Row(self._lines.number, {}, f"longer than {ROW_BYTES:,} bytes")
                continue
            line = self._taken[0][0]
            if not values and error is None:
                continue  # an empty line
            if error is None and len(values or ()) != width:
                error = f"{len(values or ())} columns, the header has {width}"
            if error is not None:
                if len(self._taken) > 1:
                    error = f"unclosed quote, or {error}"
                    self._lines.put_back(self._taken[1:])
                yield _Row(line, {}, error)
                continue
            yield _Row(line, dict(zip(self.header, values or (), strict=True)), _unclean(values or ()))


def _unclean(values: Sequence[str]) -> str | None:
    """What makes these texts unusable: bytes in another encoding, NUL characters."""
    text = "".join(values)
    if "\x00" in text:
        return "a NUL character"
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return "not in the file's encoding (see the option encoding)"
    return None


_json = msgspec.json.Decoder()


def _json_rows(lines: _Lines) -> Iterator[_Row]:
    """One JSON object a line."""
    while True:
        try:
            text = lines.next()
        except StopIteration:
            return
        if text is None:
            yield _Row(lines.number, {}, f"longer than {ROW_BYTES:,} bytes")
            continue
        if not text.strip():
            continue
        error = _unclean((text,))
        values: Any = None
        if error is None:
            try:
                values = _json.decode(text)
            except (msgspec.DecodeError, ValueError, RecursionError) as problem:
                error = f"not JSON: {problem}"
        if error is None and not isinstance(values, dict):
            error = f"not a JSON object but {type(values).__name__}"
        yield _Row(lines.number, values if error is None else {}, error)


def _sniff(path: Path | None, start: bytes) -> Format:
    """By the name's suffix, else by the first character."""
    if path is not None:
        suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in (".gz", ".gzip")]
        if suffixes and suffixes[-1] in (".csv", ".tsv"):
            return Format.CSV
        if suffixes and suffixes[-1] in (".jsonl", ".ndjson", ".json"):
            return Format.JSONL
    return Format.JSONL if start.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{" else Format.CSV


# -- from columns to a sighting ----------------------------------------------------------------------------------------


def _plain(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip()).lower()


def _shown(header: Sequence[str]) -> str:
    """Names of columns for a person, whatever bytes they were."""
    return one_line(", ".join(header).encode(errors="replace").decode(), 300)


class _Mapper:
    """Rows to sightings, by column names."""

    def __init__(self, options: FileOptions) -> None:
        self._options = options
        self._names: dict[str, tuple[str, ...]] = {
            field: (_plain(options.map[field]),) if field in options.map else names for field, names in COLUMNS.items()
        }
        self._keys: dict[str, str] = {}
        self.timed: bool | None = None
        """Whether rows carry times: the header tells, or the first row that could be read."""

    def check_header(self, header: Sequence[str]) -> None:
        """Raises SettingsError where no column can be the title."""
        there = {_plain(name) for name in header}
        if not any(there):
            raise SettingsError("file: it is empty, or its first line is; a CSV file begins with the names of columns")
        for field in ("title", *self._options.map):
            if not there.intersection(self._names[field]) and not (field == "title" and there & {*self._names["body"]}):
                raise MissingColumnError(field, _shown(header))
        self.timed = bool(there.intersection(self._names["published_at"]))

    def sighting(self, row: Mapping[str, Any], simulated: datetime) -> Sighting:
        """One row as a sighting; ``simulated`` is its time where rows carry none."""
        values = {self._key(name): value for name, value in row.items()}
        if isinstance(engagement := values.get("engagement"), dict):
            values = {**engagement, **values}
        kind = self._kind(self._text(values, "kind"))
        title, body = self._text(values, "title") or "", self._text(values, "body") or ""
        if not title.strip() and kind is not Kind.DELETED:
            title = one_line(body, TITLE_FROM_BODY_CHARS)
            if not title:
                raise BadRow(f"no title among {', '.join(map(str, row))[:160]}; say where it is: --map title=FIELD")
        url = self._text(values, "url")
        published = self._time(values, simulated)
        observed = self._pick(values, "observed_at")
        return Sighting(
            source=self._options.source,
            external_id=self._text(values, "id") or stable_id("row", url or title, published.isoformat()),
            kind=kind,
            title=title,
            observed_at=published if observed is None else parse_time(observed),
            published_at=published,
            url=url,
            body=body,
            author=self._text(values, "author"),
            publisher=self._text(values, "publisher") or host_of(url),
            lang=self._text(values, "lang"),
            tags=self._tags(values),
            category=self._text(values, "category"),
            engagement=Engagement(
                points=count_of(self._pick(values, "points")),
                comments=count_of(self._pick(values, "comments")),
                shares=count_of(self._pick(values, "shares")),
                stars=count_of(self._pick(values, "stars")),
                views=count_of(self._pick(values, "views")),
            ),
        )

    def _key(self, name: str) -> str:
        key = self._keys.get(name)
        if key is None:
            key = _plain(name)
            if len(self._keys) < 1_000:
                self._keys[name] = key
        return key

    def _pick(self, values: Mapping[str, Any], field: str) -> Any:
        """The first column that means the field and says something."""
        for name in self._names[field]:
            value = values.get(name)
            if value is not None and value != "":
                return value
        return None

    def _text(self, values: Mapping[str, Any], field: str) -> str | None:
        value = self._pick(values, field)
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool | dict | list):
            raise BadRow(f"{field} is no text but {type(value).__name__}")
        return str(value)

    def _time(self, values: Mapping[str, Any], simulated: datetime) -> datetime:
        value = self._pick(values, "published_at")
        if self.timed is None:
            self.timed = value is not None
        if not self.timed:
            return simulated
        return parse_time(value)

    def _kind(self, text: str | None) -> Kind:
        return self._options.kind if text is None else KINDS.get(text.strip().lower(), self._options.kind)

    def _tags(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        value = self._pick(values, "tags")
        if isinstance(value, str):
            if value.lstrip().startswith("["):
                try:
                    value = _json.decode(value)
                except msgspec.DecodeError:
                    value = value.strip("[] ")
            if isinstance(value, str):
                value = re.split(r"[,;|]", value)
        found = value if isinstance(value, list) else [value]
        return tuple(str(tag) for tag in found if isinstance(tag, str | int) and not isinstance(tag, bool))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
