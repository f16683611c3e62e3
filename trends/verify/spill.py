"""Joins larger than memory: rows of whole numbers on disk, in buckets by their key, read back a bucket at a time.

What the rows mean is ``trends.verify.relations``'. A relation is one unnamed temporary file: whatever ends the process,
nothing is left behind.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.void]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

RUN_ROWS: Final = 65_536
"""Rows of a relation in memory before they go to disk: 4 MB at 60 bytes a row."""
BUCKET_ROWS: Final = 200_000
"""Rows of all relations that a bucket should hold at most: what is judged at once."""
MAX_BUCKETS: Final = 8_192
"""Enough for 1.6 billion rows within the same memory; beyond, buckets grow."""


def buckets_for(rows: int) -> int:
    """How many buckets so many rows take: a power of two."""
    buckets = 1
    while buckets < MAX_BUCKETS and buckets * BUCKET_ROWS < rows:
        buckets *= 2
    return buckets


class Spill:
    """One relation: rows of ``dtype`` (with an int64 field ``key``), appended in any order, read bucket by bucket."""

    def __init__(self, dtype: np.dtype[Any], buckets: int, folder: Path | None = None) -> None:
        self.dtype = dtype
        self.buckets = buckets
        self.rows = 0
        self.folder = folder
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by close())
        self._waiting: list[Rows] = []
        self._waiting_rows = 0
        self._runs: list[tuple[int, Ints]] = []
        """Of each run: its first byte in the file, and the row at which each bucket begins."""
        self._end = 0

    def append(self, rows: Rows | Sequence[tuple[Any, ...]]) -> None:
        """Adds rows, or tuples in the order of the fields."""
        if not len(rows):
            return
        made = rows if isinstance(rows, np.ndarray) else np.array(rows, self.dtype)
        self._waiting.append(made)
        self._waiting_rows += len(made)
        self.rows += len(made)
        if self._waiting_rows >= RUN_ROWS:
            self._write()

    def _write(self) -> None:
        if not self._waiting:
            return
        run = np.concatenate(self._waiting)
        self._waiting, self._waiting_rows = [], 0
        places = run["key"] & (self.buckets - 1)
        run = run[np.argsort(places, kind="stable")]
        begins = np.zeros(self.buckets + 1, np.int64)
        np.cumsum(np.bincount(places, minlength=self.buckets), out=begins[1:])
        self._file.seek(self._end)
        self._file.write(run.tobytes())
        self._file.flush()
        self._runs.append((self._end, begins))
        self._end += run.nbytes

    def bucket(self, number: int) -> Rows:
        """The rows of one bucket, in the order in which they were appended."""
        self._write()
        parts = []
        size = self.dtype.itemsize
        for begin, begins in self._runs:
            first, last = int(begins[number]), int(begins[number + 1])
            if last > first:
                data = os.pread(self._file.fileno(), (last - first) * size, begin + first * size)
                parts.append(np.frombuffer(data, self.dtype))
        return np.concatenate(parts) if parts else np.empty(0, self.dtype)

    def __iter__(self) -> Iterator[Rows]:
        return (self.bucket(number) for number in range(self.buckets))

    def close(self) -> None:
        """Gives the disk back."""
        self._file.close()
        self._waiting, self._runs = [], []


class Groups:
    """Rows by one or more columns, for questions about each group: everything below has one value a group."""

    def __init__(self, *columns: NDArray[Any]) -> None:
        self.order = np.lexsort(columns[::-1])
        size = len(self.order)
        new = np.zeros(size, np.bool_)
        if size:
            new[0] = True
            for column in columns:
                sorted_column = column[self.order]
                new[1:] |= sorted_column[1:] != sorted_column[:-1]
        self.starts = np.flatnonzero(new)
        self._group_sorted = np.cumsum(new) - 1
        self.of = np.empty(size, np.int64)
        """The group of each row."""
        self.of[self.order] = self._group_sorted

    def __len__(self) -> int:
        return len(self.starts)

    def count(self, mask: Mask) -> Ints:
        """Rows for which ``mask`` holds."""
        return self.sum(mask.astype(np.int64))

    def any(self, mask: Mask) -> Mask:
        """Whether ``mask`` holds for a row."""
        found: Mask = self.count(mask) > 0
        return found

    def sum(self, values: NDArray[Any]) -> Ints:
        """The sum of a column."""
        if not len(self):
            return np.empty(0, np.int64)
        total: Ints = np.add.reduceat(values.astype(np.int64)[self.order], self.starts)
        return total

    def max(self, values: NDArray[Any], mask: Mask, otherwise: int) -> Ints:
        """The largest value among the rows of ``mask``; ``otherwise`` where there is none."""
        if not len(self):
            return np.empty(0, np.int64)
        largest: Ints = np.maximum.reduceat(np.where(mask, values, otherwise)[self.order], self.starts)
        return largest

    def min(self, values: NDArray[Any], mask: Mask, otherwise: int) -> Ints:
        """The smallest value among the rows of ``mask``; ``otherwise`` where there is none."""
        if not len(self):
            return np.empty(0, np.int64)
        smallest: Ints = np.minimum.reduceat(np.where(mask, values, otherwise)[self.order], self.starts)
        return smallest

    def first(self, mask: Mask) -> Ints:
        """The number of the first row of ``mask``; −1 where there is none."""
        rows = np.arange(len(self.of))
        found = self.min(rows, mask, len(rows))
        found[found == len(rows)] = -1
        return found


def look_up(keys: Ints, wanted: Ints) -> Ints:
    """Where each wanted value stands among ``keys`` (sorted, each once); −1 where it does not."""
    if not len(keys):
        return np.full(len(wanted), -1, np.int64)
    places = np.searchsorted(keys, wanted)
    places[places == len(keys)] = 0
    return np.where(keys[places] == wanted, places, -1)
