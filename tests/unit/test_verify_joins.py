"""Joins larger than memory: what goes into a relation comes out by its key, and merges end where they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trends.verify import spill
from trends.verify.merges import by_winner, members_of_winners, resolve
from trends.verify.relations import MEMBERS, MERGES, place_of, place_parts, row_place, wrapped
from trends.verify.spill import Groups, Spill, buckets_for, look_up

PAIR = np.dtype([("key", "i8"), ("value", "i8")])


def test_rows_come_back_from_disk_in_their_bucket_and_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spill, "RUN_ROWS", 7)
    relation = Spill(PAIR, 4, tmp_path)
    rows = [(key, n) for n, key in enumerate((-5, 3, 8, -5, 2**62, -(2**63), 3, 8, 8, 1) * 20)]
    for begin in range(0, len(rows), 9):
        relation.append(rows[begin : begin + 9])
    found = [(int(key), int(value)) for bucket in relation for key, value in bucket]
    assert sorted(found) == sorted(rows)
    for number in range(4):
        bucket = relation.bucket(number)
        assert set(bucket["key"] & 3) <= {number}
        assert list(bucket["value"]) == sorted(bucket["value"])
    assert list(tmp_path.iterdir()) == [], "the file has a name: a killed process would leave it"
    relation.close()


def test_buckets_grow_with_the_rows_and_end_somewhere() -> None:
    assert buckets_for(0) == 1
    assert buckets_for(spill.BUCKET_ROWS + 1) == 2
    assert buckets_for(10**12) == spill.MAX_BUCKETS


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(-9, 9), st.booleans()), max_size=40))
def test_groups_answer_as_a_plain_loop_does(rows: list[tuple[int, int, bool]]) -> None:
    keys, values = np.array([k for k, _, _ in rows], np.int64), np.array([v for _, v, _ in rows], np.int64)
    mask = np.array([m for _, _, m in rows], np.bool_)
    groups = Groups(keys)
    names = sorted({k for k, _, _ in rows})
    chosen = {name: [v for k, v, m in rows if k == name and m] for name in names}
    assert len(groups) == len(names)
    assert groups.count(mask).tolist() == [len(chosen[n]) for n in names]
    assert groups.max(values, mask, -99).tolist() == [max(chosen[n], default=-99) for n in names]
    assert groups.min(values, mask, 99).tolist() == [min(chosen[n], default=99) for n in names]
    assert groups.sum(values).tolist() == [sum(v for k, v, _ in rows if k == n) for n in names]
    assert [names[i] for i in groups.of] == [k for k, _, _ in rows]


@given(st.dictionaries(st.integers(1, 30), st.integers(1, 40), max_size=30))
@settings(deadline=None)
def test_every_merge_leads_to_the_end_of_its_chain_or_is_known_to_go_in_a_circle(merges: dict[int, int]) -> None:
    relation = Spill(MERGES, 4)
    relation.append([(loser, winner, loser, loser) for loser, winner in merges.items()])
    resolved, circling = resolve(relation)
    rows = {int(r["topic"]): int(r["into"]) for bucket in resolved for r in bucket}
    assert set(rows) == set(merges)
    for loser in merges:
        seen, at = [loser], merges[loser]
        while at in merges and at not in seen:
            seen.append(at)
            at = merges[at]
        if at in merges:
            assert look_up(circling, np.array([loser]))[0] >= 0
        else:
            assert rows[loser] == at
            assert look_up(circling, np.array([loser]))[0] < 0
    assert sum(len(bucket) for bucket in by_winner(resolved)) == len(merges)


def test_members_move_to_the_topic_that_took_theirs_over() -> None:
    relation, members = Spill(MERGES, 2), Spill(MEMBERS, 2)
    relation.append([(1, 2, 1, 0), (2, 7, 2, 0)])
    members.append([(1, 10, 1, 100, -1), (2, 11, 1, 101, -1), (3, 12, -1, 102, -2)])
    resolved, _ = resolve(relation)
    moved = members_of_winners(members, resolved)
    assert sorted((int(r["key"]), int(r["item"])) for bucket in moved for r in bucket) == [(3, 102), (7, 100), (7, 101)]


@given(st.integers(0, 31), st.integers(0, 1023), st.integers(0, 2**48 - 1))
def test_places_of_records_and_of_rows_are_told_apart(stream: int, partition: int, offset: int) -> None:
    place = place_of(stream, partition, offset)
    assert 0 <= place < 2**63
    assert place_parts(place) == (stream, partition, offset)
    assert row_place(partition) < 0


@given(st.integers(-(2**80), 2**80))
def test_sums_of_keys_wrap_as_numpy_wraps_them(number: int) -> None:
    assert wrapped(number) == int(np.array([number % 2**64], np.uint64).astype(np.int64)[0])
