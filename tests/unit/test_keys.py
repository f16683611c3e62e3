"""Keys: what any Kafka client with Java's default partitioner computes, and what growing relies on."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.keys import BUCKETS, bucket_of, check_partitions, murmur2, partition_of

GOLDEN = Path(__file__).parents[1] / "golden" / "murmur2.tsv"
POWERS = [2**n for n in range(11)]


def java_values() -> list[tuple[str, int, int]]:
    """Key, ``Utils.murmur2`` (signed) and partition of 16, as printed by kafka-clients 4.4.0."""
    rows = GOLDEN.read_text("utf-8").split("\n")
    return [(key, int(value), int(partition)) for key, value, partition in (r.split("\t") for r in rows if r)]


@pytest.mark.parametrize(("key", "value", "partition"), java_values())
def test_murmur2_is_what_the_java_client_computes(key: str, value: int, partition: int) -> None:
    assert murmur2(key.encode()) == value & 0xFFFFFFFF
    assert partition_of(key, 16) == partition


@given(st.text(), st.sampled_from(POWERS))
def test_a_partition_is_what_java_computes_for_every_power_of_two(key: str, partitions: int) -> None:
    assert partition_of(key, partitions) == (murmur2(key.encode()) & 0x7FFFFFFF) % partitions


@given(st.text(), st.sampled_from(POWERS[:-1]))
def test_doubling_the_partitions_splits_each_and_moves_nothing_else(key: str, partitions: int) -> None:
    assert partition_of(key, 2 * partitions) % partitions == partition_of(key, partitions)


def test_buckets_are_evenly_filled() -> None:
    counts = [0] * BUCKETS
    for i in range(100 * BUCKETS):
        counts[bucket_of(f"term:{i}")] += 1
    assert min(counts) > 50
    assert max(counts) < 160


@pytest.mark.parametrize("partitions", [0, -1, 3, 6, 2048])
def test_a_number_of_partitions_that_would_scatter_trends_is_refused(partitions: int) -> None:
    with pytest.raises(ValueError, match="power of two"):
        check_partitions(partitions)
