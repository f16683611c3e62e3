"""Rows of the store as CSV, JSON lines or Parquet, written as they come: memory does not grow with the export."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Final

import orjson

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
