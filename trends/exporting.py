"""Rows of the store as CSV, JSON lines or Parquet, written as they come: memory does not grow with the export."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

from sinks.postgres import SyncReader
from sinks.postgres.export import ColumnType
from streams.errors import SettingsError

ROW_GROUP: Final = 10_000
"""Rows of a Parquet row group: what is held at once."""
BLOCK: Final = 500
"""Rows of CSV or JSON lines between two reports of progress."""

Rows = Iterable[Mapping[str, Any]]
Progress = Callable[[int], None]


class Format(StrEnum):
    """How rows are written."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


LABELLED_ITEMS: Final = 2_000
"""Of one topic, the most discussed ones."""
LABEL_COLUMNS: Final[Mapping[str, ColumnType]] = {
    "id": "text", "title": "text", "url": "text", "publisher": "text", "published_at": "time", "story": "text",
}  # fmt: skip
_SUFFIXES: Final = {".csv": Format.CSV, ".jsonl": Format.JSONL, ".ndjson": Format.JSONL, ".parquet": Format.PARQUET}


def format_of(path: Path | None, given: Format | None) -> Format:
    """The format that was asked for, else that of the file's name, else JSON lines.

    Raises:
        SettingsError: the name says nothing, or Parquet was asked for on stdout.
    """
    if path is None:
        if given is Format.PARQUET:
            raise SettingsError("Parquet is no text: name a file with -o FILE.parquet")
        return given or Format.JSONL
    chosen = given or _SUFFIXES.get(path.suffix.lower())
    if chosen is None:
        raise SettingsError(f"{path}: name it .csv, .jsonl or .parquet, or say which with --format")
    return chosen


def write_rows(
    rows: Rows, columns: Mapping[str, ColumnType], chosen: Format, file: BinaryIO, progress: Progress
) -> int:
    """Write rows to a binary file. Returns how many; ``progress`` is told how many so far."""
    return _WRITERS[chosen](rows, columns, file, progress)


def labelled_rows(reader: SyncReader, pairs: Sequence[tuple[str, ...]]) -> list[dict[str, Any]]:
    """Labelled posts: the items of the topics that pairs of items belong to; what a chain of pairs joins has one label.

    The first so many items of each, see ``LABELLED_ITEMS``; in the order of their time.
    """
    topic_of = reader.ask(reader.reader.topics_of_items(sorted({item for pair in pairs for item in pair})))
    label: dict[str, str] = {topic: topic for topic in topic_of.values()}

    def root(topic: str) -> str:
        while label[topic] != topic:
            topic = label[topic]
        return topic

    for pair in pairs:
        known = sorted(root(topic_of[item]) for item in pair if item in topic_of)
        if len(known) == 2:
            label[known[1]] = known[0]
    rows = []
    for topic in sorted(label):
        view = reader.ask(reader.reader.topic(topic, members=LABELLED_ITEMS))
        for item in view.members if view else ():
            rows.append(
                {"id": item.item_id, "title": item.title, "url": item.url, "publisher": item.publisher,
                 "published_at": item.published_at, "story": root(topic)}
            )  # fmt: skip
    return sorted(rows, key=lambda row: (row["published_at"], row["id"]))


def _blocks(rows: Rows, size: int) -> Iterator[list[Mapping[str, Any]]]:
    iterator = iter(rows)
    while block := list(itertools.islice(iterator, size)):
        yield block


def _write_jsonl(rows: Rows, columns: Mapping[str, ColumnType], file: BinaryIO, progress: Progress) -> int:
    written = 0
    for block in _blocks(rows, BLOCK):
        file.write(
            b"".join(orjson.dumps({n: row[n] for n in columns}, option=orjson.OPT_APPEND_NEWLINE) for row in block)
        )
        written += len(block)
        progress(written)
    return written


def _write_csv(rows: Rows, columns: Mapping[str, ColumnType], file: BinaryIO, progress: Progress) -> int:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(columns)
    written = 0
    for block in itertools.chain(_blocks(rows, BLOCK), [[]]):
        writer.writerows([[_cell(row[name], type_) for name, type_ in columns.items()] for row in block])
        file.write(text.getvalue().encode())
        text.seek(0)
        text.truncate()
        written += len(block)
        progress(written)
    return written


def _cell(value: Any, type_: ColumnType) -> Any:
    if value is None:
        return ""
    if type_ in ("texts", "ints", "json"):
        return orjson.dumps(value).decode()
    if type_ == "bool":
        return "true" if value else "false"
    return value.isoformat() if type_ == "time" else value


def _write_parquet(rows: Rows, columns: Mapping[str, ColumnType], file: BinaryIO, progress: Progress) -> int:
    import pyarrow as pa
    from pyarrow import parquet

    types = {
        "text": pa.string(), "time": pa.timestamp("us", tz="UTC"), "int": pa.int64(), "float": pa.float64(),
        "bool": pa.bool_(), "texts": pa.list_(pa.string()), "ints": pa.list_(pa.int64()), "json": pa.string(),
    }  # fmt: skip
    schema = pa.schema([(name, types[type_]) for name, type_ in columns.items()])
    written = 0
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for block in _blocks(rows, ROW_GROUP):
            arrays = [
                pa.array(
                    [
                        orjson.dumps(row[name]).decode() if type_ == "json" and row[name] is not None else row[name]
                        for row in block
                    ],
                    type=types[type_],
                )
                for name, type_ in columns.items()
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            written += len(block)
            progress(written)
    return written


_WRITERS: Final = {Format.CSV: _write_csv, Format.JSONL: _write_jsonl, Format.PARQUET: _write_parquet}
