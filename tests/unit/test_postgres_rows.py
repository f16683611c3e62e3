"""The law of the rows: the newest version of each group of columns wins, in whatever order and however often."""

from __future__ import annotations

import struct
from functools import reduce
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sinks.postgres.migrate import migrations
from sinks.postgres.rows import TABLES, RowError, Table, halfvec, step_of, without_leading_zeros
from streams.vectors import encode_vector


@st.composite
def rows_of_one_key(draw: st.DrawFn) -> tuple[Table, list[tuple[Any, ...]]]:
    """Some rows of one key. What stands beside a version follows from it, as one decision has one content."""
    table = draw(st.sampled_from(TABLES))
    rows = []
    for _ in range(draw(st.integers(1, 8))):
        row: tuple[Any, ...] = ("key",) * len(table.key)
        for group in table.groups:
            versions = {name.lstrip("-"): draw(st.integers(-3, 3)) for name in group.newest}
            row += tuple(versions.get(c, (c, *versions.values())) for c in group.columns)
        rows.append(row)
    return table, rows


@settings(deadline=None)
@given(rows_of_one_key(), st.randoms(use_true_random=False))
def test_rows_merge_to_the_same_in_any_order_and_repetition(
    made: tuple[Table, list[tuple[Any, ...]]], random: Any
) -> None:
    table, rows = made
    once = reduce(table.merge, rows)
    shuffled = [*rows, *random.choices(rows, k=3)]
    random.shuffle(shuffled)
    assert reduce(table.merge, shuffled) == once
    middle = random.randint(1, len(shuffled))
    parts = [reduce(table.merge, part) for part in (shuffled[:middle], shuffled[middle:]) if part]
    assert reduce(table.merge, parts) == once


def test_halfvec_is_what_pgvector_reads() -> None:
    values = np.array([1.5, -2.0, 0.25], dtype=np.float32)
    assert halfvec("vector", encode_vector(values), 3) == struct.pack(">HH3e", 3, 0, 1.5, -2.0, 0.25)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("!!", "base64"),
        ("é", "base64"),
        (encode_vector(np.ones(4, dtype=np.float32)), "4 dimensions"),
        (encode_vector(np.array([1, np.inf, 1], dtype=np.float32)), "finite"),
    ],
)
def test_vector_that_cannot_be_stored_says_why(text: str, words: str) -> None:
    with pytest.raises(RowError, match=words):
        halfvec("vector", text, 3)


def test_steps_grow_with_the_square_root_of_two() -> None:
    assert [step_of(size) for size in (0, 1, 2, 3, 4, 8, 16, 1024)] == [0, 0, 2, 3, 4, 6, 8, 20]


def test_counts_lose_only_leading_zeros() -> None:
    assert without_leading_zeros((0, 0, 1, 0, 2)) == (1, 0, 2)
    assert without_leading_zeros((0, 0)) == ()


def test_migrations_are_numbered_one_by_one() -> None:
    assert [migration.number for migration in migrations()][-1] == len(migrations()) >= 11
